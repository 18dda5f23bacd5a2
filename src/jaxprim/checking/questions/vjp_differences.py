"""Does the VJP rule agree with differences of the implementation?

With a cotangent c of the results and x_bar = J^T c by the rule, for every tangent t

    <x_bar, t> = <c, J t>,      <a, b> = Re sum_i a_i b_i

bilinear, without conjugation, like JAX's VJP. J t is measured by differences. A sum of many elements is compared as if
their errors were independent: the tolerances of the elements add up as squares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxprim.checking import tolerances
from jaxprim.checking.answers import Answer
from jaxprim.checking.case import Case
from jaxprim.checking.compare import root_sum_square
from jaxprim.checking.differences import Derivative
from jaxprim.checking.halving import halve
from jaxprim.checking.precision import Precision
from jaxprim.checking.probes import Direction, Tangents, typical
from jaxprim.checking.question import question
from jaxprim.checking.questions.jvp_differences import (
    fewest_operands_first,
    largest_sizes,
    note_other_operands,
    note_unusual,
    on_and_off_the_real_axis,
    require_judged,
)
from jaxprim.checking.reports.findings import Evidence
from jaxprim.checking.tolerances import Tolerance
from jaxprim.checking.values import Array, largest, wide


@question(
    "Does the VJP rule agree with finite differences of the implementation?",
    group="first order",
    speed="fast",
    departs="vjp",
)
def vjp_differences(case: Case) -> Answer:
    """Compare the VJP of a random cotangent, along random directions, with differences of the implementation."""
    yield from note_other_operands(case, "vjp")
    yield from case.precision_note("vjp")
    yield from on_and_off_the_real_axis("vjp", vjp_at, case)


def vjp_at(case: Case, along: Sequence[Direction], precisions: Sequence[Precision]) -> Answer:
    """Compare the VJP of a random cotangent, along these directions, in these precisions, with differences."""
    directions = fewest_operands_first(along)
    found = [case.differences(direction) for direction in directions]
    judged = [np.logical_and.reduce([row[k].judged for row in found]) for k in range(len(found[0]))]
    require_judged(judged)
    for direction, row in zip(directions, found, strict=True):
        yield from note_unusual(row, direction)
    cotangents = [np.where(mask, ct, 0) for mask, ct in zip(judged, case.cotangents(0), strict=True)]
    partial = not all(map(np.all, judged))
    for precision in precisions:
        pulled, noise = case.vjp_of(precision, cotangents) if partial else case.vjp(precision, 0)
        pullback = _Pullback(case, precision, cotangents, pulled.cotangent, noise)
        yield from _compare(pullback, directions, found, partial=partial or _leaves_the_range(pullback))


def _leaves_the_range(pullback: _Pullback) -> bool:
    """Whether all infinite cotangents are near the end of the dtype's range, by their values in double precision."""
    case, infinite = pullback.case, {i: ~np.isfinite(numbers) for i, numbers in pullback.cotangent.items()}
    if not any(map(np.any, infinite.values())) or case.precisions("vjp")[-1] is pullback.precision:
        return False
    truth = case.vjp(case.truth, 0)[0].cotangent
    return all(
        np.all(np.abs(truth[i][where]) > tolerances.IN_RANGE * largest(case.point.leaves[i]))
        for i, where in infinite.items()
    )


@dataclass(frozen=True)
class _Sides:
    """<x_bar, t>, <c, J t>, and their allowed difference."""

    got: float
    expected: float
    allowed: float

    @property
    def gap(self) -> float:
        return abs(self.got - self.expected) / (self.allowed or 1.0)


@dataclass(frozen=True)
class _Pullback:
    """The output of the VJP rule.

    Attributes:
        case: the case.
        precision: the precision of the evaluation.
        cotangents: c, one array per differentiable result, in its shape.
        cotangent: x_bar, one array per operand leaf, in its shape.
        noise: the rounding errors of x_bar.
    """

    case: Case
    precision: Precision
    cotangents: list[Array]
    cotangent: dict[int, Array]
    noise: dict[int, Array]

    @property
    def why(self) -> str:
        """The reason for a tolerance."""
        nothing = np.zeros(())
        both = tolerances.differences(nothing, nothing, self.case.truth.eps)
        return (both + self.case.rounding(self.precision, nothing)).why

    def sides(self, tangents: Tangents, found: Sequence[Derivative], size: Sequence[Array]) -> _Sides:
        """The two sides along tangents; ``found`` has the differences along them, ``size`` the size of the derivatives."""
        got = sum(float(np.sum(np.real(_times(self.cotangent[i], t)))) for i, t in tangents.items())
        expected = sum(float(np.sum(np.real(ct * d.value))) for ct, d in zip(self.cotangents, found, strict=True))
        mine = [_times(self._rounding(i), t) for i, t in tangents.items()]
        theirs = [
            np.abs(ct) * tolerances.differences(s, d.error, self.case.truth.eps).size
            for ct, d, s in zip(self.cotangents, found, size, strict=True)
        ]
        kinks = sum(float(np.sum(np.abs(ct) * d.slack)) for ct, d in zip(self.cotangents, found, strict=True))
        return _Sides(got, expected, root_sum_square(*mine, *theirs) + kinks)

    def along(self, tangents: Tangents) -> _Sides:
        """The two sides along tangents, with new differences."""
        found = self.case.differentiate(tangents)
        return self.sides(tangents, found, [d.value for d in found])

    def _rounding(self, leaf: int) -> Array:
        """The allowed error of each element of x_bar. For an operation of degree one, |x_bar| = |c| |y| / |x|."""
        largest = max([float(np.max(np.abs(ct), initial=0.0)) for ct in self.cotangents])
        scale = self.case.value_scale(self.precision) * largest / typical(wide(self.case.point.leaves[leaf]))
        size = np.abs(self.cotangent[leaf]) + scale
        return self.case.rounding(self.precision, size, self.noise[leaf], self.cotangent[leaf]).size


