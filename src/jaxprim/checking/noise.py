"""Measure the rounding errors of an unknown function from its values at close points.

The k-th difference of a smooth function over points with a spacing d is of order d^k. The k-th difference of independent
errors of deviation s has the deviation s sqrt(binomial(2k, k)), as the binomial coefficients are its weights and the sum
of their squares is binomial(2k, k). So where d^k is small enough,

    s = |k-th difference| / sqrt(binomial(2k, k))

(Hamming; Moré and Wild, "Estimating computational noise", 2011.) A spacing that is too small shows nothing of a function
that computes in a coarse dtype inside: neighbouring points give the same number. Hence three tests: over close points,
over wider ones where the function is flat between jumps, and for a part in float32 behind a part in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import comb

import numpy as np

from jaxprim.checking.tolerances import is_double
from jaxprim.checking.values import Array, peak

# g(h) = f(x + h t) for each result leaf, in its shape.
Along = Callable[[float], Sequence[Array]]

# As many points as a sixth difference needs, and the gaps between them.
POINTS = 7
GAPS = POINTS - 1
# A function that computes in a coarser dtype inside is flat between jumps. Over these wider spacings it jumps at each
# step: the last is twice the spacing of bfloat16 near 1 (2^-7), the middle one twice that of float16 (2^-10), the first
# is for what lies between float16 and float32 (2^-23).
WIDER = (2.0**-14, 2.0**-9, 2.0**-6)
# In single precision this spacing is always used. A step function can hide there behind a smooth factor, as 1 - cos(x) does
# in (1 - cos(x)) / x^2: no two points give the same number, and none is near the truth.
ALWAYS_IN_SINGLE = 2.0**-9
# Two values differ by sqrt(2) deviations of their noise, and by more than eight hardly ever.
CHANCE = 8.0
# A function that rounds jumps at nearly every step. One or two jumps far away, as in round(x), are not noise.
JUMPS = 4


# -------------------------------------------------------------------------------- a float32 part behind a float64 part
# f(x, y) = g32(x) y jumps at each step, by y, so that it seems to have the noise of float64. Over a few spacings of
# float32 (2^-23) the jumps of g32 show in the high differences. The ratios of the three spacings are not simple fractions:
# over one of them, all roundings of g32 may happen to be the same, but hardly over two.
FLOAT32_SPACINGS = (2.0**-20, 0.38 * 2.0**-20, 0.13 * 2.0**-20)
# The noise that is suspected to be float32's is far more than was seen over close points (1000 times), more than a
# thousand roundings of float64 (2^-42 = 2^10 x 2^-52), and less than 64 roundings of float32 (2^-17 = 2^6 x 2^-23).
ABOVE_CLOSE = 1e3
ABOVE_FLOAT64 = 2.0**-42
BELOW_FLOAT32 = 2.0**-17
# Noise does not depend on the spacing. The fourth difference of a steep function does: it goes with the spacing to the
# fourth power, so it changes by (1 / 0.38)^4 = 48 at least. A factor of 8 tells the two apart.
ALIKE = 8.0


@dataclass(frozen=True)
class Noise:
    """The noise of one result leaf.

    Attributes:
        size: the rounding errors of each element, in the shape of the leaf.
        coarse: where the function does not resolve close points, so a difference over a small step says nothing.
        slope: the size of the slope between the first and the last of the close points, as far as noise cannot explain it.
    """

    size: Array
    coarse: Array
    slope: Array


def measure_noise(along: Along, eps: float, closest: float = 0.0) -> list[Array]:
    """The size of the rounding errors in each element of a function.

    Args:
        along: the function.
        eps: the rounding of its operands.
        closest: points are no closer than this. If it is set, they are wide enough to show a part in float32.
    """
    found = _over_close_points(along, eps, closest) if closest else noises(along, eps)
    return [noise.size for noise in found]


def noises(along: Along, eps: float) -> list[Noise]:
    """The noise, including that of a float32 part, and where close points are not resolved."""
    found = _over_close_points(along, eps)
    return _with_float32_part(along, found) if is_double(eps) else found


def _over_close_points(along: Along, eps: float, closest: float = 0.0) -> list[Noise]:
    """The first two tests.

    A spacing of eps^(2/3) is small enough for the fourth difference of a function to vanish compared with its noise:
    eps^(8/3) < eps. It is large enough for neighbouring points to differ in operands of different sizes.
    """
    close = max(closest, eps ** (2 / 3))
    samples = _samples(along, close)
    changes = [np.abs(rows[-1] - rows[0]) if rows.dtype.kind in "fc" else np.zeros(rows.shape[1:]) for rows in samples]
    found, flat = [_noise_of(rows) for rows in samples], [_jumps(rows) < GAPS for rows in samples]
    coarse = flat
    for spacing in WIDER:
        always = spacing == ALWAYS_IN_SINGLE and not is_double(eps)
        if spacing <= close or not (always or any(map(np.any, flat))):
            continue
        samples = _samples(along, spacing)
        rough = [(f | always) & (_jumps(rows) >= JUMPS) for f, rows in zip(flat, samples, strict=True)]
        sizes = [_noise_of(rows) for rows in samples]
        found = [np.where(r, np.maximum(n, size), n) for r, n, size in zip(rough, found, sizes, strict=True)]
        flat = [f & (_jumps(rows) < GAPS) for f, rows in zip(flat, samples, strict=True)]
    pooled = [pool(size, np.abs(rows[0])) for size, rows in zip(found, samples, strict=True)]
    return [
        Noise(size, where, np.maximum(change - CHANCE * size, 0) / (GAPS * close))
        for size, where, change in zip(pooled, coarse, changes, strict=True)
    ]


def _with_float32_part(along: Along, found: list[Noise]) -> list[Noise]:
    """The third test: noise that is small, and about as large over closer steps."""
    one, two, values = _noise_over(along, 0), _noise_over(along, 1), along(FLOAT32_SPACINGS[0])
    sizes = [np.maximum(a, b) for a, b in zip(one, two, strict=True)]
    suspect = [_may_be_float32(size, noise, value) for size, noise, value in zip(sizes, found, values, strict=True)]
    if not any(map(np.any, suspect)):
        return found
    closer = [np.maximum(a, b) for a, b in zip(two, _noise_over(along, 2), strict=True)]
    rows = zip(found, sizes, closer, suspect, strict=True)
    return [_confirm(noise, size, close, where) for noise, size, close, where in rows]


def _may_be_float32(size: Array, noise: Noise, value: Array) -> Array:
    above = (size > ABOVE_CLOSE * noise.size) & (size > ABOVE_FLOAT64 * np.abs(value))
    return above & (size < BELOW_FLOAT32 * peak(value))


def _confirm(noise: Noise, size: Array, closer: Array, suspect: Array) -> Noise:
    """It is noise if most elements of the leaf say so; then it is in all of them, as some show none by chance."""
    alike = (size < ALIKE * closer) & (closer < ALIKE * size)
    real = np.mean(suspect & alike) > 0.5
    return replace(noise, size=np.maximum(noise.size, size) if real else noise.size, coarse=noise.coarse | real)


def _noise_over(along: Along, k: int) -> list[Array]:
    return [_noise_of(rows) for rows in _samples(along, FLOAT32_SPACINGS[k])]


def _samples(along: Along, spacing: float) -> list[Array]:
    """The values at equidistant points, stacked in front, for each leaf.

    The points lie on one side, because a kink at the point itself is not noise; on the other side if the function is
    not finite there.
    """
    for side in (1, -1):
        rows = [along(side * k * spacing) for k in range(1, POINTS + 1)]
        stacked = [np.stack(list(leaf)) for leaf in zip(*rows, strict=True)]
        if all(np.all(np.isfinite(leaf)) for leaf in stacked):
            break
    return stacked


def _jumps(rows: Array) -> Array:
    """How often neighbouring points gave different numbers; integers are never noisy."""
    if rows.dtype.kind not in "fc":
        return np.full(rows.shape[1:], len(rows))
    return np.sum(rows[1:] != rows[:-1], axis=0)


def _noise_of(rows: Array) -> Array:
    """s from the fourth difference, unless the fifth and sixth say that the function itself still shows in it."""
    if rows.dtype.kind not in "fc":
        return np.zeros(rows.shape[1:])
    sizes: dict[int, Array] = {}
    with np.errstate(all="ignore"):
        unit = peak(rows) or 1.0  # the square of a small number may be zero
        rows = rows / unit
        for k in range(1, POINTS):
            rows = np.diff(rows, axis=0)
            sizes[k] = np.sqrt(np.mean(np.abs(rows) ** 2, axis=0) / comb(2 * k, k))
        found = unit * np.minimum(sizes[4], np.maximum(sizes[5], sizes[6]))
    return np.where(np.isfinite(found), found, 0.0)


def pool(errors: Array, size: Array) -> Array:
    """Raise errors that are small by chance to the median relative error of their leaf."""
    usable = (size > 0) & np.isfinite(size)
    if not np.any(usable):
        return errors
    usual = np.quantile(errors[usable] / size[usable], 0.5, method="lower")
    return np.maximum(errors, np.where(usable, usual * size, 0.0))
