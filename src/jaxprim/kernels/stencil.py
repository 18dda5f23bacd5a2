"""Finite differences of functions of NumPy arrays, with a bound of their error.

    pushforward     D f(x) v = (8 (f(x+hv) - f(x-hv)) - (f(x+2hv) - f(x-2hv))) / 12h + O(h^4)
    pullback        the pushforward along each axis of each operand, contracted with the cotangent
    error           the sum of three terms: |4th order - 2nd order| bounds the truncation; 3/2 eps max|f| / h bounds the
                    rounding; and the distance of f from the polynomial through its values, at a probe between the
                    steps, divided by the probe's distance from x, shows structure finer than the steps

For a function that varies on the scale L, truncation is of the order h^4 / L^5 and rounding of the order eps / h. They are
equal at h = eps^(1/5) L. We take a fifth of that: rounding grows 5 times and truncation shrinks 5^4 = 625 times. The error
that is left is rounding noise, so the derivative is linear in its direction up to noise, which truncation would spoil.

We do not know L. We start from max(1, |x|) and shrink it until the error bound drops to its value for a well-scaled
function. (The bound is that of the second-order formula, h^2 / L^3, so it is pessimistic.) If no scale gets there, we use
the best one, if it is accurate to the cube root of eps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp
import numpy as np

Arrays = list[np.ndarray]
Function = Callable[[Arrays], Arrays]
# The probe's distance, in steps. It is far from any simple ratio, because structure finer than the steps (stairs, noise, a
# kink) can look smooth at multiples of the step.
_PROBE = 1.618
# The scales to try, as parts of max(1, |x|). Few functions need the small ones, so they are far apart.
_SHRINK = (1.0, 0.3, 0.1, 0.03, 1e-2, 1e-4, 1e-6, 1e-8)


class InaccurateError(ValueError):
    """No step gives an accurate derivative.

    Attributes:
        error: the smallest bound of the error that was found.
        scale: the size of the derivative.
        allowed: the largest error that would do.
    """

    def __init__(self, error: float, scale: float, allowed: float) -> None:
        super().__init__(error, scale, allowed)
        self.error, self.scale, self.allowed = error, scale, allowed


def _epsilon(arrays: Sequence[np.ndarray]) -> float:
    real = [a.dtype for a in arrays if jnp.issubdtype(a.dtype, jnp.inexact)]  # NumPy knows no bfloat16
    return max((float(jnp.finfo(dtype).eps) for dtype in real), default=2.0**-52)


def pushforward(fn: Function, point: Arrays, direction: Sequence[np.ndarray | None]) -> Arrays:
    """The derivative of a function along a direction, which is None for operands without a tangent."""
    size = _largest([v for v in direction if v is not None])
    values = fn(point)
    if size == 0:
        return [np.zeros_like(value) for value in values]
    moved = [x for x, v in zip(point, direction, strict=True) if v is not None]
    epsilon = _epsilon([*moved, *values])
    length = max(1.0, _largest(moved)) / size
    tried: list[tuple[float, float, Arrays]] = []
    for shrink in _SHRINK:
        step = 0.2 * epsilon**0.2 * length * shrink
        if tried and step * size < 16 * epsilon * _largest(moved):
            break  # the step is lost in the rounding of the operands
        found, error = _stencil(fn, point, direction, values, step, epsilon)
        scale = _largest(found) + _largest(values) / length
        # With h = eps^(1/5) L / 5, the second-order bound h^2 / L^3 is eps^(2/5) / 25 of the scale for a well-scaled
        # function; 0.05 leaves a little room. `not >` lets a nan through, as arithmetic does.
        if not error > 0.05 * epsilon**0.4 * scale:
            return found
        tried.append((error, scale, found))
    error, scale, found = min(tried, key=lambda row: row[0])
    allowed = epsilon ** (1 / 3) * scale
    if error > allowed:
        raise InaccurateError(error, scale, allowed)
    return found


def _stencil(
    fn: Function,
    point: Arrays,
    direction: Sequence[np.ndarray | None],
    values: Arrays,
    step: float,
    epsilon: float,
) -> tuple[Arrays, float]:
    """The derivative of 4th order with one step, and the bound of its error."""
    at = lambda k: fn([_move(x, v, k * step) for x, v in zip(point, direction, strict=True)])
    near = {k: at(k) for k in (-2, -_PROBE, -1, 1, _PROBE, 2)}
    found: Arrays = []
    error = 0.0
    for index, value in enumerate(values):
        row = {k: arrays[index] for k, arrays in near.items()}
        second = (row[1] - row[-1]) / (2 * step)
        fourth = (8 * (row[1] - row[-1]) - (row[2] - row[-2])) / (12 * step)
        found.append(np.asarray(fourth, value.dtype))
        rounding = 1.5 * epsilon * _largest(list(row.values())) / step
        surprise = _largest([_misfit(value, row)]) / (_PROBE * step)
        error = max(error, _largest([fourth - second]) + rounding + max(0.0, surprise - 4 * rounding))
    return found, error


def _misfit(value: np.ndarray, row: Mapping[float, np.ndarray]) -> np.ndarray:
    """How far the function at the probes is from the polynomial of degree 4 through its values at 0, +-1 and +-2 steps."""
    t = _PROBE
    odd = {k: (row[k] - row[-k]) / 2 for k in (1, 2, t)}  # a t + b t^3
    even = {k: (row[k] + row[-k]) / 2 - value for k in (1, 2, t)}  # c t^2 + d t^4
    a, b = (8 * odd[1] - odd[2]) / 6, (odd[2] - 2 * odd[1]) / 6
    c, d = (16 * even[1] - even[2]) / 12, (even[2] - 4 * even[1]) / 12
    return np.abs(odd[t] - a * t - b * t**3) + np.abs(even[t] - c * t**2 - d * t**4)


def _move(x: np.ndarray, v: np.ndarray | None, step: float) -> np.ndarray:
    return x if v is None else np.asarray(x + step * v, x.dtype)


def _largest(arrays: Sequence[np.ndarray]) -> float:
    return max((float(np.max(np.abs(a))) for a in arrays if a.size), default=0.0)


def pullback(fn: Function, point: Arrays, perturbed: Sequence[int], cotangents: Arrays) -> Arrays:
    """The cotangents of the operands at the positions ``perturbed``."""
    return [_cotangent(fn, point, index, cotangents) for index in perturbed]


def _cotangent(fn: Function, point: Arrays, index: int, cotangents: Arrays) -> np.ndarray:
    x = point[index]
    out = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        out[place] = _along(fn, point, index, place, 1, cotangents)
        if x.dtype.kind == "c":  # JAX transposes without conjugating, so the imaginary part gets a minus sign
            out[place] -= 1j * _along(fn, point, index, place, 1j, cotangents)
    return out


def _along(fn: Function, point: Arrays, index: int, place: tuple[int, ...], unit: complex, cotangents: Arrays) -> float:
    axis = np.zeros_like(point[index])
    axis[place] = unit
    direction = [axis if i == index else None for i in range(len(point))]
    dots = pushforward(fn, point, direction)
    return float(sum(np.sum(ct * dot).real for ct, dot in zip(cotangents, dots, strict=True)))
