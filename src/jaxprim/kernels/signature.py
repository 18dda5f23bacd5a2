"""A kernel's signature: ``"(x: f32[n, d], w: f32[d]; eps: f32) -> f32[n, d]"``.

    signature   [NAME] ( operands [; attributes] ) -> results
    operand     [NAME:] TYPE            result   [NAME:] TYPE, or several in parentheses
    attribute   NAME: DTYPE [= VALUE]   a static number, given by keyword
    type        DTYPE[sizes]            an array, passed by pointer
                DTYPE                   one number, passed (or returned) by value
    sizes       names and integers; a leading `...` stands for batch axes; a result may have `n + 1` or `n // 2`
    dtype       f16 bf16 f32 f64 c64 c128 i8..i64 u8..u64 bool, or a capital letter such as T for any of them

A signature with only numbers, such as ``"(f64, f64) -> f64"``, is elementwise: every operand and result gets a `...`.
"""

from __future__ import annotations

import ast
import keyword
import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

from jaxprim import _origin
from jaxprim._errors import KernelError, an, message
from jaxprim.kernels import sizes
from jaxprim.kernels.dtypes import DTYPES, DType

_NAME = r"[^\W\d]\w*"
_WHOLE = re.compile(rf"\s*({_NAME})?\s*\((.*?)\)\s*->\s*(.+)", re.DOTALL)
_TYPE = re.compile(rf"(?:({_NAME})\s*:)?\s*({_NAME})\s*(\[.*\])?", re.DOTALL)
_ATTRIBUTE = re.compile(rf"({_NAME})\s*:\s*({_NAME})\s*(?:=\s*(.+))?", re.DOTALL)
_VARIABLE = re.compile(r"[A-Z]\w*")


@dataclass(frozen=True)
class Array:
    """One operand or result.

    Attributes:
        name: its name in messages and in ``arguments=``.
        dtype: its dtype, or a type variable.
        dims: its sizes, as written.
        batched: whether it has a leading `...`.
        by_value: whether it is a single number, passed or returned by value.
    """

    name: str
    dtype: str
    dims: tuple[str, ...] = ()
    batched: bool = False
    by_value: bool = False

    @property
    def type(self) -> DType:
        return DTYPES[self.dtype]

    @cached_property
    def expressions(self) -> tuple[ast.expr, ...]:
        """The sizes as expressions."""
        return tuple(node for dim in self.dims if (node := sizes.parse(dim)) is not None)

    def __str__(self) -> str:
        dims = (("...",) if self.batched else ()) + self.dims
        return self.dtype if self.by_value else f"{self.dtype}[{', '.join(dims)}]"


@dataclass(frozen=True)
class Attribute:
    """A static number. ``default`` is None if there is none."""

    name: str
    dtype: str
    default: Any = None

    @property
    def type(self) -> DType:
        return DTYPES[self.dtype]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}" + ("" if self.default is None else f" = {self.default}")


@dataclass(frozen=True)
class KernelSignature:
    """What a kernel takes and returns.

    Attributes:
        aliases: the pairs of a result and an operand that are in the same memory, by name; see `aliases.shared`.
    """

    function: str | None
    operands: tuple[Array, ...]
    attributes: tuple[Attribute, ...]
    results: tuple[Array, ...]
    several: bool
    aliases: tuple[tuple[str, str], ...] = ()

    @cached_property
    def in_place(self) -> dict[str, str]:
        """For the name of each operand that shares its memory with a result, the name of that result."""
        return {operand: result for result, operand in self.aliases}

    @cached_property
    def alias_places(self) -> dict[int, int]:
        """The same by position."""
        results = [array.name for array in self.results]
        places = ((i, self.in_place.get(array.name)) for i, array in enumerate(self.operands))
        return {i: results.index(name) for i, name in places if name is not None}

    @property
    def inputs(self) -> tuple[Array, ...]:
        """The operands that a function is given beside its results: it finds the others in the results."""
        return tuple(array for array in self.operands if array.name not in self.in_place)

    @cached_property
    def sizes(self) -> tuple[str, ...]:
        """The names of the operands' sizes, in order of first appearance."""
        found = (name for array in self.operands for node in array.expressions for name in sizes.names(node))
        return tuple(dict.fromkeys(found))

    @cached_property
    def variables(self) -> tuple[str, ...]:
        """The type variables."""
        named = (row.dtype for row in (*self.operands, *self.attributes, *self.results))
        return tuple(dict.fromkeys(dtype for dtype in named if dtype not in DTYPES))

    def covers(self, variable: str) -> list[str]:
        """The dtypes that a type variable may stand for in C: none that it gets as bits, or XLA can't pass to it."""
        rows = [row for row in self.attributes if row.dtype == variable]
        return [
            name for name, dtype in DTYPES.items() if dtype.c_value is not None and (dtype.is_attribute or not rows)
        ]

    @property
    def elementwise(self) -> bool:
        """Whether the function takes and returns only single numbers."""
        return all(array.by_value for array in (*self.operands, *self.results))

    def resolve(self, types: dict[str, str]) -> KernelSignature:
        """The signature with its type variables replaced."""
        if not types:
            return self
        swap = lambda rows: tuple(replace(row, dtype=types.get(row.dtype, row.dtype)) for row in rows)
        return replace(self, operands=swap(self.operands), attributes=swap(self.attributes), results=swap(self.results))

    def __str__(self) -> str:
        operands = ", ".join(f"{array.name}: {array}" for array in self.operands)
        attributes = "; " * bool(self.attributes) + ", ".join(map(str, self.attributes))
        results = ", ".join(
            str(array) if array.name.startswith("out") else f"{array.name}: {array}" for array in self.results
        )
        return f"{self.function or ''}({operands}{attributes}) -> {f'({results})' if self.several else results}"


