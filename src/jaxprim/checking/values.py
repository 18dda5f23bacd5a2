"""Operands and results as flat lists of named leaves, and their values as NumPy arrays in double precision."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Path = tuple[Any, ...]


def is_key(leaf: Any) -> bool:
    """Whether a leaf holds typed PRNG keys."""
    return hasattr(leaf, "dtype") and _is_of_keys(leaf.dtype)


@cache
def _is_of_keys(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jax.dtypes.prng_key)


def is_scalar(leaf: Any) -> bool:
    """Whether a leaf is a Python number, which JAX types weakly."""
    return isinstance(leaf, bool | int | float | complex) and not isinstance(leaf, np.generic)


def has_tangents(leaf: Any) -> bool:
    """Whether one may differentiate with respect to a leaf: real and complex numbers, not integers, booleans or keys."""
    return _range_of(_dtype(leaf)) is not None


def to_jax(numbers: Array) -> Any:
    """NumPy numbers as a JAX array. `jnp.asarray` takes longer, and compiles a program for each type."""
    return jax.device_put(numbers)


def wide(leaf: Any) -> Array:
    """The numbers of a leaf in the widest type of their kind: float64, complex128, int64, uint64 or bool."""
    array = np.asarray(jax.random.key_data(leaf)) if is_key(leaf) else np.asarray(leaf)
    if array.dtype == jax.dtypes.float0:
        return np.zeros(array.shape)
    wider = _wider(array.dtype)
    return array if wider is None else array.astype(wider)


@cache
def _wider(dtype: Any) -> Any:
    """The widest real or complex dtype; None for numbers that are neither."""
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return np.complex128
    return np.float64 if jnp.issubdtype(dtype, jnp.floating) else None


@cache
def _range_of(dtype: Any) -> tuple[float, float, float] | None:
    """The eps, the smallest normal and the largest number of a real or complex dtype; None for others."""
    if not jnp.issubdtype(dtype, jnp.inexact):
        return None
    info = jnp.finfo(dtype)
    return float(info.eps), float(info.tiny), float(info.max)


def _range(leaf: Any) -> tuple[float, float, float]:
    return _range_of(_dtype(leaf)) or (0.0, 0.0, np.inf)


def _dtype(leaf: Any) -> Any:
    return leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)


def epsilon(leaf: Any) -> float:
    """The spacing of numbers near 1 in the dtype of a leaf; 0 if arithmetic is exact."""
    return _range(leaf)[0]


def tiny(leaf: Any) -> float:
    """The smallest normal number in the dtype of a leaf: XLA may round smaller numbers to zero."""
    return _range(leaf)[1]


def largest(leaf: Any) -> float:
    """The largest number in the dtype of a leaf; infinite if arithmetic is exact."""
    return _range(leaf)[2]


def spacing(value: Array, eps: float, smallest: float) -> Array:
    """The distance from a number to the next one in a dtype with this epsilon and this smallest normal number."""
    with np.errstate(all="ignore"):
        return eps * 2.0 ** np.floor(np.log2(np.maximum(np.abs(value), smallest)))


def peak(numbers: Array) -> float:
    """The largest finite size in an array."""
    sizes = np.abs(numbers)
    return float(np.max(sizes, initial=0.0, where=np.isfinite(sizes)))


def as_array(leaf: Any) -> Any:
    """A leaf as JAX sees it: NumPy arrays become JAX arrays, Python numbers stay as they are."""
    if isinstance(leaf, np.ndarray | np.generic):
        return to_jax(np.array(leaf))  # the author may change his array
    return leaf if isinstance(leaf, jax.Array) or is_scalar(leaf) else jnp.asarray(leaf)


def doubled(leaf: Any) -> Any:
    """A leaf in double precision, under x64; integers and keys stay as they are."""
    return leaf if is_scalar(leaf) or not has_tangents(leaf) else to_jax(wide(leaf))


def leaf_names(roots: Sequence[str], values: Sequence[Any]) -> tuple[str, ...]:
    """The name of each leaf: ``x``, or ``params['w'][0]`` inside a pytree."""
    return tuple(
        root + jax.tree_util.keystr(path)
        for root, value in zip(roots, values, strict=True)
        for path, _ in jax.tree_util.tree_leaves_with_path(value)
    )


def result_names(result: Any) -> tuple[str, ...]:
    """The name of each leaf of a result: ``result``, or ``result[1]``."""
    return leaf_names(["result"], [result])


def describe(leaf: Any) -> str:
    """The short form of a leaf's type, such as ``float32[3,2]``."""
    if is_scalar(leaf):
        return type(leaf).__name__
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
