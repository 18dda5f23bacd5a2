"""The arguments of a plain C function, made from a signature.

By default a function takes its operands, then its attributes, then its sizes (``int64_t``, in order of first
appearance), then its results. ``arguments="&n, &nrhs, lu=a, &n, ipiv, x=b, &n, &status"`` gives another order:

    x           a pointer to the numbers of an operand or result; or a number by value, for an attribute, a size
                (`n`, `n*d`), or an operand that the signature passes by value
    &n          a pointer to such a number (Fortran)
    3  1.0  'N' a constant; with & a pointer to it
    lu=a        a result that starts as a copy of an operand, for functions that overwrite their input; no copy with
                ``aliases={"lu": "a"}``
    &status     a pointer to an integer; any value other than 0 is an error
    scratch f64[4*n]   memory for this call only
    n:i32       any number as another type

Each item is first parsed into a `Scratch`, `Copied` or `Value`. An `_Emitter` then writes its C++, because only a
signature tells whether a name is an array, an attribute or a size.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass

from jaxprim import _origin
from jaxprim._errors import KernelError, message
from jaxprim.kernels import sizes
from jaxprim.kernels.dtypes import DTYPES, DType
from jaxprim.kernels.signature import Array, KernelSignature, literal
from jaxprim.kernels.sizes import local


@dataclass(frozen=True)
class Argument:
    """One argument of the function.

    Attributes:
        type: its C type.
        value: the expression to pass.
        before: statements that must run before the call.
        after: statements that must run after it.
    """

    type: str
    value: str
    before: str = ""
    after: str = ""


@dataclass(frozen=True)
class Layout:
    """How arguments reach a function.

    Attributes:
        size: the dtype of sizes.
        is_declared: whether the compiler sees the function's own declaration, so that it can convert arguments.
        number: the C++ type that real numbers have instead of their own, for a function that is a template; else "".
    """

    size: str = "i64"
    is_declared: bool = False
    number: str = ""


def c_arguments(signature: KernelSignature, spec: str | None, layout: Layout) -> list[Argument]:
    """The arguments of the function behind a signature, in the order that ``arguments=`` gives.

    Raises:
        KernelError: an item cannot be read.
    """
    emitter = _Emitter(signature, layout)
    items = default_order(signature) if spec is None else _split(signature, spec)
    found: list[Argument] = []
    for index, text in enumerate(items):
        argument = emitter.emit(_parse(text), f"argument{index}")
        if argument is None:
            raise _unknown(signature, text, spec or "")
        found.append(argument)
    return found


def default_order(signature: KernelSignature) -> list[str]:
    """Operands, attributes, sizes, results. An operand in the memory of a result is that result."""
    by_pointer = [array.name for array in signature.results if not array.by_value]
    attributes = [attribute.name for attribute in signature.attributes]
    plain_sizes = [size for size in signature.sizes if size not in attributes]
    return [*(array.name for array in signature.inputs), *attributes, *plain_sizes, *by_pointer]


# ------------------------------------------------------------------------------------------------------------ parsing
@dataclass(frozen=True)
class Scratch:
    """``scratch f64[4*n]``."""

    dtype: str
    size: str


@dataclass(frozen=True)
class Copied:
    """``lu=a``."""

    result: str
    operand: str


@dataclass(frozen=True)
class Value:
    """``x``, ``&n``, ``n*d``, ``n:i32``, ``3``, ``'N'``: the text between `&` and `:`."""

    text: str
    dtype: str | None = None
    by_pointer: bool = False


_PIECE = re.compile(r"(?:'[^']*'|\[[^\]]*\]|\([^)]*\)|[^,'\[(])+|,")
_ITEM = re.compile(r"(&)?\s*(.+?)\s*(?::\s*(\w+))?", re.DOTALL)
_SCRATCH = re.compile(r"scratch\s+(\w+)\s*\[(.+)\]", re.DOTALL)
_COPY = re.compile(r"(\w+)\s*=\s*(\w+)")


def _split(signature: KernelSignature, spec: str) -> list[str]:
    """The items between commas, except commas in quotes and brackets."""
    pieces = _PIECE.findall(spec) if isinstance(spec, str) else []  # pyright: ignore[reportUnnecessaryIsInstance]
    if "".join(pieces) != spec:
        raise _unknown(signature, "a bracket or quote without its partner", spec)
    return [piece.strip() for piece in pieces if piece.strip() not in ("", ",")]


def _parse(text: str) -> Scratch | Copied | Value:
    if match := _SCRATCH.fullmatch(text):
        return Scratch(match[1], match[2])
    if match := _COPY.fullmatch(text):
        return Copied(match[1], match[2])
    match = _ITEM.fullmatch(text)
    return Value(text) if match is None else Value(match[2], match[3], match[1] is not None)


# --------------------------------------------------------------------------------------------------- what is left out
def refuse_left_out(signature: KernelSignature, spec: str | None, kept: Collection[str] = ()) -> None:
    """Refuse an ``arguments=`` that does not pass on all that the signature has.

    A result that the function does not get is memory that nobody writes. An operand or attribute that it does not get
    cannot change the result, except as a size; so an operand may be left out if only its sizes matter, or if it is in
    ``kept``, the names that a set-up gets.
    """
    if spec is None:
        return
    items = [_parse(text) for text in _split(signature, spec)]
    copied = {item.result for item in items if isinstance(item, Copied)}
    passed = {*kept, *(name for item in items for name in _names(item))}
    passed |= {operand for operand, result in signature.in_place.items() if result in passed - copied}
    sizes_of = {array.name: _sizes_in(array) for array in signature.operands}
    known = {size for name, found in sizes_of.items() if name in passed for size in found}
    used = passed.union(signature.sizes, *map(_sizes_in, signature.results))
    missing = (
        *(("result", row.name) for row in signature.results if not row.by_value and row.name not in passed),
        *(("operand", name) for name, found in sizes_of.items() if name not in passed and found <= known),
        *(("attribute", row.name) for row in signature.attributes if row.name not in used),
    )
    for kind, name in missing:
        raise _left_out(signature, kind, name, spec)


def _sizes_in(array: Array) -> set[str]:
    return {name for node in array.expressions for name in sizes.names(node)}


def _names(item: Scratch | Copied | Value) -> set[str]:
    """The names that an item reads or writes."""
    if isinstance(item, Copied):
        return {item.result, item.operand}
    node = sizes.parse(item.size if isinstance(item, Scratch) else item.text)
    return set() if node is None else set(sizes.names(node))


def _left_out(signature: KernelSignature, kind: str, name: str, spec: str) -> KernelError:
    why = "nothing would write it" if kind == "result" else "it could not change the result"
    complete = ", ".join([*_split(signature, spec), name])
    return KernelError(
        message(
            f"arguments= leaves out the {kind} '{name}'.",
            got=f"arguments={spec!r}",
            expected=f"all operands, attributes and results of {signature}",
            why=f"the function does not get {name}, so {why}",
            defined=_origin.place(),
            write=f'arguments="{complete}"  # {name} at its place',
        )
    )


# ----------------------------------------------------------------------------------------------------------- emitting
class _Emitter:
    """Writes the C++ of parsed items. Each method gives None if its item does not fit the signature."""

    def __init__(self, signature: KernelSignature, layout: Layout) -> None:
        self.signature, self.layout = signature, layout
        self.operands = {array.name: array for array in signature.operands}
        self.results = {array.name: array for array in signature.results}
        self.arrays = {name: row for name, row in (self.operands | self.results).items() if not row.by_value}
        by_value = [array for array in signature.operands if array.by_value]
        self.scalars = {row.name: row.type for row in (*signature.attributes, *by_value)}
        integers = {row.name for row in signature.attributes if row.type.numpy.kind in "iu"}
        self.sizes = {*signature.sizes, *integers}

    def emit(self, item: Scratch | Copied | Value, name: str) -> Argument | None:
        """An argument. ``name`` is that of a variable that it may declare."""
        match item:
            case Scratch():
                return self.scratch(item, name)
            case Copied():
                return self.copy(item)
            case Value(text, dtype=None, by_pointer=False) if text in self.arrays:
                return self.array(self.arrays[text])
            case Value():
                return self.number(item, name)

    def scratch(self, item: Scratch, name: str) -> Argument | None:
        node = sizes.parse(item.size)
        if item.dtype not in DTYPES or node is None or not set(sizes.names(node)) <= set(self.signature.sizes):
            return None
        kind = self.kind(DTYPES[item.dtype])
        declared = f"std::unique_ptr<{kind}[]> {name}(new {kind}[{sizes.to_c(node)}]);"
        return Argument(f"{kind}*", f"{name}.get()", declared)

    def copy(self, item: Copied) -> Argument | None:
        result, operand = self.results.get(item.result), self.operands.get(item.operand)
        if result is None or operand is None or result.by_value:
            return None
        if (result.dtype, result.dims) != (operand.dtype, operand.dims):
            return None
        if self.signature.in_place.get(operand.name) == result.name:
            return self.array(result)
        target, count = local(result.name), " * ".join(["INT64_C(1)", *map(sizes.to_c, operand.expressions)])
        return Argument(f"{result.type.c}*", target, f"copy({target}, {local(operand.name)}, {count});")

    def kind(self, dtype: DType) -> str:
        """The C type of an element."""
        return self.layout.number if self.layout.number and dtype.numpy.kind == "f" and dtype.c_value else dtype.c

    def array(self, array: Array) -> Argument:
        is_written = array.name in self.results or array.name in self.signature.in_place
        kind = array.type.c if is_written else f"const {array.type.c}"
        return Argument(f"{kind}*", local(array.name))

    def number(self, item: Value, name: str) -> Argument | None:
        """A number by value, or a pointer to a variable that holds it."""
        if item.dtype is not None and (item.dtype not in DTYPES or DTYPES[item.dtype].c_value is None):
            return None
        if item.by_pointer and item.text == "status" and "status" in {*self.scalars, *self.sizes}:
            return None  # which of the two is meant?
        is_constant = literal(item.text) is not None
        found = self.constant(item) if is_constant else self.status(item) or self.scalar(item) or self.size(item)
        if found is None or not item.by_pointer:
            return found
        after = f"call.status({name});" if item.text == "status" else ""
        return Argument(f"{found.type}*", f"&{name}", f"{found.type} {name} = {found.value};", after)

    def status(self, item: Value) -> Argument | None:
        is_status = item.text == "status" and item.by_pointer
        return self.convert(item, self.layout.size, "0") if is_status else None

    def scalar(self, item: Value) -> Argument | None:
        """An attribute, or an operand that is passed by value."""
        if item.text not in self.scalars:
            return None
        own = self.scalars[item.text].name
        if own == "i64" and self.layout.is_declared and item.dtype is None and not item.by_pointer:
            return Argument("int64_t", f"jaxprim::Integer{{{local(item.text)}}}")  # as a size
        return self.convert(item, own, local(item.text))

    def constant(self, item: Value) -> Argument | None:
        match literal(item.text):
            case bool() as value:
                return self.convert(item, "bool", str(value).lower())
            case str() as value if len(value) == 1 and value.isascii() and item.dtype is None:
                return Argument("char", f"static_cast<char>({ord(value)})")
            case int() as value if item.dtype is None and abs(value) < 2**31:
                return Argument("int", f"static_cast<int>({value})")
            case int() | float() as value:
                return self.real(item, value)
            case _:
                return None

    def real(self, item: Value, value: float) -> Argument | None:
        own = "f64" if isinstance(value, float) else "i64" if value <= sizes.LARGEST else "u64"
        wanted = DTYPES[item.dtype or own]
        if not math.isfinite(value) or (wanted.is_attribute and wanted.scalar(value) is None):
            return None
        shown = repr(value) + "u" * (own == "u64")
        return self.convert(item, own, shown if value != -(2**63) else "INT64_MIN")

    def size(self, item: Value) -> Argument | None:
        """A size, or arithmetic on sizes."""
        node = sizes.parse(item.text)
        if node is None or not set(sizes.names(node)) <= self.sizes:
            return None
        value = sizes.to_c(node)
        if self.layout.is_declared and item.dtype is None and not item.by_pointer:
            return Argument("int64_t", _checked(value))  # it converts itself to the integer type that is declared
        return self.convert(item, "i64", value, self.layout.size)

    def convert(self, item: Value, own: str, value: str, default: str | None = None) -> Argument | None:
        """A number of the dtype ``own``, as the type that an item asks for with `:`, or else as the default.

        None if that type is of a kind that cannot hold it: a real number is no integer, and a complex one is not real.
        """
        wanted, source = DTYPES[item.dtype or default or own], DTYPES[own]
        if wanted.rank < source.rank:
            return None
        if self.layout.number and item.dtype is None and source.numpy.kind == "f" and literal(item.text) is None:
            return Argument("auto", value)  # it may carry a derivative
        if wanted.numpy.kind in "iu" and wanted is not source:
            value = _checked(value)
        if wanted.numpy.kind == "c" and source.numpy.kind != "c":
            value = f"static_cast<double>({value})"
        kind = wanted.c if self.layout.is_declared else str(wanted.c_value)
        return Argument(kind, f"static_cast<{kind}>({value})")


def _checked(value: str) -> str:
    """An integer that refuses to become one of a type that it does not fit."""
    return f"jaxprim::Size{{static_cast<int64_t>({value})}}"


def _unknown(signature: KernelSignature, item: str, spec: str) -> KernelError:
    names = [row.name for row in (*signature.operands, *signature.attributes, *signature.results)]
    return KernelError(
        message(
            f"arguments={spec!r} can't be read.",
            got=item,
            expected=f"one of {', '.join([*names, *signature.sizes])}; with & a pointer to a number; a constant; "
            "result=operand of the same type; &status; scratch f64[n]",
            why=f"the signature is {signature}",
            defined=_origin.place(),
        )
    )
