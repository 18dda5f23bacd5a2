"""Match one call with a signature: its sizes, batch axes and result types, or an error that names what does not fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxprim import _jax
from jaxprim._avals import ENABLE_X64, WITHOUT_X64, needs_x64, short
from jaxprim._errors import BadCall, an, message
from jaxprim.kernels import sizes
from jaxprim.kernels.dtypes import DTYPES, name_of, rank_of
from jaxprim.kernels.signature import Array, Attribute, KernelSignature


@dataclass(frozen=True)
class Binding:
    """What a call and a signature say together.

    Attributes:
        signature: the signature with its type variables replaced.
        sizes: the value of each named size and integer attribute.
        batch: the sizes of the batch axes, which come first in every result.
        shapes: the operands' shapes with all batch axes: ``(*batch, *own)``, where a batch axis may have size 1.
        attributes: the attributes, as NumPy scalars, in the signature's order.
        results: the result types.
    """

    signature: KernelSignature
    sizes: Mapping[str, int]
    batch: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]
    attributes: tuple[tuple[str, Any], ...]
    results: tuple[Any, ...]


class _Misfit(Exception):
    """Something does not fit. Carries the headline and the facts of a `message`."""

    def __init__(self, headline: str, **facts: Any) -> None:
        super().__init__(headline)
        self.headline, self.facts = headline, facts


def bind(
    name: str, signature: KernelSignature, avals: Sequence[Any], given: Mapping[str, Any], defined: str | None = None, *,
    halves: bool = False,
) -> Binding:  # fmt: skip
    """Match operand types and attributes with a signature.

    Args:
        name: the kernel's name, for messages.
        signature: what it takes.
        avals: the types of the operands.
        given: the attributes.
        defined: where the kernel was made, for messages.
        halves: whether a type variable may stand for f16 and bf16, which C gets as bits.

    Raises:
        BadCall: with the name of what does not fit.
    """
    try:
        if not halves:
            _refuse_bits(signature, avals)
        return _bind(name, signature, avals, given)
    except _Misfit as misfit:
        raise BadCall(message(f"{name}: {misfit.headline}", defined=defined, **misfit.facts)) from None


def _bind(name: str, signature: KernelSignature, avals: Sequence[Any], given: Mapping[str, Any]) -> Binding:
    by_keyword = [array.name for array in signature.operands if array.name in given]
    if by_keyword:
        raise _Misfit(
            f"operand '{by_keyword[0]}' is given by keyword.",
            got=f"{by_keyword[0]}=...",
            expected=f"operands by position, attributes by keyword: {signature}",
            write=f"{name}({', '.join(array.name for array in signature.operands)})",
        )
    if len(avals) != len(signature.operands):
        raise _Misfit(
            "wrong number of operands.",
            got=f"{len(avals)}",
            expected=f"{len(signature.operands)}: {signature}",
        )
    resolved = signature.resolve(_types(signature, avals))
    for declared, array, aval in zip(signature.operands, resolved.operands, avals, strict=True):
        if not accepts(array, aval):
            raise _other_dtype(signature, declared, array, aval, avals)
        _check_rank(name, array, aval)
    found = _sizes(resolved, avals)
    attributes = _attributes(resolved, given)
    values = {**found, **{key: int(value) for key, value in attributes if value.dtype.kind in "iu"}}
    batch = _batch(resolved, avals)
    return Binding(
        resolved,
        values,
        batch,
        tuple(_with_batch(array, aval, len(batch)) for array, aval in zip(resolved.operands, avals, strict=True)),
        attributes,
        tuple(_result(array, batch, values) for array in resolved.results),
    )


# --------------------------------------------------------------------------------------------------------- operands
def _types(signature: KernelSignature, avals: Sequence[Any]) -> dict[str, str]:
    """The dtype that each type variable stands for."""
    return {variable: _dtype_name(*_says(signature, variable, avals)) for variable in signature.variables}


def _says(signature: KernelSignature, variable: str, avals: Sequence[Any]) -> tuple[Array, Any]:
    """The operand that says what a type variable stands for, and its type.

    It is the first one that has the variable. Python numbers have no dtype of their own. They count only if no other
    operand has it, and then the widest kind does, as in arithmetic: an int and a float together are floats.
    """
    rows = [row for row in zip(signature.operands, avals, strict=True) if row[0].dtype == variable]
    own = [row for row in rows if not row[1].weak_type]
    return own[0] if own else max(rows, key=lambda row: rank_of(row[1].dtype))


def _refuse_bits(signature: KernelSignature, avals: Sequence[Any]) -> None:
    """Refuse half precision for a type variable: a C++ template would silently compute with the bits as integers."""
    for array, aval in zip(signature.operands, avals, strict=False):
        dtype = name_of(aval.dtype)
        if array.dtype in signature.variables and dtype is not None and DTYPES[dtype].c_value is None:
            raise _Misfit(
                f"operand '{array.name}' has a dtype that the type variable {array.dtype} does not cover.",
                got=short(aval),
                expected=f"another dtype: a C function gets {dtype} numbers as bits, in uint16_t",
                write=f"{array.name}.astype('float32')  # or {dtype} in the signature, if the function takes bits",
            )


def _dtype_name(array: Array, aval: Any) -> str:
    dtype = name_of(aval.dtype)
    if dtype is None:
        raise _Misfit(
            f"operand '{array.name}' has a dtype that kernels do not support.",
            got=short(aval),
            expected=f"one of {' '.join(DTYPES)}",
        )
    return dtype


def accepts(array: Array, aval: Any) -> bool:
    """Whether an operand has the declared dtype, or is a Python number that can take it."""
    wanted = array.type.numpy
    if aval.dtype == wanted:
        return True
    return bool(aval.weak_type) and rank_of(aval.dtype) <= rank_of(wanted) and not needs_x64(wanted)


def _other_dtype(signature: KernelSignature, declared: Array, array: Array, aval: Any, avals: Sequence[Any]) -> _Misfit:
    wanted = array.type.numpy
    x64 = needs_x64(wanted)
    if _jax.is_key(aval):
        return _Misfit(
            f"operand '{array.name}' is a PRNG key.",
            got=short(aval),
            expected=f"{array}",
            write=f"jax.random.key_data({array.name})  # u32[..., 2] in the signature",
        )
    by = _says(signature, declared.dtype, avals)[0].name if declared.dtype in signature.variables else None
    return _Misfit(
        f"operand '{array.name}' does not have the dtype of the signature.",
        got=short(aval),
        expected=str(array),
        why=WITHOUT_X64 if x64 else None,
        write=ENABLE_X64 if x64 else _fix(array, aval, by),
    )


def _fix(array: Array, aval: Any, by: str | None) -> str:
    """The line that gives an operand the right dtype, and loses nothing of its values."""
    wanted, name = array.type.numpy, name_of(aval.dtype) or aval.dtype
    if not isinstance(aval.dtype, np.dtype) or rank_of(aval.dtype) <= rank_of(wanted):
        return f"{array.name}.astype('{wanted.name}')  # or {name} in the signature"
    if by is not None:
        return f"jnp.asarray({by}, '{aval.dtype.name}')  # it says the dtype of {array.name}"
    return f"{name} in the signature  # {array.dtype} can't hold all values of {array.name}"


def _check_rank(name: str, array: Array, aval: Any) -> None:
    extra = len(aval.shape) - len(array.dims)
    if extra == 0 or (extra > 0 and array.batched):
        return
    axes = f"{len(array.dims)} axes" if len(array.dims) != 1 else "1 axis"
    more = f"{array.dtype}[{', '.join(['...', *array.dims])}]"
    raise _Misfit(
        f"operand '{array.name}' has the wrong rank.",
        got=f"{short(aval)}, rank {len(aval.shape)}",
        expected=f"{array}, {axes}" + (" or more" if array.batched else ""),
        write=f"jax.vmap({name})  # or {more} in the signature: batch axes before its own" if extra > 0 else None,
    )


def _sizes(signature: KernelSignature, avals: Sequence[Any]) -> dict[str, int]:
    found: dict[str, int] = {}
    said_by: dict[str, str] = {}
    for array, aval in zip(signature.operands, avals, strict=True):
        own = aval.shape[len(aval.shape) - len(array.dims) :]
        for dim, size in zip(array.dims, own, strict=True):
            known = int(dim) if dim.isdigit() else found.setdefault(dim, size)
            if known != size:
                origin = "" if dim.isdigit() else f" with {dim} = {known}, as operand '{said_by[dim]}' says"
                raise _Misfit(
                    f"operand '{array.name}' has a size that does not fit the signature.",
                    got=short(aval),
                    expected=f"{array}{origin}",
                )
            said_by.setdefault(dim, array.name)
    return found


def _batch_shape(array: Array, aval: Any) -> tuple[int, ...]:
    return tuple(aval.shape[: len(aval.shape) - len(array.dims)])


def _batch(signature: KernelSignature, avals: Sequence[Any]) -> tuple[int, ...]:
    """The batch axes that the operands' `...` stand for, broadcast as in NumPy."""
    extras = {a.name: _batch_shape(a, v) for a, v in zip(signature.operands, avals, strict=True) if a.batched}
    try:
        return jax.lax.broadcast_shapes((), *extras.values())  # NumPy's takes no symbolic sizes
    except ValueError:
        raise _Misfit(
            "the batch axes of its operands do not broadcast.",
            got=", ".join(f"{key}: {list(shape)}" for key, shape in extras.items()),
            expected="axes of the same size, or of size 1, counted from the last",
        ) from None


