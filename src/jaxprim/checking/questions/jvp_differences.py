"""Does the JVP rule agree with differences of the implementation?

J t by the rule is compared with the derivative of f(x + h t) at h = 0, element by element. Each element may be off by

    8 x the error estimate of its difference + a floor x its size + 32 roundings of it and of the terms that cancel in it

Its size is the largest along any direction, because along one direction it may cancel. The terms have the size of J t for
an operation of degree one: |y| |t| / |x|.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from jaxprim.checking import tolerances
from jaxprim.checking.answers import Answer, NotAsked, Note
from jaxprim.checking.case import Case
from jaxprim.checking.differences import Derivative
from jaxprim.checking.domain import off_the_real_axis
from jaxprim.checking.precision import Precision
from jaxprim.checking.probes import Direction
from jaxprim.checking.question import question
from jaxprim.checking.values import Array, largest

CANNOT_TELL = "the differences of the implementation do not converge at this point"


def fewest_operands_first(directions: Sequence[Direction]) -> list[Direction]:
    """The order in which disagreements are reported. A direction in only one operand says most."""
    return sorted(directions, key=lambda direction: len(direction.tangents))


@question(
    "Does the JVP rule agree with finite differences of the implementation?",
    group="first order",
    speed="fast",
    departs="jvp",
)
def jvp_differences(case: Case) -> Answer:
    """Compare the JVP along random directions, element by element, with differences of the implementation."""
    yield from note_other_operands(case, "jvp")
    yield from case.precision_note("jvp")
    yield from on_and_off_the_real_axis("jvp", jvp_at, case)


def on_and_off_the_real_axis(
    mode: str, ask: Callable[..., Answer], case: Case, *, only_precisely: bool = False
) -> Answer:
    """`jvp_at` or `vjp_at` along all directions of a mode, here and off the real axis.

    It asks in all precisions of the mode, or ``only_precisely`` in the highest one.
    """
    for place in off_the_real_axis(case):
        precisions = place.precisions(mode)
        yield from ask(place, place.directions(mode), precisions[-1:] if only_precisely else precisions)


def jvp_at(case: Case, along: Sequence[Direction], precisions: Sequence[Precision], *, jointly: bool = False) -> Answer:
    """Compare the JVP along these directions, in these precisions, with differences.

    ``jointly`` leaves out an element that is singular along any of them, such as x^a at x = 0: there y log(x), the
    derivative along a, is 0 x inf.
    """
    directions = fewest_operands_first(along)
    found = [case.differences(direction) for direction in directions]
    if jointly:
        smooth = [np.logical_and.reduce([row[k].judged for row in found]) for k in range(len(found[0]))]
        found = [[replace(d, judged=s) for d, s in zip(row, smooth, strict=True)] for row in found]
    require_judged([d.judged for row in found for d in row])
    for direction, row in zip(directions, found, strict=True):
        yield from note_unusual(row, direction)
        for precision in precisions:
            yield from _jvp_against(case, precision, direction, row, largest_sizes(found))


def note_other_operands(case: Case, mode: str) -> Answer:
    """A note that names the operands that a rule does not differentiate."""
    left = [case.point.names[i] for i in case.point.differentiable if i not in case.wrt(mode)]
    if left:
        yield Note(f"the {mode} rule does not differentiate {', '.join(left)}")


def largest_sizes(found: Sequence[Sequence[Derivative]]) -> list[Array]:
    """The size of each element of a derivative: the largest along any direction, because along one it may cancel."""
    return [np.max([np.abs(row[k].value) for row in found], axis=0) for k in range(len(found[0]))]


def require_judged(judged: Sequence[Array]) -> None:
    """Raise NotAsked if no element is judged."""
    if not any(map(np.any, judged)) and any(mask.size for mask in judged):
        raise NotAsked(CANNOT_TELL)


def _jvp_against(
    case: Case, precision: Precision, direction: Direction, found: Sequence[Derivative], size: Sequence[Array]
) -> Answer:
    pushed, noise = case.jvp(precision, direction)
    scale = case.tangent_scale(precision, direction.tangents)
    for k, (name, d) in enumerate(zip(precision.output_names, found, strict=True)):
        got = pushed.tangent[k]
        result = precision.results[precision.outputs[k]]
        expected = case.round_to(_between(got, d), result)
        own = case.rounding(precision, np.abs(expected) + scale, noise[k], expected)
        tolerance = tolerances.differences(size[k], d.error, case.truth.eps) + own
        against = f"differences along {direction.label} ({precision.label})"
        steepness = np.abs(expected) / min((_smallest(t) for t in direction.tangents.values()), default=1.0)
        beyond = ~np.isfinite(got) & (steepness > tolerances.IN_RANGE * largest(result))
        yield case.evidence("jvp", against, f"tangent of {name}", got, expected, tolerance, d.judged & ~beyond)


def _smallest(tangent: Array) -> float:
    """The size of the smallest element that is not zero."""
    sizes = np.abs(tangent)
    return float(np.min(sizes, initial=np.inf, where=sizes > 0))


def _between(got: Array, d: Derivative) -> Array:
    """The derivative; at a kink the number between the one-sided slopes that is nearest to ``got``."""
    if not np.any(d.slack) or np.shape(got) != d.value.shape:
        return d.value
    return np.where(np.isnan(got), d.value, np.clip(got, d.value - d.slack, d.value + d.slack))


def note_unusual(found: Sequence[Derivative], direction: Direction) -> Answer:
    """Notes with the number of elements that lie on a kink, and of those that are not compared."""
    kinks, lost = sum(d.kinks for d in found), sum(int(np.sum(~d.judged)) for d in found)
    if kinks:
        yield Note(
            f"along {direction.label}: {kinks} elements lie on a kink; any slope between the one-sided slopes is accepted"
        )
    if lost:
        yield Note(
            f"along {direction.label}: {lost} elements are not compared, because their differences do not converge"
        )
