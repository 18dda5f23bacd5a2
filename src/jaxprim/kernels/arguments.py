"""The arguments of a plain C function, made from a signature.

By default a function takes its operands, then its attributes, then its sizes (``int64_t``, in order of first
appearance), then its results. ``arguments="&n, &nrhs, lu=a, &n, ipiv, x=b, &n, &status"`` gives another order:

    x           a pointer to the numbers of an operand or result; or a number by value, for an attribute, a size
                (`n`, `n*d`), or an operand that the signature passes by value
    &n          a pointer to such a number (Fortran)
    3  1.0  'N' a constant; with & a pointer to it
    lu=a        a result that starts as a copy of an operand, for functions that overwrite their input
    &status     a pointer to an integer; any value other than 0 is an error
    scratch f64[4*n]   memory for this call only
    n:i32       any number as another type

Each item is first parsed into a `Scratch`, `Copied` or `Value`. An `_Emitter` then writes its C++, because only a
signature tells whether a name is an array, an attribute or a size.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from jaxprim import _origin
from jaxprim._errors import KernelError, message
from jaxprim.kernels import sizes
from jaxprim.kernels.dtypes import DTYPES
from jaxprim.kernels.signature import Array, KernelSignature
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
    """

    size: str = "i64"
    is_declared: bool = False


def c_arguments(signature: KernelSignature, spec: str | None, layout: Layout) -> list[Argument]:
    """The arguments of the function behind a signature, in the order that ``arguments=`` gives.

    Raises:
        KernelError: an item cannot be read.
    """
    emitter = _Emitter(signature, layout)
    items = default_order(signature) if spec is None else list(_split(spec))
    found: list[Argument] = []
    for index, text in enumerate(items):
        argument = emitter.emit(_parse(text), f"argument{index}")
        if argument is None:
            raise _unknown(signature, text, spec or "")
        found.append(argument)
    return found


def default_order(signature: KernelSignature) -> list[str]:
    """Operands, attributes, sizes, results."""
    by_pointer = [array.name for array in signature.results if not array.by_value]
    attributes = [attribute.name for attribute in signature.attributes]
    plain_sizes = [size for size in signature.sizes if size not in attributes]
    return [*(array.name for array in signature.operands), *attributes, *plain_sizes, *by_pointer]


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


_ITEM = re.compile(r"(&)?\s*(.+?)\s*(?::\s*(\w+))?", re.DOTALL)
_SCRATCH = re.compile(r"scratch\s+(\w+)\s*\[(.+)\]", re.DOTALL)
_COPY = re.compile(r"(\w+)\s*=\s*(\w+)")


def _split(spec: str) -> Iterator[str]:
    """The items between commas, except commas in quotes and brackets."""
    for piece in re.findall(r"(?:'[^']*'|\[[^\]]*\]|\([^)]*\)|[^,'\[(])+", spec):
        if piece.strip():
            yield piece.strip()


def _parse(text: str) -> Scratch | Copied | Value:
    if match := _SCRATCH.fullmatch(text):
        return Scratch(match[1], match[2])
    if match := _COPY.fullmatch(text):
        return Copied(match[1], match[2])
    match = _ITEM.fullmatch(text)
    return Value(text) if match is None else Value(match[2], match[3], match[1] is not None)


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
        kind = DTYPES[item.dtype].c
        declared = f"std::unique_ptr<{kind}[]> {name}(new {kind}[{sizes.to_c(node)}]);"
        return Argument(f"{kind}*", f"{name}.get()", declared)

    def copy(self, item: Copied) -> Argument | None:
        result, operand = self.results.get(item.result), self.operands.get(item.operand)
        if result is None or operand is None or result.by_value:
            return None
        if (result.dtype, result.dims) != (operand.dtype, operand.dims):
            return None
        target, count = local(result.name), f"buffers[{list(self.operands).index(operand.name)}].count()"
        return Argument(f"{result.type.c}*", target, f"copy({target}, {local(operand.name)}, {count});")

    def array(self, array: Array) -> Argument:
        kind = array.type.c if array.name in self.results else f"const {array.type.c}"
        return Argument(f"{kind}*", local(array.name))

    def number(self, item: Value, name: str) -> Argument | None:
        """A number by value, or a pointer to a variable that holds it."""
        if item.dtype is not None and (item.dtype not in DTYPES or DTYPES[item.dtype].c_value is None):
            return None
        found = self.status(item) or self.scalar(item) or self.constant(item) or self.size(item)
        if found is None or not item.by_pointer:
            return found
        after = f"call.status({name});" if item.text == "status" else ""
        return Argument(f"{found.type}*", f"&{name}", f"{found.type} {name} = {found.value};", after)

    def status(self, item: Value) -> Argument | None:
        is_status = item.text == "status" and item.by_pointer
        return Argument(_c_type(item, DTYPES[self.layout.size].c), "0") if is_status else None

    def scalar(self, item: Value) -> Argument | None:
        """An attribute, or an operand that is passed by value."""
        if item.text not in self.scalars:
            return None
        dtype = self.scalars[item.text]
        return _cast(_c_type(item, dtype.c if self.layout.is_declared else str(dtype.c_value)), local(item.text))

    def constant(self, item: Value) -> Argument | None:
        try:
            value = ast.literal_eval(item.text)
        except (ValueError, SyntaxError):
            return None
        match value:
            case bool():
                return Argument(_c_type(item, "bool"), str(value).lower())
            case str() if len(value) == 1:
                return _cast("char", str(ord(value)))
            case int() | float():
                return _cast(_c_type(item, "int" if isinstance(value, int) else "double"), repr(value))
            case _:
                return None

    def size(self, item: Value) -> Argument | None:
        """A size, or arithmetic on sizes."""
        node = sizes.parse(item.text)
        if node is None or not set(sizes.names(node)) <= self.sizes:
            return None
        value = f"jaxprim::Size{{{sizes.to_c(node)}}}"
        if self.layout.is_declared and item.dtype is None and not item.by_pointer:
            return Argument("int64_t", value)  # a Size converts itself to the integer type that is declared
        return _cast(_c_type(item, DTYPES[self.layout.size].c), value)


def _c_type(item: Value, default: str) -> str:
    """The C type that an item asks for with `:`, or else the default."""
    return default if item.dtype is None else str(DTYPES[item.dtype].c_value)


def _cast(kind: str, value: str) -> Argument:
    return Argument(kind, f"static_cast<{kind}>({value})")


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