def _with_batch(array: Array, aval: Any, rank: int) -> tuple[int, ...]:
    """An operand's shape with all ``rank`` batch axes. Those that it lacks get size 1."""
    extra = _batch_shape(array, aval)
    return (*[1] * (rank - len(extra)), *aval.shape)


def _result(array: Array, batch: tuple[Any, ...], values: Mapping[str, int]) -> Any:
    try:
        own: tuple[Any, ...] = tuple(sizes.evaluate(node, values) for node in array.expressions)
    except ZeroDivisionError:
        raise _Misfit(
            f"a size of the result '{array.name}' is divided by 0.",
            got=f"{array} with {', '.join(f'{key} = {value}' for key, value in values.items()) or 'no sizes'}",
            expected="a divisor that is not 0",
        ) from None
    if any(isinstance(size, int) and size < 0 for size in own):  # a symbolic size is known only when it runs
        raise _Misfit(
            f"the result '{array.name}' would have a negative size.",
            got=f"{array} = {array.dtype}{list(own)}",
            expected="sizes of 0 or more",
        )
    numbers = math.prod(size for size in (*batch, *own) if isinstance(size, int) and size)
    if numbers * array.type.numpy.itemsize > sizes.LARGEST:
        raise _Misfit(
            f"the result '{array.name}' would be larger than any memory.",
            got=f"{array} = {array.dtype}{[*batch, *own]}",
            expected=f"at most {sizes.LARGEST} bytes",
        )
    return _jax.ShapedArray((*batch, *own), array.type.numpy)