def parse(source: str) -> KernelSignature:
    """Read a signature.

    Raises:
        KernelError: it does not say what a kernel takes and returns.
    """
    if not isinstance(source, str):  # pyright: ignore[reportUnnecessaryIsInstance] types are not checked at run time
        raise _unreadable("", f"{an(type(source).__name__)}", "a string")
    return _parse(str(source))


@lru_cache(maxsize=256)
def _parse(source: str) -> KernelSignature:
    whole = _WHOLE.fullmatch(source)
    if whole is None:
        raise _unreadable(source, source.strip(), "(operands; attributes) -> results")
    function, inputs, output = whole.groups()
    operand_text, _, attribute_text = inputs.partition(";")
    output = output.strip()
    several = output.startswith("(") and output.endswith(")")
    result_text = output[1:-1] if several else output
    if not several and ("," in output[-1:] or len([*_split(output)]) > 1):
        raise _unreadable(source, output, f"several results in parentheses, ({output})")
    operands = _arrays(source, operand_text, "x")
    results = _arrays(source, result_text, "out")
    attributes = tuple(_attribute(source, part) for part in _split(attribute_text))
    found = KernelSignature(function, operands, attributes, results, several)
    if found.elementwise and operands:
        spread = lambda rows: tuple(replace(row, batched=True) for row in rows)
        found = replace(found, operands=spread(operands), results=spread(results))
    for check in _CHECKS:
        check(source, found)
    return found


def _split(part: str) -> Iterator[str]:
    """The pieces between commas, except commas in brackets."""
    depth, start = 0, 0
    for index, char in enumerate(part):
        depth += (char in "[(") - (char in "])")
        if char == "," and depth == 0:
            yield part[start:index].strip()
            start = index + 1
    if part[start:].strip():
        yield part[start:].strip()


def _arrays(source: str, part: str, stem: str) -> tuple[Array, ...]:
    pieces = list(_split(part))
    return tuple(
        _array(source, piece, stem if len(pieces) == 1 else f"{stem}{i + 1}") for i, piece in enumerate(pieces)
    )


def _array(source: str, piece: str, default_name: str) -> Array:
    match = _TYPE.fullmatch(piece)
    if match is None:
        raise _unreadable(source, piece, "a type, such as f32[n, d], or a name and a type, such as x: f32[n, d]")
    name, dtype, bracket = match.groups()
    _check_dtype(source, dtype)
    if bracket is None:
        return Array(name or default_name, dtype, by_value=True)
    dims = list(_split(bracket[1:-1]))
    batched = bool(dims) and dims[0] == "..."
    return Array(name or default_name, dtype, tuple(dims[batched:]), batched)


def _attribute(source: str, piece: str) -> Attribute:
    match = _ATTRIBUTE.fullmatch(piece)
    if match is None:
        raise _unreadable(source, piece, "an attribute, such as eps: f32 or eps: f32 = 1e-6")
    name, dtype, default = match.groups()
    _check_dtype(source, dtype)
    if dtype in DTYPES and not DTYPES[dtype].is_attribute:
        raise _unreadable(source, piece, "an attribute of type f32, f64, an integer or bool (others can be operands)")
    if default is None:
        return Attribute(name, dtype)
    value = literal(default)
    # What a type variable can hold is known only when it is called.
    is_number = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    if not is_number or (dtype in DTYPES and DTYPES[dtype].scalar(value) is None):
        raise _unreadable(source, piece, f"a number as default value, which {dtype} can hold")
    return Attribute(name, dtype, value)


def literal(text: str) -> Any:
    """The constant that a text is; None if it is none."""
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):  # the last two: too deep
        return None


