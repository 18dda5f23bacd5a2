"""One entry of the survey: a function of some library, and the points where it is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Operands = tuple[Any, ...]


@dataclass(frozen=True)
class Op:
    """A function and its points.

    Attributes:
        name: what the table calls it, unique in the survey; what stands before the first blank is the library.
        make: returns the function. It is called late, as libraries make constants when they are imported, and a name
            may be missing in an older version.
        points: the examples, in float64 and complex128; the survey casts them. Easy points first.
        reference: the same function by other means, in NumPy or SciPy.
    """

    name: str
    make: Callable[[], Callable[..., Any]]
    points: tuple[Operands, ...]
    reference: Callable[..., Any] | None = None


def points(*examples: Any) -> tuple[Operands, ...]:
    """Examples; one that is no tuple is the only operand."""
    return tuple(example if isinstance(example, tuple) else (example,) for example in examples)


def at(*numbers: complex) -> np.ndarray:
    return np.array(numbers)


def cast(operands: Operands, x64: bool) -> Operands:
    """The operands as JAX arrays of 64 or 32 bits; integers and booleans as they are, with JAX's default type."""
    kinds = {"f": (jnp.float32, jnp.float64), "c": (jnp.complex64, jnp.complex128)}

    def leaf(x: Any) -> Any:
        x = np.asarray(x)
        return jnp.asarray(x, kinds[x.dtype.kind][x64] if x.dtype.kind in kinds else None)

    return jax.tree_util.tree_map(leaf, operands)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return rng(seed).normal(size=shape)


def regular(n: int, seed: int = 0) -> np.ndarray:
    """A matrix far from singular."""
    return normal(n, n, seed=seed) + 3 * np.eye(n)


def definite(n: int, seed: int = 0) -> np.ndarray:
    """A symmetric positive definite matrix."""
    root = normal(n, n, seed=seed)
    return root @ root.T + np.eye(n)
