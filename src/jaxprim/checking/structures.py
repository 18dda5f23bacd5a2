"""Structure in the numbers of an operand that an implementation may rely on: how it is recognised and drawn anew.

A structure that plain arithmetic may be given by chance, such as symmetry, is only kept where an implementation may need
it without a check. Probabilities are always kept: numbers do not sum to one by chance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from jaxprim.checking.values import Array

# Sums and products of float32 numbers that are meant to be 0 or 1 are off by less.
ROUNDED = 1e-5


@dataclass(frozen=True)
class Structure:
    """One structure.

    Attributes:
        fits: whether an array has it.
        draw: other numbers with it, from the array, positive factors, and signs (or phases), both of its shape.
        always: whether it is kept for every implementation.
    """

    fits: Callable[[Array], bool]
    draw: Callable[[Array, Array, Array], Array]
    always: bool = False


def structure_of(value: Array, *, hides: bool) -> Structure | None:
    """The structure of an array, if it is to be kept; ``hides`` says that the implementation may need more than it checks."""
    if not np.all(np.isfinite(value)):
        return None
    return next((each for each in STRUCTURES if (hides or each.always) and each.fits(value)), None)


# ------------------------------------------------------------------------------------------------------ probabilities
def _axis_of_ones(value: Array) -> tuple[int, ...] | None:
    """The axes along which positive numbers sum to one."""
    if np.iscomplexobj(value) or value.size < 2 or np.any(value < 0):
        return None
    every = tuple(range(value.ndim))
    for axes in ((value.ndim - 1,), every, (0,)):
        if np.prod([value.shape[a] for a in axes]) > 1 and np.all(np.abs(np.sum(value, axes) - 1) < ROUNDED):
            return axes
    return None


def _probabilities(value: Array, factors: Array, signs: Array) -> Array:
    return factors / np.sum(factors, _axis_of_ones(value), keepdims=True)


# ----------------------------------------------------------------------------------------------------------- matrices
def _is_square(value: Array) -> bool:
    return value.ndim >= 2 and value.shape[-1] == value.shape[-2] > 1


def _transposed(value: Array) -> Array:
    return np.swapaxes(value, -1, -2)


def _is_symmetric(value: Array) -> bool:
    """Equal to its transpose, conjugate or not; numbers of about 1e-7 of the largest may be rounding."""
    near = lambda other: bool(np.all(np.abs(value - other) <= ROUNDED * np.max(np.abs(value), initial=0.0)))
    return _is_square(value) and (near(_transposed(value)) or near(np.conj(_transposed(value))))


def _congruent(value: Array, factors: Array, signs: Array) -> Array:
    """D A D^H for a diagonal D: symmetric, and positive definite if A is."""
    d = (signs * np.sqrt(factors))[..., :1, :]
    hermitian = np.allclose(value, np.conj(_transposed(value)), rtol=0, atol=ROUNDED * np.max(np.abs(value)))
    return _transposed(d) * value * (np.conj(d) if hermitian else d)


def _is_orthonormal(value: Array) -> bool:
    if value.ndim < 2 or min(value.shape[-2:]) < 2:
        return False
    product = np.conj(_transposed(value)) @ value
    return bool(np.all(np.abs(product - np.eye(value.shape[-1])) < ROUNDED))


# -------------------------------------------------------------------------------------------------------------- grids
def _is_monotonic(value: Array) -> bool:
    if np.iscomplexobj(value) or not value.ndim or value.shape[-1] < 2:
        return False
    steps = np.diff(value)
    return bool(np.all(steps > 0) or np.all(steps < 0))


def has_equal_steps(value: Array) -> bool:
    """Whether a grid is equally spaced, up to rounding."""
    steps = np.diff(value)
    return bool(np.all(np.abs(steps - steps[..., :1]) <= ROUNDED * np.max(np.abs(steps))))


def _grid(value: Array, factors: Array, signs: Array) -> Array:
    """A grid that starts elsewhere, with other steps, all equal if they were; mirrored about zero if the first sign says so.

    A grid that is symmetric about zero, or on one side of it, may need to stay so, but one that is mirrored is on the other.
    """
    steps = np.diff(value)
    steps = steps * (factors[..., :1] if has_equal_steps(value) else factors[..., 1:])
    start = value[..., :1] * factors[..., :1]
    new = np.concatenate([start, start + np.cumsum(steps, -1)], -1)
    return -new[..., ::-1] if signs.flat[0] < 0 else new


# -------------------------------------------------------------------------------------------------------------- masks
def _is_mask(value: Array) -> bool:
    return bool(np.all((value == 0) | (value == 1)) and np.any(value == 0) and np.any(value == 1))


def _as_it_is(value: Array, factors: Array, signs: Array) -> Array:
    return value


MONOTONIC = Structure(_is_monotonic, _grid)
STRUCTURES = (
    Structure(lambda value: _axis_of_ones(value) is not None, _probabilities, always=True),
    Structure(_is_symmetric, _congruent),
    Structure(_is_orthonormal, _as_it_is),
    MONOTONIC,
    Structure(_is_mask, _as_it_is),
)
