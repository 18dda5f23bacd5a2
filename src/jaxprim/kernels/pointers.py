"""The address of a C function in each form that Python knows, and the prototype that some forms carry."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxprim import _origin
from jaxprim._errors import BadCall, KernelError, message


# ---------------------------------------------------------------------------------------------------------- addresses
def address_of(pointer: Any) -> int:
    """The address of a function."""
    for read in (_integer, _ctypes, _capsule, _low_level_callable, _numba, _cffi):
        address = read(pointer)
        if address:
            return address
    raise _no_function(pointer)


def handler_address(pointer: Any) -> int:
    """The address of a handler for XLA's FFI."""
    address = next((found for read in (_integer, _ctypes, _capsule) if (found := read(pointer))), None)
    if address is None or not _is_code(address):
        raise KernelError(
            message(
                "kernels.ffi got something that is no handler.",
                got=f"a {type(pointer).__module__}.{type(pointer).__qualname__}"
                + ("" if address is None else f", whose address {address:#x} is that of data"),
                expected="a capsule, a ctypes function, an address, the name of a registered target, or a dict of such by stage",
                defined=_origin.place(),
            )
        )
    return address


def refuse_data(pointer: Any) -> None:
    """Refuse what is not a C function: the address of data, of nothing, or of a function that is called in another way."""
    address = address_of(pointer)
    if is_capsule(pointer) and prototype_of(pointer) is None:
        name = _capsule_name(pointer)
        raise KernelError(
            message(
                "c_function got a capsule that does not hold a C function's prototype.",
                got="a capsule without a name"
                if name is None
                else f"a capsule named {name.decode(errors='replace')!r}",
                expected="one of Cython's, module.__pyx_capi__['name'], or the function's address",
                why="a handler for XLA's FFI is in such a capsule too, and is called in another way",
                defined=_origin.place(),
                write="kernels.ffi(capsule, ...)  # if it is such a handler",
            )
        )
    if not _is_code(address):
        raise KernelError(
            message(
                "c_function got an address at which there is no code.",
                got=f"{address:#x}, from a {type(pointer).__module__}.{type(pointer).__qualname__}",
                expected="the address of a function",
                defined=_origin.place(),
            )
        )


