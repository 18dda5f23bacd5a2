"""Does a rule treat symbolic zeros as zeros?

J is linear, so J (t, 0) is the same whether the 0 is an array of zeros or JAX's symbolic zero, for which a rule may skip the
whole term. The same numbers are added in another order, so the two agree `closely`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, combinations

import numpy as np

from jaxprim.checking.answers import Answer, NotAsked
from jaxprim.checking.case import Case
from jaxprim.checking.question import question
from jaxprim.checking.values import Array

# All subsets of up to this many leaves (14 for 4). For more leaves, the single leaves, and all leaves but one.
ALL_SUBSETS = 4


def subsets(items: Sequence[int]) -> list[tuple[int, ...]]:
    """The proper, non-empty subsets; for many items, only the smallest and the largest."""
    sizes = range(1, len(items)) if len(items) <= ALL_SUBSETS else (1, len(items) - 1)
    return list(chain.from_iterable(combinations(items, size) for size in sizes))


@question("Does the JVP rule treat symbolic zeros as zeros?", group="first order", speed="fast")
def jvp_zeros(case: Case) -> Answer:
    """Compare the JVP with symbolic zeros for some operands with the JVP with arrays of zeros."""
    wrt, precision = case.wrt("jvp"), case.native
    if len(wrt) < 2:
        raise NotAsked("only one operand is differentiable")
    tangents = case.directions("jvp")[0].tangents
    _, noise = case.jvp(precision, case.directions("jvp")[0])
    for some in subsets(wrt):
        symbolic = precision.jvp({i: tangents[i] for i in some}).tangent
        arrays = precision.jvp({i: tangents[i] if i in some else np.zeros_like(tangents[i]) for i in wrt}).tangent
        against = f"arrays of zeros, perturbing {_names(case, some)}"
        for name, got, expected, n in zip(precision.output_names, symbolic, arrays, noise, strict=True):
            tolerance = case.closely(precision, expected, n)
            yield case.evidence("jvp", against, f"tangent of {name}", got, expected, tolerance, _finite(expected))


@question("Does the VJP rule treat symbolic zeros as zeros?", group="first order", speed="fast")
def vjp_zeros(case: Case) -> Answer:
    """Compare the VJP for some operands, or some results, with the VJP for all, with arrays of zeros."""
    wrt, results = case.wrt("vjp"), range(len(case.native.outputs))
    if len(wrt) < 2 and len(results) < 2:
        raise NotAsked("only one operand and one result are differentiable")
    full, noise = case.vjp(case.native, 0)
    for some in subsets(wrt):
        found = case.native.vjp(case.cotangents(0), some).cotangent
        yield from _compare(case, f"all operands, perturbing {_names(case, some)}", found, full.cotangent, noise)
    for used in subsets(results):
        yield from _unused_results(case, used)


def _unused_results(case: Case, used: tuple[int, ...]) -> Answer:
    precision, wrt = case.native, case.wrt("vjp")
    cotangents = case.cotangents(0)
    zeroed = [ct if k in used else np.zeros_like(ct) for k, ct in enumerate(cotangents)]
    symbolic = precision.vjp(cotangents, wrt, results=used).cotangent
    arrays, noise = case.once(("zeroed", used), lambda: case.vjp_of(precision, zeroed))
    names = ", ".join(precision.output_names[k] for k in used)
    yield from _compare(case, f"arrays of zeros, using only {names}", symbolic, arrays.cotangent, noise)


def _compare(
    case: Case, against: str, found: dict[int, Array], expected: dict[int, Array], noise: dict[int, Array]
) -> Answer:
    for i, got in found.items():
        tolerance = case.closely(case.native, expected[i], noise[i])
        name = f"cotangent of {case.point.names[i]}"
        yield case.evidence("vjp", against, name, got, expected[i], tolerance, _finite(expected[i]))


def _names(case: Case, leaves: Sequence[int]) -> str:
    return ", ".join(case.point.names[i] for i in leaves)


def _finite(expected: Array) -> Array:
    """Only finite elements are compared: an array of zeros may give 0 x inf = NaN where a symbolic zero gives 0."""
    return np.isfinite(expected)
