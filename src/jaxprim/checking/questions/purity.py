"""Does an operation depend only on its operands, and leave them unchanged?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxprim.checking import probes, tolerances
from jaxprim.checking.answers import Answer, NotAsked, Note
from jaxprim.checking.case import Case
from jaxprim.checking.question import question
from jaxprim.checking.reports import hints
from jaxprim.checking.tolerances import Tolerance
from jaxprim.checking.values import Array, has_tangents, is_scalar, wide

# The relative distance of the other point from the example: six spacings of bfloat16, so that it differs in any dtype.
APART = 0.05


@question("Do the same operands always give the same results?", group="values")
def deterministic(case: Case) -> Answer:
    """Compare repeated calls on the same operands, eager and compiled, with the first; also over other memory."""
    precision = case.native
    first, compiled = case.value(precision)[0], precision.compiled
    compiled_first = [wide(leaf) for leaf in compiled(*precision.point.leaves)]
    runs = {
        "once more": (first, precision.value()),
        "compiled once, run twice": (compiled_first, [wide(leaf) for leaf in compiled(*precision.point.leaves)]),
    }
    for again in case.subject.over_other_memory(precision.flat, precision.point.leaves):
        yield from _same(case, hints.OTHER_MEMORY, [wide(leaf) for leaf in again], first)
    for against, (expected, again) in runs.items():
        yield from _same(case, against, again, expected)


@question("Does a call leave its operands unchanged, and keep no state for the next call?", group="values")
def pure(case: Case) -> Answer:
    """Compare operands before and after a call, values after other calls, and two calls in one compiled function."""
    if not any(hasattr(leaf, "dtype") for leaf in case.point.leaves):
        raise NotAsked("no operand is an array")
    yield from _operands_kept(case)
    precision, here, there = case.native, list(case.native.point.leaves), _operands_nearby(case)
    first, other = case.value(precision)[0], precision.called(there)
    yield from _same(case, "after a call with other operands", precision.called(here), first)
    yield from _same(case, "after a call with the same operands", precision.called(here), first)
    yield from _same(case, "other operands, again", precision.called(there), other)
    both = jax.jit(lambda one, two: (precision.flat(*one), precision.flat(*two)))
    noise = case.value(precision)[1]
    for order, found in (("first", both(here, there)[0]), ("second", both(there, here)[1])):
        for name, got, value, n in zip(precision.names, map(wide, found), first, noise, strict=True):
            against = f"called twice in one jit, the {order} call"
            yield case.evidence("impl", against, name, got, value, case.roughly(precision, value, n))
    if case.why_not("vjp") is None:
        yield from _pull_back_late(case, there)


def _pull_back_late(case: Case, other: Sequence[Any]) -> Answer:
    """Run two forward passes before the first backward pass: it must use the residuals of the first."""
    precision, wrt = case.native, case.wrt("vjp")
    pulled, noise = case.vjp(precision, 0)
    primal, pull = jax.vjp(precision.of(precision.point.leaves, wrt), *[precision.point.leaves[i] for i in wrt])
    jax.vjp(precision.of(other, wrt), *[other[i] for i in wrt])
    found = pull(precision.seeds(primal, precision.cast_out(case.cotangents(0))))
    for i, got in zip(wrt, map(wide, found), strict=True):
        expected, name = pulled.cotangent[i], f"cotangent of {case.point.names[i]}"
        against = "pulled back after another forward pass"
        yield case.evidence("vjp", against, name, got, expected, case.roughly(precision, expected, noise[i]))


def _without_zeros(leaf: Any) -> Any:
    """The leaf with zeros replaced by small numbers (2^-10): an earlier run may have written zeros into the example."""
    if is_scalar(leaf) or not has_tangents(leaf):
        return leaf
    value = wide(leaf)
    return probes.fresh(probes.move(leaf, np.where(value == 0, 2.0**-10 * probes.typical(value), 0.0)))


def _operands_nearby(case: Case) -> list[Any]:
    """Operands near the example, each in its own memory."""
    rng = case.rng("apart")
    return [probes.fresh(probes.nearby(rng, leaf, APART)) for leaf in case.native.point.leaves]


def _operands_kept(case: Case) -> Answer:
    """Check that the implementation and both rules do not change their operands."""
    precision = case.native
    runs = {
        "impl": lambda leaves: precision.flat(*leaves),
        "jvp": lambda leaves: precision.raw_jvp(leaves, precision.cast(case.directions("jvp")[0].tangents)),
        "vjp": lambda leaves: precision.raw_vjp(leaves, case.wrt("vjp"), precision.cast_out(case.cotangents(0))),
    }
    for rule in ("impl", *(yield from case.rules())):
        leaves = [_without_zeros(leaf) for leaf in _operands_nearby(case)]
        before = [np.array(wide(leaf)) for leaf in leaves]
        jax.block_until_ready(runs[rule](leaves))
        for name, leaf, kept in zip(case.point.names, leaves, before, strict=True):
            if not is_scalar(leaf):
                against = "an operand after the call, against before it"
                yield case.evidence(rule, against, name, wide(leaf), kept, tolerances.exact(kept.shape))


def _same(case: Case, against: str, found: Sequence[Array], expected: Sequence[Array]) -> Answer:
    """Equal bits, or equal up to the rounding of a sum, if threads add in any order."""
    for name, got, value in zip(case.native.names, found, expected, strict=True):
        evidence = case.evidence("impl", against, name, got, value, _rounding_of_a_sum(case, value))
        if evidence.ok and evidence.error:
            yield Note(f"{against}: {name} differs in the last bits (by {evidence.error:.1e})")
        yield evidence


def _rounding_of_a_sum(case: Case, value: Array) -> Tolerance:
    """The rounding of a sum of n terms of random sign and of the size of the largest: sqrt(n) eps.

    The measured noise is not used: it is large for an operation that is not deterministic.
    """
    terms = max((np.size(leaf) for leaf in case.point.leaves), default=1)
    precision, finite = case.native, np.abs(value[np.isfinite(value)])
    size = (np.abs(value) + np.max(finite, initial=0.0)) * np.sqrt(max(terms, 1))
    return tolerances.rounding(size, precision.eps, precision.tiny)