def _is_code(address: int) -> bool:
    """Whether there is code at an address. True where the system does not tell."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return True
    for line in maps.read_text(errors="replace").splitlines():
        place, rights, _ = line.split(maxsplit=2)
        start, end = (int(part, 16) for part in place.split("-"))
        if start <= address < end:
            return "x" in rights
    return False


def _no_function(pointer: Any) -> KernelError:
    return KernelError(
        message(
            "c_function got something that is not a C function.",
            got=f"a {type(pointer).__module__}.{type(pointer).__qualname__}",
            expected="a ctypes function, a cffi function pointer, a scipy.LowLevelCallable, a capsule of Cython, a "
            "numba cfunc, or an address that is not 0",
            defined=_origin.place(),
        )
    )


def _integer(pointer: Any) -> int | None:
    is_integer = isinstance(pointer, int | np.integer) and not isinstance(pointer, bool)
    return int(pointer) if is_integer and 0 < pointer < 2**63 else None


def _ctypes(pointer: Any) -> int | None:
    is_ctypes = isinstance(pointer, ctypes.c_void_p) or hasattr(pointer, "argtypes")
    try:
        return ctypes.cast(pointer, ctypes.c_void_p).value if is_ctypes else None
    except (TypeError, ctypes.ArgumentError):  # another thing with such an attribute
        return None


def is_capsule(pointer: Any) -> bool:
    return type(pointer).__name__ == "PyCapsule"


def _capsule(pointer: Any) -> int | None:
    if not is_capsule(pointer):
        return None
    # ctypes.PYFUNCTYPE makes a new function object, so the types set here do not change the shared ctypes.pythonapi.
    read = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi)
    )
    return read(pointer, _capsule_name(pointer))


def _capsule_name(pointer: Any) -> bytes | None:
    read = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", ctypes.pythonapi))
    return read(pointer)


def _is_low_level_callable(pointer: Any) -> bool:
    return type(pointer).__name__ == "LowLevelCallable" and isinstance(pointer, tuple)


def _low_level_callable(pointer: Any) -> int | None:
    # SciPy's class is a tuple whose first entry is a capsule, which holds the function's address.
    return _capsule(tuple.__getitem__(pointer, 0)) if _is_low_level_callable(pointer) else None


def _numba(pointer: Any) -> int | None:
    address = getattr(pointer, "address", None)
    return address if isinstance(address, int) else None


def _cffi(pointer: Any) -> int | None:
    return int(_cffi_types().cast("intptr_t", pointer)) if _is_cffi(pointer) else None


def _cffi_types() -> Any:
    import cffi

    return cffi.FFI()


def _is_cffi(pointer: Any) -> bool:
    """Whether it is a pointer of cffi; its libraries and types are no pointers."""
    if type(pointer).__module__ != "_cffi_backend":
        return False
    try:
        return _cffi_types().typeof(pointer).kind in ("function", "pointer")
    except TypeError:
        return False


# --------------------------------------------------------------------------------------------------------- prototypes
SKIP_DISPATCH = "__pyx_skip_dispatch"  # the last argument of a Cython `cpdef` function, which C callers set to 0
_C_NAMES = {
    "int": "int32_t",
    "long": "int64_t",
    "long long": "int64_t",
    "size_t": "uint64_t",
    "_Bool": "bool",
    "__pyx_t_double_complex": "double _Complex",
    "__pyx_t_float_complex": "float _Complex",
    "std::complex<double>": "double _Complex",
    "std::complex<float>": "float _Complex",
}
_KNOWN = {
    "double",
    "float",
    "char",
    "bool",
    *(f"{u}int{n}_t" for u in ("", "u") for n in (8, 16, 32, 64)),
    *_C_NAMES.values(),
}


def prototype_of(pointer: Any) -> str | None:
    """The prototype that a pointer carries, such as ``double (double, double)``; None if it carries none."""
    if _is_low_level_callable(pointer):
        return prototype_of(tuple.__getitem__(pointer, 0))
    if is_capsule(pointer):
        name = (_capsule_name(pointer) or b"").decode(errors="replace")
        return name if "(" in name else None
    if _is_cffi(pointer):
        return _cffi_prototype(pointer)
    # Without argtypes, ctypes claims an int result that the user never declared.
    if getattr(pointer, "argtypes", None) is not None:
        return f"{_ctypes_name(pointer.restype)} ({', '.join(map(_ctypes_name, pointer.argtypes))})"
    return None


def _cffi_prototype(pointer: Any) -> str | None:
    kind = _cffi_types().typeof(pointer)
    if kind.kind != "function":
        return None
    return f"{kind.result.cname} ({', '.join(argument.cname for argument in kind.args)})"


def _ctypes_name(kind: Any) -> str:
    """The C name of a ctypes type; for anything but a number or a pointer, the name of its class."""
    if kind is None:
        return "void"
    pointed = getattr(kind, "_type_", None)
    if isinstance(pointed, type):
        return f"{_ctypes_name(pointed)}*"
    if issubclass(kind, ctypes.c_void_p | ctypes.c_char_p):  # NumPy's ndpointer is a c_void_p
        return "void*"
    words = {ctypes.c_double: "double", ctypes.c_float: "float", ctypes.c_bool: "bool", ctypes.c_char: "char"}
    is_number = issubclass(kind, ctypes._SimpleCData)  # pyright: ignore[reportPrivateUsage]
    return words.get(kind) or (f"{np.dtype(kind).name}_t" if is_number else kind.__name__)


def argument_types(prototype: str) -> list[str]:
    """The types of a prototype's arguments."""
    inside = prototype.partition("(")[2].rpartition(")")[0]
    return [part.strip() for part in inside.split(",") if part.strip() not in ("", "void")]


def check_prototype(name: str, prototype: str, passed: Sequence[str]) -> None:
    """Refuse a signature whose arguments do not match a function's prototype."""
    wanted = argument_types(prototype)
    if len(wanted) == len(passed) and all(map(_may_be_same, wanted, passed)):
        return
    raise BadCall(
        message(
            f"{name}: the function's arguments do not match the signature.",
            got=f"({', '.join(passed)})",
            expected=prototype,
            defined=_origin.place(),
            write="c_function(..., arguments='x, &n, out')  # their order: see jaxprim.kernels.arguments",
        )
    )


def check_returned(name: str, prototype: str, kind: str) -> None:
    """Refuse a signature whose result by value does not match a function's prototype.

    A signature without one (``void``) ignores what the function returns.
    """
    wanted = prototype.partition("(")[0].strip()
    if kind == "void" or (wanted != "void" and _may_be_same(wanted, kind)):
        return
    raise BadCall(
        message(
            f"{name}: the function's return type does not match the signature.",
            got=kind,
            expected=prototype,
            why="results returned by value are not converted",
            defined=_origin.place(),
        )
    )


def _may_be_same(wanted: str, passed: str) -> bool:
    (a, a_is_pointer), (b, b_is_pointer) = _plain(wanted), _plain(passed)
    return a_is_pointer == b_is_pointer and (a not in _KNOWN or b not in _KNOWN or a == b)


def _plain(kind: str) -> tuple[str, bool]:
    """A type without `const`, stars and Cython's argument name, and whether it is a pointer."""
    bare = kind.replace("const ", "").replace(SKIP_DISPATCH, "")
    name = bare.replace("*", " ").strip()
    return _C_NAMES.get(name, name), "*" in bare
