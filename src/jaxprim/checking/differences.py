"""Derivatives by differences of the implementation, each with an estimate of its error.

Along a direction t, with g(h) = f(x + h t) for real h (f may take and return complex numbers: JAX's JVP is the
derivative along t, holomorphic or not),

    D(h) = (g(h) - g(-h)) / 2h = g'(0) + c2 h^2 + c4 h^4 + ...

Richardson's extrapolation over steps h_0 > h_1 > ... removes one power of h^2 per column (Ridders, 1982):

    T[k][0] = D(h_k),   T[k][j] = T[k][j-1] + (T[k][j-1] - T[k-1][j-1]) / ((h_(k-j) / h_k)^2 - 1)

An entry's error is the larger of its distances to the two entries that it came from, plus the noise of f divided by
the step. It is at least its distance to the difference over the smallest step, minus the noise of that difference: steps
that are all too large for f's structure can agree with one another on a wrong slope. Each element takes the entry with
the smallest error. The noise of f is measured (see `noise`), not assumed: a kernel that computes in float32 inside has
float32's noise whatever dtype it returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from jaxprim.checking.noise import Along, noises
from jaxprim.checking.tolerances import is_double
from jaxprim.checking.values import Array, peak

# ---------------------------------------------------------------------------------------------------------------- steps
# Each step is a quarter of the one before. The first column is then (16 D(h) - D(4h)) / 15, which multiplies noise by no
# more than 17/15; all columns together by no more than 1.14.
RATIO = 4.0
# Columns of the table. They remove powers up to h^6; more columns only amplify noise.
COLUMNS = 4
# Steps are relative to the operands, as tangents are: |t| is up to 1.5 |x|. The first is an eighth, so that x + h t keeps
# the sign of x.
FIRST_STEP = 2.0**-3
# The last step in double precision. Rounding is then 2^-52 / 2^-15 = 7e-12 of the value.
LAST_STEP = 2.0**-15
# In other precisions the last step is 8 eps^(2/3). Rounding is then eps^(1/3) / 8 of the value, 6e-4 in float32; over
# smaller steps it would be more than anything that extrapolation can gain.
LAST_STEP_FACTOR = 8.0
# No step is more than half of an operand, even where eps is large (bfloat16).
LARGEST_STEP = 0.5
# In double precision there is one more, much smaller step. Its rounding error is 2^-28, which is accurate enough to show
# whether all other steps missed some structure of f.
CHECKING_STEP = 2.0**-24
# How much smaller the steps of a second attempt are, where the first did not converge: f has structure below the steps,
# as near a singular matrix. From 2^-3 and 2^-15 they go to 2^-17 and 2^-29.
SECOND_ATTEMPT = 2.0**-14

# --------------------------------------------------------------------------------------------------------------- errors
# D(h) of errors of deviation s has the deviation s sqrt(2) / 2h = 0.71 s / h; the columns make of that at most 0.76 s / h.
# Twice that is the part of noise in an entry's error.
NOISE_OF_ENTRY = 1.5
# The difference over the smallest step contradicts an entry only if it is off by more than 4 s / h: over five deviations.
NOISE_OF_CHECK = 4.0
# Steps have settled on a slope if an entry's error is below this part of it.
SETTLED = 1e-4
# Steps that are all wider than the structure of a function agree on a slope that has nothing to do with it, as near a
# singular matrix. Between the closest points it is then steeper by many powers of ten.
FAR_STEEPER = 100.0
# Where the error is more than 2 % of the derivative, or of the results if these are larger, differences say nothing.
USABLE = 0.02

# ---------------------------------------------------------------------------------------------------------------- kinks
# The one-sided slopes of a smooth function differ by h |f''|, so the gap shrinks with the step (by 16 between the two that
# are compared, where there are so many). At a kink it stays: it neither halves nor doubles.
KINK_RATIO = 0.5
# The gap between the one-sided slopes, (g(h) - 2 g(0) + g(-h)) / h, has the deviation sqrt(6) s / h = 2.4 s / h.
NOISE_OF_SLOPE = 4.0
# The gap must be 4 times that again: 16 s / h, more than six deviations.
CLEAR_OF_NOISE = 4.0
# And a thousandth of the larger slope: less is curvature that happens not to shrink.
SMALLEST_GAP = 1e-3


@dataclass(frozen=True)
class Derivative:
    """The derivative of one result leaf along one direction. All arrays have the shape of the leaf.

    Attributes:
        value: the estimate for each element.
        error: the estimated error of ``value``.
        slack: half the gap between the one-sided slopes where the function has a kink at the point, else 0; and what
            the declared accuracy of the function makes of the steps. Each number within it is a right answer.
        judged: where ``value`` can be used: the function is finite, and the differences converged.
        settled: where the wide steps agree on a slope. If the small steps agree on a different one, the element is not
            judged. (An iterative solver does this: for a small step it accepts its first guess.)
        kinks: at how many elements the point lies on a kink.
    """

    value: Array
    error: Array
    slack: Array
    judged: Array
    settled: Array
    kinks: int


@dataclass(frozen=True)
class _Row:
    """The values of one leaf at both ends of a step."""

    step: float
    plus: Array
    minus: Array

    @property
    def slope(self) -> Array:
        return (self.plus - self.minus) / (2 * self.step)

    def sides(self, centre: Array) -> tuple[Array, Array]:
        """The one-sided slopes, right and left."""
        return (self.plus - centre) / self.step, (centre - self.minus) / self.step


def steps(eps: float) -> list[float]:
    """Steps relative to the operands: from an eighth down to where rounding would hide the change."""
    last = LAST_STEP if is_double(eps) else LAST_STEP_FACTOR * eps ** (2 / 3)
    first = min(LARGEST_STEP, max(FIRST_STEP, RATIO * last))
    count = max(3, 1 + int(np.log(first / last) / np.log(RATIO)))
    return [*[first / RATIO**k for k in range(count)], *([CHECKING_STEP] if is_double(eps) else [])]


def derivative(along: Along, eps: float, accuracy: float = 0.0) -> list[Derivative]:
    """The derivative at h = 0 of each result leaf of ``along``, whose operands have the rounding ``eps``.

    A function of declared accuracy a is off by a times its largest element, smoothly or not, so that its slope over a
    step h is off by up to a / h. Wide steps are then better, and the smallest step is no evidence.
    """
    measured = noises(along, eps)
    if accuracy:
        wide = [LARGEST_STEP / RATIO**k for k in range(COLUMNS)]
        return _over(
            along, wide, [n.size for n in measured], [np.full(n.size.shape, np.inf) for n in measured], accuracy
        )
    # Where a function does not resolve close points, its difference over the smallest step is not evidence.
    doubts = [np.where(noise.coarse, np.inf, noise.size) for noise in measured]
    sizes = [noise.size for noise in measured]
    found = _over(along, steps(eps), sizes, doubts)
    found = [_unless_steeper(d, noise.slope) for d, noise in zip(found, measured, strict=True)]
    if is_double(eps) and not all(np.all(d.judged | d.settled) for d in found):
        closer = _over(along, [SECOND_ATTEMPT * step for step in steps(eps)[:-1]], sizes, doubts)
        closer = [_unless_steeper(d, noise.slope) for d, noise in zip(closer, measured, strict=True)]
        found = [_first_judged(d, c) for d, c in zip(found, closer, strict=True)]
    return found


def _unless_steeper(found: Derivative, slope: Array) -> Derivative:
    """The derivative without elements that are far steeper between the closest points: all steps were too wide."""
    with np.errstate(all="ignore"):
        steeper = slope > FAR_STEEPER * (np.abs(found.value) + found.slack + found.error)
        fits = ~(steeper & (np.abs(found.value) > 0))
    return replace(found, judged=found.judged & fits, settled=found.settled & fits)


def _over(
    along: Along, ladder: Sequence[float], noise: Sequence[Array], doubt: Sequence[Array], accuracy: float = 0.0
) -> list[Derivative]:
    ends = [(step, along(step), along(-step)) for step in ladder]
    return [
        _leaf_derivative(
            [_Row(step, plus[i], minus[i]) for step, plus, minus in ends],
            centre,
            noise[i],
            doubt[i],
            accuracy * peak(centre),
        )
        for i, centre in enumerate(along(0.0))
    ]


def _first_judged(one: Derivative, two: Derivative) -> Derivative:
    """The first where it is judged or settled, else the second."""
    pick = one.judged | one.settled
    return Derivative(
        np.where(pick, one.value, two.value),
        np.where(pick, one.error, two.error),
        np.where(pick, one.slack, two.slack),
        np.where(pick, one.judged, two.judged),
        pick,
        one.kinks if np.all(pick) else two.kinks,
    )


def _leaf_derivative(ladder: list[_Row], centre: Array, noise: Array, doubt: Array, inaccuracy: float) -> Derivative:
    with np.errstate(all="ignore"):
        value, error, settled, blur = _extrapolate(ladder, noise, doubt, inaccuracy)
        value, error, slack = _kinks(ladder, centre, noise + inaccuracy, value, error)
        kinks, slack = int(np.count_nonzero(slack)), slack + blur
        # Value and slope may both be zero at the point, as for x^2 at 0. Then the nearby values give the scale.
        scale = peak(centre) or max(peak(side) for row in ladder for side in (row.plus, row.minus))
        judged = np.isfinite(centre) & np.isfinite(value) & (error <= USABLE * np.maximum(np.abs(value), scale))
    value, error, slack = (np.where(judged, found, 0) for found in (value, error, slack))
    return Derivative(value, error, slack, judged, settled, kinks)


def _extrapolate(
    ladder: list[_Row], noise: Array, doubt: Array, inaccuracy: float
) -> tuple[Array, Array, Array, Array]:
    """Ridders' table, row by row: the best entry of each element, its error, whether steps settled on a slope, and the
    part of a declared inaccuracy, which is known and not estimated.

    Only the last row is kept. An entry must not contradict the slope over the smallest step; `settled` ignores this.
    """
    check, doubt = ladder[-1].slope, NOISE_OF_CHECK * doubt / ladder[-1].step
    best, best_error = np.full(noise.shape, np.nan, ladder[0].plus.dtype), np.full(noise.shape, np.inf)
    settled, blur = np.zeros(noise.shape, bool), np.zeros(noise.shape)
    previous: list[Array] = []
    for k, row in enumerate(ladder):
        entries = [row.slope]
        for j, before in enumerate(previous[: COLUMNS - 1], start=1):
            last = entries[-1]
            entry = last + (last - before) / ((ladder[k - j].step / row.step) ** 2 - 1)
            error = np.maximum(np.abs(entry - last), np.abs(entry - before)) + NOISE_OF_ENTRY * noise / row.step
            settled |= error < SETTLED * np.abs(entry)
            error = np.maximum(error, np.abs(entry - check) - doubt)
            better = error + inaccuracy / row.step < best_error + blur
            best, best_error = np.where(better, entry, best), np.where(better, error, best_error)
            blur = np.where(better, inaccuracy / row.step, blur)
            entries.append(entry)
        previous = entries
    return best, best_error, settled, blur


def _kinks(ladder: list[_Row], centre: Array, noise: Array, value: Array, error: Array) -> tuple[Array, Array, Array]:
    """Where the one-sided slopes differ: the middle between them, its error, and half their gap."""
    if np.iscomplexobj(centre):
        return value, error, np.zeros(centre.shape)
    # The last step but one, and one that is 16 times as wide: over wider ones both sides are curved, and differently.
    wide, close = ladder[max(min(1, len(ladder) - 3), len(ladder) - 4)], ladder[-2]
    (wide_right, wide_left), (right, left) = wide.sides(centre), close.sides(centre)
    wide_gap, gap = np.abs(wide_right - wide_left), np.abs(right - left)
    rounding = NOISE_OF_SLOPE * noise / close.step
    # A one-sided slope is off by c h, so two of them at h' >> h differ by c h': change = c h'. Twice c h, to be safe.
    change = np.abs(wide_right - right) + np.abs(wide_left - left)
    curvature = change * 2 * close.step / wide.step
    stays = (gap > KINK_RATIO * wide_gap) & (gap < wide_gap / KINK_RATIO) & (change < gap)
    clear = (gap > CLEAR_OF_NOISE * rounding) & (gap > SMALLEST_GAP * np.maximum(np.abs(right), np.abs(left)))
    kink = stays & clear
    return (
        np.where(kink, (right + left) / 2, value),
        np.where(kink, rounding + curvature, error),
        np.where(kink, gap / 2, 0.0),
    )
