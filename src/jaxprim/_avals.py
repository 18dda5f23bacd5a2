"""Types of operands and results: read them from authors, complete them, compare them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxprim import _jax
from jaxprim._errors import BadCall, an, message

Aval = Any


def short(aval: Aval) -> str:
    """A type as messages show it: ``float32[3,2]``."""
    return f"{aval.dtype.name if hasattr(aval.dtype, 'name') else aval.dtype}[{','.join(map(str, aval.shape))}]"


def short_value(value: Any) -> str:
    """The type of a value that a rule returned; its Python type if it is not an array."""
    try:
        return short(value if is_aval(value) else _jax.typeof(value))
    except TypeError:
        return "None" if value is None else an(type(value).__name__)


def same_type(got: Aval, expected: Aval) -> bool:
    """Whether two types agree in shape and dtype (weak types, shardings and varying axes aside)."""
    return tuple(got.shape) == tuple(expected.shape) and got.dtype == expected.dtype


WITHOUT_X64 = "JAX disables 64-bit types by default"
ENABLE_X64 = 'jax.config.update("jax_enable_x64", True)'


def needs_x64(dtype: np.dtype[Any]) -> bool:
    """Whether JAX has a dtype only with 64-bit types, which are switched off."""
    return not _is_extended(dtype) and jax.dtypes.canonicalize_dtype(dtype) != dtype


def refuse_byte_order(owner: str, name: str, value: Any, **place: Any) -> None:
    """Refuse an operand whose bytes have another order than this machine's, which JAX does not take.

    Args:
        owner: the primitive or kernel.
        name: the operand.
        value: the operand's value.
        place: the facts that say where the owner was made: ``rule=`` or ``defined=``.
    """
    if not isinstance(value, np.ndarray | np.generic) or value.dtype.isnative:
        return
    native = value.dtype.newbyteorder("=").name
    raise BadCall(
        message(
            f"{owner}: operand '{name}' has another byte order than this machine.",
            got=f"{value.dtype.str}{list(value.shape)}",
            expected=f"{native}, in this machine's byte order",
            write=f"{name}.astype('{native}')",
            **place,
        )
    ) from None


def is_aval(value: Any) -> bool:
    """Whether an author's abstract eval may return this as a type."""
    return isinstance(value, jax.ShapeDtypeStruct | _jax.ShapedArray)


def from_author(value: Any) -> Aval:
    """The aval of a ``jax.ShapeDtypeStruct`` or ``ShapedArray``, in JAX's dtype (64 bits only under x64)."""
    dtype = value.dtype if _is_extended(value.dtype) else jax.dtypes.canonicalize_dtype(np.dtype(value.dtype))
    return _jax.ShapedArray(tuple(value.shape), dtype, bool(getattr(value, "weak_type", False)))


def _is_extended(dtype: Any) -> bool:
    return _jax.is_extended(dtype)


def in_operands_mesh(avals: Sequence[Aval], operands: Sequence[Aval]) -> tuple[Aval, ...]:
    """Put hand-written result types into the operands' mesh, with their varying axes inside ``shard_map``."""
    like = next((aval for aval in operands if _jax.has_mesh(aval)), None)
    if like is None:
        return tuple(avals)
    axes = union_varying(operands)
    return tuple(_jax.in_mesh(aval, axes, like) for aval in avals)


def union_varying(avals: Sequence[Aval]) -> frozenset[Any]:
    return frozenset().union(*(_jax.varying(aval) for aval in avals))


def equalize_varying(values: Sequence[Any], but: Sequence[bool] | None = None) -> list[Any]:
    """Cast all operands to the same varying axes, so that cotangents of replicated ones are summed over the mesh.

    ``but`` says which stay as they are: what a function closes over is used by JAX's own operations, which sum.
    """
    axes = union_varying([_jax.typeof(value) for value in values])
    if not axes:
        return list(values)
    kept = but or [False] * len(values)
    return [value if stays else _jax.cast_varying(value, axes) for value, stays in zip(values, kept, strict=True)]


def nonzero(values: Sequence[Any]) -> tuple[bool, ...]:
    """Which tangents or cotangents are not symbolically zero."""
    return tuple(not isinstance(value, _jax.JaxZero) for value in values)


def instantiate(values: Sequence[Any]) -> list[Any]:
    """Tangents or cotangents as arrays: a symbolic zero becomes an array of zeros."""
    return [_jax.zeros(value.aval) if isinstance(value, _jax.JaxZero) else value for value in values]