# ------------------------------------------------------------------------------------------------------- attributes
def _attributes(signature: KernelSignature, given: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    known = {attribute.name for attribute in signature.attributes}
    unknown = [key for key in given if key not in known]
    if unknown:
        raise _Misfit(
            f"unknown attribute '{unknown[0]}'.",
            got=f"{unknown[0]}=...",
            expected=f"attributes {', '.join(sorted(known)) or 'none'}: {signature}",
        )
    return tuple((row.name, _attribute(row, given.get(row.name, row.default))) for row in signature.attributes)


def _attribute(row: Attribute, value: Any) -> Any:
    if value is None:
        raise _Misfit(f"the attribute '{row.name}' is missing.", expected=str(row), write=f"{row.name}=...")
    if isinstance(value, _jax.Tracer):
        raise _Misfit(
            f"the attribute '{row.name}' is a traced value.",
            got=f"{short(value.aval)} (traced)",
            expected=f"a number that is known while tracing, for {row}",
            why="attributes are part of the compiled program; a traced value must be an operand",
            write=f"(..., {row.name}: {row.dtype}) -> ...  # before the `;`, so that it is an operand",
        )
    if not row.type.is_attribute:
        raise _Misfit(
            f"the attribute '{row.name}' would be {an(row.dtype)} number.",
            got=str(row),
            expected="f32, f64, an integer or bool, as XLA passes no others as attributes",
            write=f"(..., {row.name}: {row.dtype}[]) -> ...  # before the `;`, so that it is an operand",
        )
    number = row.type.scalar(value)
    if number is None:
        raise _Misfit(f"the attribute '{row.name}' has a value that does not fit.", got=repr(value), expected=str(row))
    return number
