"""Questions about cost: how often the kernel runs, and what reverse mode keeps. They measure; a right rule may be dear."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxprim import _jax
from jaxprim._record import record_rules
from jaxprim._rules import rules_of
from jaxprim.checking.case import Case
from jaxprim.checking.questions.control import conditional, scanned
from jaxprim.checking.questions.usual import Flat
from jaxprim.checking.reports.report import Evidence
from jaxprim.checking.setting import Answer, NotAsked
from jaxprim.checking.values import is_scalar

# Members of the batch under vmap: a host function that is not vectorized runs once for each.
MEMBERS = 3


# --------------------------------------------------------------------------------------------------------- kernel runs
def kernel_runs(case: Case) -> Answer:
    """How often the host function really runs: for derivatives and batches this is told, for a value it must be once."""
    primitive, precision = case.subject.primitive, case.native
    if primitive is None or not rules_of(primitive).has("host"):
        raise NotAsked("only the runs of a host function can be counted")
    called = _runs(case, precision.flat)
    if not called:
        raise NotAsked("the host function does not run here: another implementation does")
    said = "; ".join(f"{what}: {_times(_runs(case, jax.jit(function)))}" for what, function in _told(case))
    yield Evidence("impl", "runs of the host function", "the host function", message=said or "once for a value")
    counted = {
        "a call": (called, 1),
        "a call in jit": (_runs(case, jax.jit(precision.flat)), 1),
        "a branch of cond": (_runs(case, conditional(precision.flat, precision.results)), 1),
        "two steps of scan": (_runs(case, scanned(precision.flat)), 2),
    }
    for place, (runs, most) in counted.items():
        yield Evidence("impl", place, "the host function", got=_times(runs), expected=_times(most), ok=runs <= most)


def _told(case: Case) -> Iterator[tuple[str, Flat]]:
    """Each with the value: what forward mode, reverse mode and vmap cost."""
    precision = case.native
    if case.why_not("jvp") is None:
        tangents = {i: jnp.asarray(t) for i, t in precision.cast(case.directions("jvp")[0].tangents).items()}
        yield "jvp", lambda *leaves: precision.raw_jvp(leaves, tangents)
    if case.why_not("vjp") is None:
        wrt, cotangents, checkpointed = (
            case.wrt("vjp"),
            precision.cast_out(case.cotangents(0)),
            jax.checkpoint(precision.flat),
        )
        yield "vjp", lambda *leaves: precision.raw_vjp(leaves, wrt, cotangents)
        yield "vjp of a checkpoint", lambda *leaves: precision.pull(checkpointed, leaves, wrt, cotangents)
    if not any(is_scalar(leaf) for leaf in case.point.leaves):
        batch = lambda *leaves: [jnp.stack([leaf] * MEMBERS) for leaf in leaves]
        yield f"vmap over {MEMBERS}", lambda *leaves: jax.vmap(precision.flat)(*batch(*leaves))


def _times(runs: int) -> str:
    return "once" if runs == 1 else f"{runs} times"


def _runs(case: Case, function: Flat) -> int:
    """How often the host function runs; what JAX does when it compiles is not counted."""
    leaves = case.native.point.leaves
    jax.block_until_ready(function(*leaves))
    with record_rules(quiet=True) as record:
        jax.block_until_ready(function(*leaves))
    name = case.subject.name
    return sum(n for (primitive, rule, _), n in record.counts.items() if (primitive, rule) == (name, "host"))


# ----------------------------------------------------------------------------------------------------------- residuals
def residuals(case: Case) -> Answer:
    """The bytes that the forward pass of ``jax.vjp`` keeps when it is traced, and those that the backward pass reads."""
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
    said += f"{unread} bytes are never read" if unread else "the backward pass reads all"
    return Evidence("vjp", "what reverse mode keeps", "the residuals", message=said)
