"""Derivatives from differences of the implementation alone, each with an estimate of its own error.

Along a direction t, with g(h) = f(x + h t) for real h (f may take and return complex numbers: JAX's JVP is the
derivative along t, holomorphic or not),

    D(h) = (g(h) - g(-h)) / 2h = g'(0) + c2 h^2 + c4 h^4 + ...

Richardson's extrapolation over steps h, h/4, h/16, ... removes one power of h^2 per column (Ridders, 1982):

    T[k][0] = D(h_k),   T[k][j] = T[k][j-1] + (T[k][j-1] - T[k-1][j-1]) / (16^j - 1)

An entry's error is the larger of its distances to the two entries that it came from, plus the noise of f divided by
the step. Each element takes the entry with the smallest error. The noise of f is measured, not assumed: a kernel that
computes in float32 inside has float32's noise whatever dtype it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from .values import Array

RATIO = 4.0
COLUMNS = 4
FIRST_STEP = 2.0**-3
# One-sided slopes whose gap does not shrink with the step: a kink at the point itself.
KINK_RATIO = 0.25

Along = Callable[[float], Sequence[Array]]


@dataclass(frozen=True)
class Derivative:
    """The derivative of one result leaf along one direction.

    Attributes:
        value: the estimate for each element.
        error: the estimated error of ``value``.
        slack: half the gap between the one-sided slopes where the function has a kink at the point, else 0. Each
            number between the slopes is then a right answer.
        judged: where ``value`` says anything: the differences are finite and have converged.
    """

    value: Array
    error: Array
    slack: Array
    judged: Array

    @property
    def kinks(self) -> int:
        """At how many elements the point lies on a kink."""
        return int(np.count_nonzero(self.slack))


def steps(eps: float) -> list[float]:
    """Steps relative to the operands: from an eighth down to where rounding would hide the change."""
    smallest = 2.0**-15 if eps < 1e-12 else 8 * eps ** (2 / 3)
    first = min(0.5, max(FIRST_STEP, 4 * smallest))
    count = max(3, 1 + int(np.log(first / smallest) / np.log(RATIO)))
    return [first / RATIO**k for k in range(count)]


def noise(along: Along, eps: float) -> list[Array]:
    """The size of the rounding errors in each element of a function, from high differences over close points.

    The k-th difference of a smooth function over steps d is of order d^k, that of independent errors of deviation s
    has the deviation s sqrt(binomial(2k, k)) (Hamming; Moré and Wild, 2011). The points lie on one side, as a kink at
    the point itself is no noise; on the other side if the function is not finite there. A function that is flat
    between jumps, as one that computes in bfloat16 inside, shows its noise only over wider steps.
    """
    close = _samples(along, max(2.0**-14, 8 * eps))
    flat = [np.any(np.diff(rows, axis=0) == 0, axis=0) for rows in close]
    found = [_noise_of_leaf(rows) for rows in close]
    if any(map(np.any, flat)):
        broad = [_noise_of_leaf(rows) for rows in _samples(along, max(2.0**-6, 8 * eps))]
        found = [np.where(f, np.maximum(a, b), a) for f, a, b in zip(flat, found, broad, strict=True)]
    return [pooled(leaf) for leaf in found]


def _samples(along: Along, spacing: float) -> list[Array]:
    for side in (1, -1):
        rows = [along(side * k * spacing) for k in range(1, 8)]
        stacked = [np.stack(list(leaf)) for leaf in zip(*rows, strict=True)]
        if all(np.all(np.isfinite(leaf)) for leaf in stacked):
            break
    return stacked


def _noise_of_leaf(rows: Array) -> Array:
    """From the fourth difference, unless the fifth and sixth say that the function itself still shows in it."""
    sizes: list[Array] = []
    with np.errstate(all="ignore"):
        for k in range(1, rows.shape[0]):
            rows = np.diff(rows, axis=0)
            sizes.append(np.sqrt(np.mean(np.abs(rows) ** 2, axis=0) / comb(2 * k, k)))
        found = np.minimum(sizes[3], np.maximum(sizes[4], sizes[5]))
    return np.where(np.isfinite(found), found, 0.0)


def pooled(errors: Array) -> Array:
    """Errors of which some are small by chance, raised to what is usual among their neighbours."""
    return np.maximum(errors, np.median(errors)) if errors.size else errors


def derivative(along: Along, eps: float, noises: Sequence[Array] | None = None) -> list[Derivative]:
    """The derivative at h = 0 of each result leaf of ``along``, whose operands have the rounding ``eps``."""
    ladder = [(h, along(h), along(-h)) for h in steps(eps)]
    centre = along(0.0)
    noises = noise(along, eps) if noises is None else noises
    return [
        _leaf_derivative([(h, plus[i], minus[i]) for h, plus, minus in ladder], centre[i], noises[i])
        for i in range(len(centre))
    ]


def _leaf_derivative(ladder: list[tuple[float, Array, Array]], centre: Array, noise_: Array) -> Derivative:
    with np.errstate(all="ignore"):
        value, error = _extrapolate(ladder, noise_)
        value, error, slack = _kinks(ladder, centre, noise_, value, error)
        scale = np.max(np.abs(centre), initial=0.0, where=np.isfinite(centre))
        judged = np.isfinite(value) & (error <= 0.02 * np.maximum(np.abs(value), scale))
    return Derivative(np.where(judged, value, 0), np.where(judged, error, 0), np.where(judged, slack, 0), judged)


def _extrapolate(ladder: list[tuple[float, Array, Array]], noise_: Array) -> tuple[Array, Array]:
    """Ridders' table, row by row; only the last row is kept."""
    shape = noise_.shape
    best, best_error = np.full(shape, np.nan, ladder[0][1].dtype), np.full(shape, np.inf)
    previous: list[Array] = []
    for h, plus, minus in ladder:
        row = [(plus - minus) / (2 * h)]
        for j, before in enumerate(previous[: COLUMNS - 1], start=1):
            row.append(row[-1] + (row[-1] - before) / (RATIO ** (2 * j) - 1))
            error = np.maximum(np.abs(row[-1] - row[-2]), np.abs(row[-1] - before)) + 1.5 * noise_ / h
            better = error < best_error
            best, best_error = np.where(better, row[-1], best), np.where(better, error, best_error)
        previous = row
    return best, best_error


def _kinks(
    ladder: list[tuple[float, Array, Array]], centre: Array, noise_: Array, value: Array, error: Array
) -> tuple[Array, Array, Array]:
    """Where the one-sided slopes differ, the middle between them and half their gap."""
    if np.iscomplexobj(centre):
        return value, error, np.zeros(centre.shape)
    slopes = [((plus - centre) / h, (centre - minus) / h) for h, plus, minus in (ladder[1], ladder[-1])]
    (right0, left0), (right, left) = slopes
    gap0, gap = np.abs(right0 - left0), np.abs(right - left)
    rounding = 4 * noise_ / ladder[-1][0]
    # A one-sided slope is off by c h; c follows from its values at two steps.
    curvature = (np.abs(right0 - right) + np.abs(left0 - left)) * 2 * ladder[-1][0] / ladder[1][0]
    kink = (gap > KINK_RATIO * gap0) & (gap < gap0 / KINK_RATIO) & (gap > 4 * rounding)
    kink &= gap > 1e-3 * np.maximum(np.abs(right), np.abs(left))
    return np.where(kink, (right + left) / 2, value), np.where(kink, rounding + curvature, error), np.where(kink, gap / 2, 0.0)
