"""The arguments of a plain function, from a signature.

By default a function gets its operands, then its attributes, then its sizes (``int64_t``, in order of first appearance),
then its results. ``arguments="&n, &nrhs, lu=a, &n, ipiv, x=b, &n, &status"`` gives another order:

    x           a pointer to an operand's or result's numbers; a number by value for an attribute, a size (`n`, `n*d`),
                or an operand that the signature passes by value
    &n          a pointer to such a number (Fortran)
    3  1.0  'N' a constant; with & a pointer to it
    lu=a        a result into which an operand was copied, for functions that overwrite their input
    &status     a pointer to an int: what is not 0 in it is an error
    scratch f64[4*n]   memory that only this call sees
    n:i32       any number as another type
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from jaxprim import _origin
from jaxprim._errors import KernelError, message
from jaxprim.kernels import sizes
from jaxprim.kernels.dtypes import DTYPES
from jaxprim.kernels.signature import Array, KernelSignature
from jaxprim.kernels.sizes import local

_ITEM = re.compile(r"(&)?\s*(.+?)\s*(?::\s*(\w+))?", re.DOTALL)
_SCRATCH = re.compile(r"scratch\s+(\w+)\s*\[(.+)\]", re.DOTALL)
_COPY = re.compile(r"(\w+)\s*=\s*(\w+)")


@dataclass(frozen=True)
class Argument:
    """One argument of the function.

    Attributes:
        type: its C type.
        value: the expression that is passed.
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
        size: the type of sizes.
        here: whether the compiler sees the function's own declaration, so that arguments may be converted to it.
    """

    size: str = "i64"
    here: bool = False


def arguments(signature: KernelSignature, spec: str | None, layout: Layout) -> list[Argument]:
    """The arguments of the function behind a signature."""
    items = default_order(signature) if spec is None else list(_split(spec))
    return [_argument(signature, item, index, layout, spec or "") for index, item in enumerate(items)]


def default_order(signature: KernelSignature) -> list[str]:
    """Operands, attributes, sizes, results."""
    by_pointer = [array.name for array in signature.results if not array.by_value]
    attributes = [attribute.name for attribute in signature.attributes]
    plain_sizes = [size for size in signature.sizes if size not in attributes]
    return [*(array.name for array in signature.operands), *attributes, *plain_sizes, *by_pointer]


def _split(spec: str) -> Iterator[str]:
    for piece in re.findall(r"(?:'[^']*'|\[[^\]]*\]|\([^)]*\)|[^,'\[(])+", spec):
        if piece.strip():
            yield piece.strip()


def _argument(signature: KernelSignature, item: str, index: int, layout: Layout, spec: str) -> Argument:
    arrays = {array.name: array for array in (*signature.operands, *signature.results)}
    for pattern, make in ((_SCRATCH, _scratch), (_COPY, _copy)):
        match = pattern.fullmatch(item)
        if match is not None:
            found = make(signature, match, index)
            if found is not None:
                return found
            raise _unknown(signature, item, spec)
    if item in arrays and not (by_value := arrays[item]).by_value:
        return _pointer(by_value, item in {result.name for result in signature.results})
    match = _ITEM.fullmatch(item)
    number = _number(signature, match[2], match[3], layout, bool(match[1])) if match is not None else None
    if match is None or number is None:
        raise _unknown(signature, item, spec)
    return _by_pointer(*number, f"argument{index}", match[2]) if match[1] else Argument(number[0], number[1])


def _pointer(array: Array, is_result: bool) -> Argument:
    kind = array.type.c if is_result else f"const {array.type.c}"
    return Argument(f"{kind}*", local(array.name))


def _by_pointer(kind: str, value: str, local: str, name: str) -> Argument:
    after = f"call.status({local});" if name == "status" else ""
    return Argument(f"{kind}*", f"&{local}", f"{kind} {local} = {value};", after)


def _number(
    signature: KernelSignature, source: str, dtype: str | None, layout: Layout, exact: bool
) -> tuple[str, str] | None:
    """The C type and the expression of a number, or None if it is not known."""
    if dtype is not None and (dtype not in DTYPES or DTYPES[dtype].c_value is None):
        return None
    as_type: Callable[[str], str] = lambda default: default if dtype is None else str(DTYPES[dtype].c_value)
    scalars = {row.name: row for row in signature.attributes} | {
        row.name: row for row in signature.operands if row.by_value
    }
    if source == "status":
        return (as_type(DTYPES[layout.size].c), "0") if exact else None
    if source in scalars:
        row = scalars[source].type
        kind = as_type(row.c if layout.here else str(row.c_value))
        return kind, f"static_cast<{kind}>({local(source)})"
    return _constant(source, as_type) or _size(signature, source, dtype, layout, exact)


def _constant(source: str, as_type: Callable[[str], str]) -> tuple[str, str] | None:
    try:
        value = ast.literal_eval(source)
    except (ValueError, SyntaxError):
        return None
    if isinstance(value, str) and len(value) == 1:
        return "char", f"static_cast<char>({ord(value)})"
    if isinstance(value, bool):
        return as_type("bool"), str(value).lower()
    if isinstance(value, int):
        kind = as_type("int")
        return kind, f"static_cast<{kind}>({value})"
    kind = as_type("double")
    return (kind, f"static_cast<{kind}>({value!r})") if isinstance(value, float) else None


def _size(
    signature: KernelSignature, source: str, dtype: str | None, layout: Layout, exact: bool
) -> tuple[str, str] | None:
    node = sizes.parse(source)
    integers = {row.name for row in signature.attributes if row.type.numpy.kind in "iu"}
    if node is None or not set(sizes.names(node)) <= {*signature.sizes, *integers}:
        return None
    value = f"jaxprim::Size{{{sizes.to_c(node)}}}"
    if layout.here and dtype is None and not exact:
        return "int64_t", value
    kind = DTYPES[dtype or layout.size].c
    return kind, f"static_cast<{kind}>({value})"


def _scratch(signature: KernelSignature, match: re.Match[str], index: int) -> Argument | None:
    node = sizes.parse(match[2])
    if match[1] not in DTYPES or node is None or not set(sizes.names(node)) <= set(signature.sizes):
        return None
    kind, name = DTYPES[match[1]].c, f"argument{index}"
    return Argument(f"{kind}*", f"{name}.get()", f"std::unique_ptr<{kind}[]> {name}(new {kind}[{sizes.to_c(node)}]);")


def _copy(signature: KernelSignature, match: re.Match[str], index: int) -> Argument | None:
    results = {array.name: array for array in signature.results}
    operands = {array.name: array for array in signature.operands}
    if match[1] not in results or match[2] not in operands:
        return None
    result, operand = results[match[1]], operands[match[2]]
    if (result.dtype, result.dims) != (operand.dtype, operand.dims) or result.by_value:
        return None
    source, target = local(operand.name), local(result.name)
    count = f"buffers[{list(operands).index(operand.name)}].count()"
    return Argument(f"{result.type.c}*", target, f"copy({target}, {source}, {count});")


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
