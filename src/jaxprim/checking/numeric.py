"""Derivatives from differences of the implementation alone, each with an estimate of its own error.

Along a direction t, with g(h) = f(x + h t) for real h (f may take and return complex numbers: JAX's JVP is the
derivative along t, holomorphic or not),

    D(h) = (g(h) - g(-h)) / 2h = g'(0) + c2 h^2 + c4 h^4 + ...

Richardson's extrapolation over steps h_0 > h_1 > ... removes one power of h^2 per column (Ridders, 1982):

    T[k][0] = D(h_k),   T[k][j] = T[k][j-1] + (T[k][j-1] - T[k-1][j-1]) / ((h_(k-j) / h_k)^2 - 1)

An entry's error is the larger of its distances to the two entries that it came from, plus the noise of f divided by
the step; and it is no less than its distance to the difference over the smallest step, less what noise does to that:
steps that are all too large for f's structure can agree with one another on a wrong slope. Each element takes the entry with the smallest error. The noise of f is measured, not assumed: a kernel that
computes in float32 inside has float32's noise whatever dtype it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from jaxprim.checking.values import Array, peak

RATIO = 4.0
COLUMNS = 4
FIRST_STEP = 2.0**-3
# How much smaller the steps are of a second attempt, where the first did not converge.
CLOSER = 2.0**-14
# A rounding that is below this is that of double precision.
DOUBLE = 1e-12
# Steps over which the rounding of single precision shows.
HIDDEN = (2.0**-20, 0.38 * 2.0**-20, 0.13 * 2.0**-20)
# How closely steps agree that have settled on a slope.
SETTLED = 1e-4
# One-sided slopes whose gap does not shrink with the step: a kink at the point itself.
KINK_RATIO = 0.5

Along = Callable[[float], Sequence[Array]]


@dataclass(frozen=True)
class Derivative:
    """The derivative of one result leaf along one direction.

    Attributes:
        value: the estimate for each element.
        error: the estimated error of ``value``.
        slack: half the gap between the one-sided slopes where the function has a kink at the point, else 0. Each
            number between the slopes is then a right answer.
        judged: where ``value`` says anything: the function is finite, and the differences have converged.
        settled: where wide steps agree on one slope, whatever closer ones say. If these agree on another, as those of a
            solver do that takes its first guess for the answer within its tolerance, neither is judged.
    """

    value: Array
    error: Array
    slack: Array
    judged: Array
    settled: Array

    @property
    def kinks(self) -> int:
        """At how many elements the point lies on a kink."""
        return int(np.count_nonzero(self.slack))


def steps(eps: float) -> list[float]:
    """Steps relative to the operands: from an eighth down to where rounding would hide the change.

    In double precision one step more, far below: it is accurate enough to say whether the others missed structure.
    """
    smallest = 2.0**-15 if eps < DOUBLE else 8 * eps ** (2 / 3)
    first = min(0.5, max(FIRST_STEP, 4 * smallest))
    count = max(3, 1 + int(np.log(first / smallest) / np.log(RATIO)))
    return [*[first / RATIO**k for k in range(count)], *([2.0**-24] if eps < DOUBLE else [])]


def noise(along: Along, eps: float, closest: float = 0.0) -> list[Array]:
    """The size of the rounding errors in each element of a function, from points no closer than ``closest``.

    With those of a part that works in single precision, unless points are kept apart: wide steps show it by themselves.
    """
    return (_noise(along, eps, closest) if closest else _noise_and_hidden(along, eps))[0]


def _noise_and_hidden(along: Along, eps: float) -> tuple[list[Array], list[Array]]:
    found = _noise(along, eps)
    return _with_hidden(along, *found) if eps < DOUBLE else found


def _noise(along: Along, eps: float, closest: float = 0.0) -> tuple[list[Array], list[Array]]:
    """The size of the rounding errors, from high differences over close points, and where these are too close.

    The k-th difference of a smooth function over steps d is of order d^k, that of independent errors of deviation s
    has the deviation s sqrt(binomial(2k, k)) (Hamming; Moré and Wild, 2011). The points lie on one side, as a kink at
    the point itself is no noise; on the other side if the function is not finite there. A function that is flat
    between jumps, as one that computes in bfloat16 inside, shows its noise only over wider steps.
    """
    close = max(closest, eps ** (2 / 3))
    samples = _samples(along, close)
    found, flat = [_noise_of_leaf(rows) for rows in samples], [_jumps(rows) < 6 for rows in samples]
    coarse = flat
    for spacing in (2.0**-14, 2.0**-9, 2.0**-6):
        # In single precision a step function can hide behind a smooth factor, as 1 - cos(x) does in (1 - cos(x)) / x^2.
        always = spacing == 2.0**-9 and eps > DOUBLE
        if spacing <= close or not (always or any(map(np.any, flat))):
            continue
        samples = _samples(along, spacing)
        # One jump far away, as in round(x), is no noise either: nearly every step must jump.
        rough = [(f | always) & (_jumps(rows) >= 4) for f, rows in zip(flat, samples, strict=True)]
        sizes = [_noise_of_leaf(rows) for rows in samples]
        found = [np.where(r, np.maximum(n, size), n) for r, n, size in zip(rough, found, sizes, strict=True)]
        flat = [f & (_jumps(rows) < 6) for f, rows in zip(flat, samples, strict=True)]
    return [pooled(leaf, np.abs(rows[0])) for leaf, rows in zip(found, samples, strict=True)], coarse


def _with_hidden(along: Along, noises: list[Array], coarse: list[Array]) -> tuple[list[Array], list[Array]]:
    """The noise with that of a part that works in single precision, which a part in double precision hides up close.

    It is small, and about as large over closer steps: what is only steep is neither.
    """
    one, two, beside = _noise_over(along, HIDDEN[0]), _noise_over(along, HIDDEN[1]), along(HIDDEN[0])
    sizes = _larger(one, two)
    suspect = [
        (size > 1e3 * n) & (size > 2.0**-42 * np.abs(value)) & (size < 2.0**-17 * peak(value))
        for size, n, value in zip(sizes, noises, beside, strict=True)
    ]
    if not any(map(np.any, suspect)):
        return noises, coarse
    closer = _larger(two, _noise_over(along, HIDDEN[2]))
    same = [(size < 8 * close) & (close < 8 * size) for size, close in zip(sizes, closer, strict=True)]
    # In most elements of a leaf: in all of it, as by chance some show none.
    real = [np.mean(s & alike) > 0.5 for s, alike in zip(suspect, same, strict=True)]
    found = [np.maximum(n, size) if r else n for r, n, size in zip(real, noises, sizes, strict=True)]
    return found, [c | r for c, r in zip(coarse, real, strict=True)]


def _noise_over(along: Along, spacing: float) -> list[Array]:
    return [_noise_of_leaf(rows) for rows in _samples(along, spacing)]


def _larger(one: list[Array], two: list[Array]) -> list[Array]:
    """Of what two spacings show: over one of them, all roundings may happen to be the same."""
    return [np.maximum(a, b) for a, b in zip(one, two, strict=True)]


def _jumps(rows: Array) -> Array:
    """How often neighbouring points gave different numbers; integers are never noisy."""
    if rows.dtype.kind not in "fc":
        return np.full(rows.shape[1:], len(rows))
    return np.sum(rows[1:] != rows[:-1], axis=0)


def _samples(along: Along, spacing: float) -> list[Array]:
    for side in (1, -1):
        rows = [along(side * k * spacing) for k in range(1, 8)]
        stacked = [np.stack(list(leaf)) for leaf in zip(*rows, strict=True)]
        if all(np.all(np.isfinite(leaf)) for leaf in stacked):
            break
    return stacked


def _noise_of_leaf(rows: Array) -> Array:
    """From the fourth difference, unless the fifth and sixth say that the function itself still shows in it."""
    if rows.dtype.kind not in "fc":
        return np.zeros(rows.shape[1:])
    sizes: list[Array] = []
    with np.errstate(all="ignore"):
        for k in range(1, rows.shape[0]):
            rows = np.diff(rows, axis=0)
            sizes.append(np.sqrt(np.mean(np.abs(rows) ** 2, axis=0) / comb(2 * k, k)))
        found = np.minimum(sizes[3], np.maximum(sizes[4], sizes[5]))
    return np.where(np.isfinite(found), found, 0.0)


def pooled(errors: Array, size: Array) -> Array:
    """Errors of which some are small by chance, raised to the relative error that is usual among their neighbours."""
    usable = (size > 0) & np.isfinite(size)
    if not np.any(usable):
        return errors
    usual = np.quantile(errors[usable] / size[usable], 0.5, method="lower")
    return np.maximum(errors, np.where(usable, usual * size, 0.0))


def derivative(along: Along, eps: float) -> list[Derivative]:
    """The derivative at h = 0 of each result leaf of ``along``, whose operands have the rounding ``eps``."""
    noises, coarse = _noise_and_hidden(along, eps)
    # Where a function does not resolve close points, its difference over the smallest step contradicts nothing.
    noises = [np.stack([n, np.where(c, np.inf, n)]) for n, c in zip(noises, coarse, strict=True)]
    found = _over(along, steps(eps), noises)
    if eps < DOUBLE and not all(np.all(d.judged | d.settled) for d in found):
        # Structure below the steps, as near a singular matrix.
        closer = _over(along, [CLOSER * step for step in steps(eps)[:-1]], noises)
        found = [_first_judged(d, c) for d, c in zip(found, closer, strict=True)]
    return found


def _over(along: Along, ladder: Sequence[float], noises: Sequence[Array]) -> list[Derivative]:
    rows = [(h, along(h), along(-h)) for h in ladder]
    centre = along(0.0)
    return [
        _leaf_derivative([(h, plus[i], minus[i]) for h, plus, minus in rows], centre[i], noises[i])
        for i in range(len(centre))
    ]


def _first_judged(one: Derivative, two: Derivative) -> Derivative:
    """The first where it says anything, else the second, unless the first contradicts it."""
    pick = one.judged | one.settled
    return Derivative(
        np.where(pick, one.value, two.value),
        np.where(pick, one.error, two.error),
        np.where(pick, one.slack, two.slack),
        np.where(pick, one.judged, two.judged),
        pick,
    )


def _leaf_derivative(ladder: list[tuple[float, Array, Array]], centre: Array, noise_: Array) -> Derivative:
    noise_, doubt = noise_
    with np.errstate(all="ignore"):
        value, error, settled = _extrapolate(ladder, noise_, doubt)
        value, error, slack = _kinks(ladder, centre, noise_, value, error)
        # Value and slope may both be zero at the point, as those of x^2 are: then, that of the values beside it.
        scale = peak(centre) or max(peak(side) for _, *sides in ladder for side in sides)
        judged = np.isfinite(centre) & np.isfinite(value) & (error <= 0.02 * np.maximum(np.abs(value), scale))
    value, error, slack = (np.where(judged, found, 0) for found in (value, error, slack))
    return Derivative(value, error, slack, judged, settled)


def _extrapolate(ladder: list[tuple[float, Array, Array]], noise_: Array, doubt: Array) -> tuple[Array, Array, Array]:
    """Ridders' table, row by row; only the last row is kept. No entry may contradict the smallest step.

    Also where entries agree with one another, that step aside.
    """
    shape = noise_.shape
    smallest, plus, minus = ladder[-1]
    check, doubt = (plus - minus) / (2 * smallest), 4 * doubt / smallest
    best, best_error = np.full(shape, np.nan, ladder[0][1].dtype), np.full(shape, np.inf)
    settled = np.zeros(shape, bool)
    previous: list[Array] = []
    for k, (h, plus, minus) in enumerate(ladder):
        row = [(plus - minus) / (2 * h)]
        for j, before in enumerate(previous[: COLUMNS - 1], start=1):
            row.append(row[-1] + (row[-1] - before) / ((ladder[k - j][0] / h) ** 2 - 1))
            error = np.maximum(np.abs(row[-1] - row[-2]), np.abs(row[-1] - before)) + 1.5 * noise_ / h
            settled |= error < SETTLED * np.abs(row[-1])
            error = np.maximum(error, np.abs(row[-1] - check) - doubt)
            better = error < best_error
            best, best_error = np.where(better, row[-1], best), np.where(better, error, best_error)
        previous = row
    return best, best_error, settled


def _kinks(
    ladder: list[tuple[float, Array, Array]], centre: Array, noise_: Array, value: Array, error: Array
) -> tuple[Array, Array, Array]:
    """Where the one-sided slopes differ, the middle between them and half their gap."""
    if np.iscomplexobj(centre):
        return value, error, np.zeros(centre.shape)
    # Over wide steps the sides are curved, and differently.
    wide, close = ladder[max(min(1, len(ladder) - 3), len(ladder) - 4)], ladder[-2]
    slopes = [((plus - centre) / h, (centre - minus) / h) for h, plus, minus in (wide, close)]
    (right0, left0), (right, left) = slopes
    gap0, gap = np.abs(right0 - left0), np.abs(right - left)
    rounding = 4 * noise_ / close[0]
    # A one-sided slope is off by c h; c follows from its values at two steps.
    change = np.abs(right0 - right) + np.abs(left0 - left)
    curvature = change * 2 * close[0] / wide[0]
    kink = (gap > KINK_RATIO * gap0) & (gap < gap0 / KINK_RATIO) & (gap > 4 * rounding)
    kink &= (gap > 1e-3 * np.maximum(np.abs(right), np.abs(left))) & (change < gap)
    return (
        np.where(kink, (right + left) / 2, value),
        np.where(kink, rounding + curvature, error),
        np.where(kink, gap / 2, 0.0),
    )