def _check_dtype(source: str, dtype: str) -> None:
    if dtype in DTYPES or (_VARIABLE.fullmatch(dtype) and dtype.lower() not in DTYPES):
        return
    close = f"{dtype.lower()}, one" if dtype.lower() in DTYPES else "one"
    raise _unreadable(source, dtype, f"{close} of {' '.join(DTYPES)}, or a capital letter for any of them")


# ------------------------------------------------------------------------- what must hold of a signature as a whole
def _check_results(source: str, found: KernelSignature) -> None:
    if not found.results:
        raise _unreadable(
            source, "no result", "at least one result: a kernel is pure, and without a result it does nothing"
        )


def _check_names(source: str, found: KernelSignature) -> None:
    """An integer attribute may also be a size; no other name may stand for two things."""
    names = [row.name for row in (*found.operands, *found.attributes, *found.results)]
    plain_sizes = set(found.sizes) - _integers(found)
    for name in names:
        plain = unicodedata.normalize("NFKC", name)  # as Python reads it in a call: `ﬁ` is `fi`
        if keyword.iskeyword(name) or name != plain or not name.isidentifier():
            write = plain if plain.isidentifier() and not keyword.iskeyword(plain) else f"{plain}_"
            raise _unreadable(source, name, f"a name that Python takes for an argument, such as {write}")
        if name.startswith("jaxprim_"):
            raise _unreadable(
                source, name, "a name without jaxprim_ in front, as the attributes of jaxprim itself have"
            )
        if names.count(name) > 1 or name in plain_sizes:
            raise _unreadable(source, name, "names that are all different")


def _integers(found: KernelSignature) -> set[str]:
    """The attributes that may be sizes."""
    return {row.name for row in found.attributes if row.dtype in DTYPES and row.type.numpy.kind in "iu"}


def _check_operand_dims(source: str, found: KernelSignature) -> None:
    """An operand's sizes are read off its shape, so none may be an expression."""
    for array in found.operands:
        for dim in array.dims:
            node = sizes.parse(dim)
            if node is None or isinstance(node, ast.BinOp) or ast.unparse(node) != dim:
                raise _unreadable(source, dim, f"a name or an integer as a size of operand '{array.name}'")


def _check_result_dims(source: str, found: KernelSignature) -> None:
    """A result's sizes are computed from those that a call gives."""
    known = {*found.sizes, *_integers(found)}
    for dim in (dim for array in found.results for dim in array.dims):
        node = sizes.parse(dim)
        if node is None or not set(sizes.names(node)) <= known:
            raise _unreadable(
                source,
                dim,
                "an integer, a size of an operand or an integer attribute, or + - * // of them"
                + (f"; known here: {', '.join(sorted(known))}" if known else ""),
            )


def _check_returned_value(source: str, found: KernelSignature) -> None:
    """A C function returns at most one number."""
    if len(found.results) > 1 and any(array.by_value for array in found.results):
        raise _unreadable(
            source, "several results by value", "one result by value, or results by pointer, such as (f64[], f64[])"
        )


def _check_batch_axes(source: str, found: KernelSignature) -> None:
    """Every result has the batch axes of the operands."""
    has_batch = any(array.batched for array in found.operands)
    if any(array.batched != has_batch for array in found.results):
        raise _unreadable(
            source, "'...' on only some", "'...' on every result if it is on an operand, and on none if not"
        )


def _check_value_types(source: str, found: KernelSignature) -> None:
    for array in (*found.operands, *found.results):
        if array.by_value and array.dtype in DTYPES and array.type.c_value is None:
            raise _unreadable(source, array.dtype, f"{array.dtype}[], as C cannot pass one {array.dtype} by value")


def _check_type_variables(source: str, found: KernelSignature) -> None:
    """The operands of a call say what each type variable stands for."""
    known = {*DTYPES, *(array.dtype for array in found.operands)}
    for row in (*found.attributes, *found.results):
        if row.dtype not in known:
            raise _unreadable(source, row.dtype, f"a type variable that an operand has, or one of {' '.join(DTYPES)}")


_CHECKS = (
    _check_results,
    _check_names,
    _check_operand_dims,
    _check_result_dims,
    _check_returned_value,
    _check_batch_axes,
    _check_value_types,
    _check_type_variables,
)


def _short(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:300]}..."


def _unreadable(source: str, got: str, expected: str) -> KernelError:
    return KernelError(
        message(
            f"this signature can't be read: {_short(' '.join(source.split()))!r}",
            got=_short(got),
            expected=expected,
            defined=_origin.place(),
            write='"(x: f32[n, d], w: f32[d]; eps: f32) -> f32[n, d]"  # for example',
        )
    )
