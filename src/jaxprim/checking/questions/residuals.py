"""How many bytes does reverse mode keep? This is measured: a correct rule may keep many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxprim import _jax
from jaxprim.checking.answers import Answer
from jaxprim.checking.case import Case
from jaxprim.checking.question import question
from jaxprim.checking.reports.findings import Evidence


@question("How many bytes does reverse mode keep, and are all of them read?", group="control flow")
def residuals(case: Case) -> Answer:
    """Count the bytes that the traced forward pass of ``jax.vjp`` keeps, and those that the backward pass reads."""
    wrt, precision = case.wrt("vjp"), case.native
    cotangents = precision.seeds(precision.results, precision.cast_out(case.cotangents(0)))
    primals = [jnp.asarray(precision.point.leaves[i]) for i in wrt]
    trees: list[Any] = []

    def forward(*some: Any) -> list[Any]:
        leaves, tree = jax.tree_util.tree_flatten(jax.vjp(precision.of(precision.point.leaves, wrt), *some)[1])
        trees.append(tree)
        return leaves

    program = _jax.trace(forward, [_jax.typeof(x) for x in primals], "forward")
    kept = _jax.out_avals(program)

    def backward(*leaves: Any) -> list[Any]:
        return jax.tree_util.tree_leaves(trees[-1].unflatten(leaves)(cotangents))

    pulled = _jax.trace(backward, kept, "backward")
    _, read = _jax.dce(pulled, [True] * len(_jax.out_avals(pulled)))
    yield _bytes(kept, _jax.passed_through(program), read, _hidden(case, program))


def _hidden(case: Case, program: Any) -> list[str]:
    """The names of residuals that a policy of ``jax.checkpoint`` is never asked about."""
    names = _jax.residual_names(program)
    if not names:
        return []
    wrt, precision, asked = case.wrt("vjp"), case.native, set[Any]()

    def policy(primitive: Any, *_: Any, **params: Any) -> bool:
        if primitive.name == _jax.words.NAME:
            asked.add(params["name"])
        return False

    function = jax.checkpoint(precision.of(precision.point.leaves, wrt), policy=policy)
    primals = [_jax.typeof(jnp.asarray(precision.point.leaves[i])) for i in wrt]
    _jax.trace(lambda *some: jax.tree_util.tree_leaves(jax.vjp(function, *some)[1]), primals, "checkpointed")
    return [name for name in names if name not in asked]


def _bytes(kept: Sequence[Any], own: Sequence[bool], read: Sequence[bool], hidden: Sequence[str]) -> Evidence:
    sizes = [aval.size * aval.dtype.itemsize for aval in kept]
    operands = sum(size for size, operand in zip(sizes, own, strict=True) if operand)
    unread = sum(size for size, used in zip(sizes, read, strict=True) if not used)
    said = f"keeps {sum(sizes)} bytes, {operands} of them in operands; "
    said += f"{unread} bytes are never read" if unread else "the backward pass reads all of them"
    if hidden:
        said += f"; policies of jax.checkpoint cannot see the names {', '.join(hidden)}"
    return Evidence("vjp", "memory that reverse mode keeps", "the residuals", message=said)
