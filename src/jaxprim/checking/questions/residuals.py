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
    yield _bytes(kept, _jax.passed_through(program), read)


def _bytes(kept: Sequence[Any], own: Sequence[bool], read: Sequence[bool]) -> Evidence:
    sizes = [aval.size * aval.dtype.itemsize for aval in kept]
    operands = sum(size for size, operand in zip(sizes, own, strict=True) if operand)
    unread = sum(size for size, used in zip(sizes, read, strict=True) if not used)
    said = f"keeps {sum(sizes)} bytes, {operands} of them in operands; "
    said += f"{unread} bytes are never read" if unread else "the backward pass reads all of them"
    return Evidence("vjp", "memory that reverse mode keeps", "the residuals", message=said)
