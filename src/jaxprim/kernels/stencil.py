"""Finite differences of functions of NumPy arrays, with a bound of their error.

    pushforward     D f(x) v = (8 (f(x+hv) - f(x-hv)) - (f(x+2hv) - f(x-2hv))) / 12h + O(h^4)
    pullback        the pushforward along each axis of each operand, contracted with the cotangent
    error           |4th order - 2nd order| bounds the truncation, 3/2 eps max|f| / h the rounding; and what f is, at a
                    place between, beside the polynomial that all this rests on, is added

Both are equal at h = eps^(1/5) times the scale on which f varies. A fifth of that makes the rounding five times larger and
the truncation 600 times smaller: what is left is noise, and a derivative with noise is linear but for that noise. The scale
is not known: it is first taken as the size of x, at least 1, and then ever smaller until the bound, which is that of the 2nd
order and therefore large, is what it is for a well scaled function. Failing that, the best is taken if it is accurate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp
import numpy as np

Arrays = list[np.ndarray]
Function = Callable[[Arrays], Arrays]
# Where between one and two steps the function is probed: at no ratio of whole numbers, as structure finer than the steps (stairs,
# noise, a kink) may look smooth at whole ones.
_PROBE = 1.618
_SHRINK = (1.0, 0.3, 0.1, 0.03, 1e-2, 1e-4, 1e-6, 1e-8)


class InaccurateError(ValueError):
    """No step gives an accurate derivative: the best bound of its error, its size, and the error that is allowed."""

    def __init__(self, error: float, scale: float, allowed: float) -> None:
        super().__init__(error, scale, allowed)
        self.error, self.scale, self.allowed = error, scale, allowed


def _epsilon(arrays: Sequence[np.ndarray]) -> float:
    real = [a.dtype for a in arrays if jnp.issubdtype(a.dtype, jnp.inexact)]  # NumPy knows no bfloat16
    return max((float(jnp.finfo(dtype).eps) for dtype in real), default=2.0**-52)


def pushforward(fn: Function, point: Arrays, direction: Sequence[np.ndarray | None]) -> Arrays:
    """The derivative of a function along a direction (None where an operand does not move)."""
    size = _largest([v for v in direction if v is not None])
    values = fn(point)
    if size == 0:
        return [np.zeros_like(value) for value in values]
    moving = [x for x, v in zip(point, direction, strict=True) if v is not None]
    epsilon = _epsilon([*moving, *values])
    length = max(1.0, _largest(moving)) / size
    tried: list[tuple[float, float, Arrays]] = []
    for shrink in _SHRINK:
        step = 0.2 * epsilon**0.2 * length * shrink
        if tried and step * size < 16 * epsilon * _largest(moving):
            break  # the operands could not follow
        found, error = _stencil(fn, point, direction, values, step, epsilon)
        scale = _largest(found) + _largest(values) / length
        if not error > 0.05 * epsilon**0.4 * scale:  # so written that a nan is passed on, as it is in arithmetic
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
    """The derivative of 4th order at one step, and the bound of its error."""
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
    """How far the function at the probe is from the polynomial of 4th degree through its values at 0, +-1 and +-2 steps."""
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


def pullback(fn: Function, point: Arrays, moving: Sequence[int], cotangents: Arrays) -> Arrays:
    """The cotangents of the operands ``moving``."""
    return [_cotangent(fn, point, index, cotangents) for index in moving]


def _cotangent(fn: Function, point: Arrays, index: int, cotangents: Arrays) -> np.ndarray:
    x = point[index]
    out = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        out[place] = _along(fn, point, index, place, 1, cotangents)
        if x.dtype.kind == "c":  # JAX transposes without conjugation: the imaginary part counts with a minus
            out[place] -= 1j * _along(fn, point, index, place, 1j, cotangents)
    return out


def _along(fn: Function, point: Arrays, index: int, place: tuple[int, ...], unit: complex, cotangents: Arrays) -> float:
    axis = np.zeros_like(point[index])
    axis[place] = unit
    direction = [axis if i == index else None for i in range(len(point))]
    dots = pushforward(fn, point, direction)
    return float(sum(np.sum(ct * dot).real for ct, dot in zip(cotangents, dots, strict=True)))
