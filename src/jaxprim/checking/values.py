"""Operands and results as flat lists of named leaves, and their values as NumPy arrays in double precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Path = tuple[Any, ...]


def is_key(leaf: Any) -> bool:
    """Whether a leaf holds typed PRNG keys."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def is_scalar(leaf: Any) -> bool:
    """Whether a leaf is a Python number, which JAX types weakly."""
    return isinstance(leaf, bool | int | float | complex) and not isinstance(leaf, np.generic)


def has_tangents(leaf: Any) -> bool:
    """Whether one may differentiate with respect to a leaf: real and complex numbers, not integers, booleans or keys."""
    return not is_key(leaf) and bool(jnp.issubdtype(jnp.result_type(leaf), jnp.inexact))


def wide(leaf: Any) -> Array:
    """The numbers of a leaf in the widest type of their kind: float64, complex128, int64, uint64 or bool."""
    array = np.asarray(jax.random.key_data(leaf)) if is_key(leaf) else np.asarray(leaf)
    if array.dtype == jax.dtypes.float0:
        return np.zeros(array.shape)
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        return array.astype(np.complex128)
    if jnp.issubdtype(array.dtype, jnp.floating):
        return array.astype(np.float64)
    return array


def epsilon(leaf: Any) -> float:
    """The spacing of numbers near 1 in the dtype of a leaf; 0 if arithmetic is exact."""
    dtype = leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)
    return float(jnp.finfo(dtype).eps) if jnp.issubdtype(dtype, jnp.inexact) else 0.0


def tiny(leaf: Any) -> float:
    """The smallest normal number in the dtype of a leaf: XLA may round smaller numbers to zero."""
    dtype = leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)
    return float(jnp.finfo(dtype).tiny) if jnp.issubdtype(dtype, jnp.inexact) else 0.0


def largest(leaf: Any) -> float:
    """The largest number in the dtype of a leaf; infinite if arithmetic is exact."""
    dtype = leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)
    return float(jnp.finfo(dtype).max) if jnp.issubdtype(dtype, jnp.inexact) else np.inf


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
    return leaf if is_scalar(leaf) or is_key(leaf) else jnp.asarray(leaf)


def doubled(leaf: Any) -> Any:
    """A leaf in double precision, under x64; integers and keys stay as they are."""
    return leaf if is_scalar(leaf) or not has_tangents(leaf) else jnp.asarray(wide(leaf))


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
