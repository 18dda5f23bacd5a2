"""How often does the host function run? This is measured: a correct rule may be expensive."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp

from jaxprim._record import record_rules
from jaxprim.checking import contexts
from jaxprim.checking.answers import Answer, NotAsked
from jaxprim.checking.case import Case
from jaxprim.checking.contexts import Flat
from jaxprim.checking.question import question
from jaxprim.checking.reports.findings import Evidence
from jaxprim.checking.values import is_scalar

# Members of the batch under vmap: a host function that is not vectorized runs once for each.
MEMBERS = 3


@question("How often does the host function run, and does each call run it only once?", group="control flow")
def kernel_runs(case: Case) -> Answer:
    """Count the runs of the host function. A value must take one run; counts for derivatives and batches are reported."""
    precision = case.native
    if not case.subject.is_given("host"):
        raise NotAsked("only the runs of a host function can be counted")
    called = _runs(case, precision.flat)
    if not called:
        raise NotAsked("the host function does not run here: another implementation does")
    said = "; ".join(
        f"{what}: {_times(_runs(case, jax.jit(function)))}" for what, function in _derivatives_and_batch(case)
    )
    yield Evidence("impl", "runs of the host function", "the host function", message=said or "once for a value")
    counted = {
        "a call": (called, 1),
        "a call in jit": (_runs(case, jax.jit(precision.flat)), 1),
        "a branch of cond": (_runs(case, contexts.cond(precision.flat, contexts.zeros(precision.results))), 1),
        "two steps of scan": (_runs(case, contexts.scan(precision.flat)), 2),
    }
    for place, (runs, most) in counted.items():
        yield Evidence("impl", place, "the host function", got=_times(runs), expected=_times(most), ok=runs <= most)


def _derivatives_and_batch(case: Case) -> Iterator[tuple[str, Flat]]:
    """Functions that compute the value in forward mode, in reverse mode and under vmap."""
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
    """How often the host function runs, without runs during compilation."""
    leaves = case.native.point.leaves
    jax.block_until_ready(function(*leaves))
    with record_rules(quiet=True) as record:
        jax.block_until_ready(function(*leaves))
    name = case.subject.name
    return sum(n for (primitive, rule, _), n in record.counts.items() if (primitive, rule) == (name, "host"))