def _compare(
    pullback: _Pullback, directions: Sequence[Direction], found: Sequence[Sequence[Derivative]], *, partial: bool
) -> Answer:
    """The sums along each direction, preceded by the element that causes the first bad sum."""
    sums: list[Evidence] = []
    off: list[Direction] = []
    size = largest_sizes(found)
    for direction, row in zip(directions, found, strict=True):
        kept, differences = _only_finite(pullback, direction, row) if partial else (direction, row)
        sides = pullback.sides(kept.tangents, differences, size)
        sums.append(_evidence(pullback, kept, sides))
        if not sums[-1].ok and np.isfinite(sides.got):
            off.append(kept)
    if off:
        yield from _worst_element(pullback, off[0])
    yield from sums


def _evidence(pullback: _Pullback, direction: Direction, sides: _Sides) -> Evidence:
    against = f"differences along {direction.label} ({pullback.precision.label})"
    names = ", ".join(pullback.case.point.names[i] for i in direction.tangents)
    tolerance = Tolerance(np.asarray(sides.allowed), f"{pullback.why}; elements count as independent errors")
    got, expected = np.asarray(sides.got), np.asarray(sides.expected)
    return pullback.case.evidence("vjp", against, f"<x_bar, t> over {names}", got, expected, tolerance)


def _only_finite(
    pullback: _Pullback, direction: Direction, found: Sequence[Derivative]
) -> tuple[Direction, Sequence[Derivative]]:
    """The direction without elements where the cotangent is 0 x inf, because a derivative is infinite."""
    finite = {i: np.isfinite(pullback.cotangent[i]) for i in direction.tangents}
    if all(map(np.all, finite.values())):
        return direction, found
    kept = Direction(direction.label, {i: np.where(finite[i], t, 0) for i, t in direction.tangents.items()})
    return kept, pullback.case.differentiate(kept.tangents)


# ---------------------------------------------------------------------------------------------------- worst element
def _worst_element(pullback: _Pullback, direction: Direction) -> Answer:
    """The element that causes a disagreement, for the report."""
    case = pullback.case
    leaf, index = halve(direction.tangents, lambda tangents: pullback.along(tangents).gap)
    value = pullback.cotangent[leaf]
    expected, allowed = _true_element(pullback, leaf, index, direction.tangents[leaf][index])
    here = _only_at(value.shape, index)
    against = f"differences, at the element with the largest error ({pullback.precision.label})"
    tolerance = Tolerance(np.full(value.shape, allowed), pullback.why)
    got, truth = np.where(here, value, 0), np.where(here, expected, 0)
    single = case.evidence("vjp", against, f"cotangent of {case.point.names[leaf]}", got, truth, tolerance, here)
    if not single.ok:
        yield single


def _true_element(pullback: _Pullback, leaf: int, index: tuple[int, ...], size: complex) -> tuple[complex, float]:
    """One element of a cotangent by differences, along e (1 there, 0 elsewhere) times ``size``, and its tolerance.

    <c, J e> is its real part. For a complex operand, <c, J (i e)> = Re(i x_bar) = -Im(x_bar).
    """
    shape = pullback.cotangent[leaf].shape
    total: complex = 0.0
    allowed = 0.0
    for unit in (1.0, 1j) if np.iscomplexobj(pullback.cotangent[leaf]) else (1.0,):
        tangents = {leaf: np.where(_only_at(shape, index), unit * abs(size), 0.0)}
        sides = pullback.along(tangents)
        total += sides.expected / abs(size) * (1.0 if unit == 1.0 else -1j)
        allowed += sides.allowed / abs(size)
    return total, allowed


def _times(numbers: Array, tangent: Array) -> Array:
    """The product; 0 where the tangent is 0, even for an infinite number."""
    return np.where(tangent == 0, 0, numbers) * tangent


def _only_at(shape: tuple[int, ...], index: tuple[int, ...]) -> Array:
    mask = np.zeros(shape, bool)
    mask[index] = True
    return mask
