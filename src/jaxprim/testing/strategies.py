"""Hypothesis strategies for operands: dtypes, shapes, and values with the corners where rules go wrong.

Example::

    @given(strategies.arrays("float32", shape=(3,)))
    def test_scale(x):
        jaxprim.check(scale, x, 2.0, speed="fast")
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy

from jaxprim.checking.values import is_key, is_scalar

__all__ = ["arrays", "corners", "dtypes", "like", "shapes", "values"]

Shape = tuple[int, ...]

REAL = ("float32", "float64", "bfloat16", "float16")
COMPLEX = ("complex64", "complex128")
INTEGER = ("int32", "int64", "uint8", "bool")


def dtypes(*, real: bool = True, complex_: bool = False, integer: bool = False) -> st.SearchStrategy[Any]:
    """Dtypes that arrays may have; 64-bit ones only if jax_enable_x64 is set.

    Example:
        >>> dtypes().example()  # doctest: +SKIP
        dtype('float32')
    """
    names = [*REAL * real, *COMPLEX * complex_, *INTEGER * integer]
    known = [jnp.dtype(name) for name in names if jax.dtypes.canonicalize_dtype(name) == jnp.dtype(name)]
    return st.sampled_from(known)


def shapes(*, max_dims: int = 3, max_side: int = 4, empty: bool = True) -> st.SearchStrategy[Shape]:
    """Shapes, from scalars up; with ``empty``, also shapes of empty arrays."""
    return of_numpy.array_shapes(min_dims=0, max_dims=max_dims, min_side=0 if empty else 1, max_side=max_side)


def corners(dtype: Any, *, finite: bool = True) -> list[Any]:
    """Values of a dtype where rules go wrong: zeros of both signs, ones, the smallest and largest, and infinities.

    Example:
        >>> corners("int32")
        [0, 1, -1, -2147483648, 2147483647]
    """
    kind = jnp.dtype(dtype)
    if kind == np.bool_:
        return [False, True]
    if jnp.issubdtype(kind, jnp.integer):
        limits = jnp.iinfo(kind)
        return [0, 1, *([-1] if limits.min else []), *([int(limits.min)] if limits.min else []), int(limits.max)]
    limits = jnp.finfo(kind)
    sizes = [1.0, float(limits.tiny), float(limits.max), 1 + float(limits.eps)]
    signed = [0.0, -0.0, *sizes, *[-size for size in sizes]]
    return [*signed, *([] if finite else [float("inf"), float("-inf"), float("nan")])]


def values(
    dtype: Any, *, low: float = -10.0, high: float = 10.0, at_corners: bool = False, finite: bool = True
) -> st.SearchStrategy[Any]:
    """Numbers of a dtype between two bounds; with ``at_corners``, also corner values, which may lie outside them.

    Args:
        dtype: the dtype; for complex numbers, the bounds are those of both parts.
        low: the smallest ordinary number.
        high: the largest ordinary number.
        at_corners: whether to draw corners too.
        finite: whether to leave out infinities and NaN among the corners.
    """
    kind = jnp.dtype(dtype)
    if jnp.issubdtype(kind, jnp.complexfloating):
        part = values(jnp.finfo(kind).dtype, low=low, high=high, at_corners=at_corners, finite=finite)
        return st.builds(complex, part, part)
    if kind == np.bool_:
        return st.booleans()
    if jnp.issubdtype(kind, jnp.integer):
        limits = jnp.iinfo(kind)
        ordinary: st.SearchStrategy[Any] = st.integers(max(int(low), limits.min), min(int(high), limits.max))
    else:
        # Sixteenths are exact in every dtype, so failures shrink to readable numbers.
        ordinary = st.integers(round(low * 16), round(high * 16)).map(lambda n: n / 16)
    return st.one_of(ordinary, st.sampled_from(corners(kind, finite=finite))) if at_corners else ordinary


@st.composite
def arrays(
    draw: st.DrawFn, dtype: Any = None, shape: Shape | None = None, *, elements: st.SearchStrategy[Any] | None = None,
    at_corners: bool = False, finite: bool = True,
) -> jax.Array:  # fmt: skip
    """JAX arrays.

    Args:
        draw: given by Hypothesis.
        dtype: the dtype; by default, any real one.
        shape: the shape; by default, any small one.
        elements: the elements; by default, `values` of the dtype.
        at_corners: whether to draw corners too.
        finite: whether to leave out infinities and NaN among the corners.
    """
    kind = jnp.dtype(draw(dtypes()) if dtype is None else dtype)
    size = draw(shapes()) if shape is None else shape
    drawn = elements if elements is not None else values(kind, at_corners=at_corners, finite=finite)
    count = int(np.prod(size))
    numbers = draw(st.lists(drawn, min_size=count, max_size=count))
    return jnp.asarray(np.asarray(numbers, _widest(kind)).reshape(size).astype(kind))


def _widest(kind: Any) -> Any:
    """The NumPy type that holds Python numbers of a kind."""
    if jnp.issubdtype(kind, jnp.complexfloating):
        return np.complex128
    return np.float64 if jnp.issubdtype(kind, jnp.floating) else kind


def like(*operands: Any, at_corners: bool = False, finite: bool = True) -> st.SearchStrategy[tuple[Any, ...]]:
    """Operands of the same trees, shapes and dtypes as these, with other numbers; PRNG keys stay as they are.

    Example:
        >>> import jax.numpy as jnp
        >>> _ = like(jnp.ones(3), {"w": jnp.ones((2, 2))}, 2.0)
    """
    leaves, tree = jax.tree_util.tree_flatten(operands)
    drawn = [_like(leaf, at_corners=at_corners, finite=finite) for leaf in leaves]
    return st.tuples(*drawn).map(lambda found: _together(tree, found))


def _together(tree: Any, leaves: Sequence[Any]) -> tuple[Any, ...]:
    return tree.unflatten(leaves)


def _like(leaf: Any, *, at_corners: bool, finite: bool) -> st.SearchStrategy[Any]:
    if is_key(leaf):
        return st.just(leaf)
    if is_scalar(leaf):
        numbers = values(jnp.result_type(leaf), at_corners=at_corners, finite=finite)
        return numbers.map(type(leaf))
    array = jnp.asarray(leaf)
    return arrays(array.dtype, array.shape, at_corners=at_corners, finite=finite)
