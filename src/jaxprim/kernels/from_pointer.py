"""`c_function`: a function that is known by its address, as a kernel."""

from __future__ import annotations

import ctypes
import secrets
from functools import cache
from typing import Any

import numpy as np

from jaxprim._errors import KernelError, text
from jaxprim.kernels import build, frames
from jaxprim.kernels.build import Source
from jaxprim.kernels.from_source import register
from jaxprim.kernels.handler import ADDRESS, PROCESS, SYMBOL, Function, handler
from jaxprim.kernels.kernel import Kernel, Target
from jaxprim.kernels.signature import Signature, parse

# One number per process: see `handler.PROCESS`. A forked child has the parent's addresses, and its number.
_TOKEN = secrets.randbits(62)


def c_function(
    pointer: Any,
    signature: str,
    *,
    arguments: str | None = None,
    sizes: str = "i64",
    status: bool = False,
    threads: int | None = 1,
    order: str = "C",
    name: str | None = None,
) -> Kernel:
    """A C function that is already compiled, as a kernel for CPUs: called without copies and without Python.

    Args:
        pointer: a ctypes function, a cffi function pointer, a ``scipy.LowLevelCallable``, a capsule of Cython
            (``module.__pyx_capi__["name"]``), or an address. It is kept alive.
        signature: ``"(f64, f64) -> f64"`` for an elementwise function, ``"(x: f64[n]) -> f64[n]"`` for one that gets
            pointers; see `jaxprim.kernels.signature`.
        arguments: the order of the function's arguments; see `jaxprim.kernels.arguments`.
        sizes: the type of sizes, ``"i64"`` or ``"i32"``.
        status: whether the function returns an integer that is 0 where all went well.
        threads: over how many threads batch axes are spread; None for as many as XLA has. The function must allow it.
        order: ``"F"`` for arrays in Fortran order.
        name: what messages call it.

    Example:
        >>> import ctypes, ctypes.util
        >>> import jax, jax.numpy as jnp
        >>> from jaxprim import kernels
        >>> libm = ctypes.CDLL(ctypes.util.find_library("m"))
        >>> cbrt = kernels.c_function(libm.cbrtf, "(f32) -> f32")
        >>> cbrt(jnp.array([8.0, 27.0], jnp.float32)).tolist()
        [2.0, 3.0]
    """
    found = parse(signature)
    name = name or found.function or _name(pointer)
    call = Function(name, "address", arguments, sizes, status, 0 if threads is None else threads)
    handler(found.resolve(dict.fromkeys(found.variables, "f64")), call)  # a wrong signature is told at once
    return Kernel(
        name, found, lambda resolved: pointer_target(resolved, call, pointer), origin=frames.origin(), order=order
    )


def pointer_target(signature: Signature, call: Function, pointer: Any) -> Target:
    """The registered handler that calls a function of this signature at an address."""
    target = _trampoline(signature, call)
    # The kernel, which the program holds, keeps the pointer alive.
    return Target(target.name, {ADDRESS: np.int64(address_of(pointer)), PROCESS: np.int64(_TOKEN)})


@cache
def _trampoline(signature: Signature, call: Function) -> Target:
    source = Source(call.name, '#include "jaxprim_kernel.h"\n' + handler(signature, call))
    library, key = build.library(source)
    getattr(library, PROCESS)(ctypes.c_int64(_TOKEN))
    return register(library, SYMBOL, f"jaxprim.{call.name}.{key}", "cpu")


# ---------------------------------------------------------------------------------------------------------- addresses
def address_of(pointer: Any) -> int:
    """The address of a function, in whichever form Python holds it."""
    for read in (_integer, _ctypes, _capsule, _low_level_callable, _numba, _cffi):
        address = read(pointer)
        if address:
            return address
    raise KernelError(
        text(
            "c_function got something that is no C function.",
            got=f"a {type(pointer).__module__}.{type(pointer).__qualname__}",
            expected="a ctypes function, a cffi function pointer, a scipy.LowLevelCallable, a capsule of Cython, a "
            "numba cfunc, or an address that is not 0",
        )
    )


def _integer(pointer: Any) -> int | None:
    return int(pointer) if isinstance(pointer, int | np.integer) and not isinstance(pointer, bool) else None


def _ctypes(pointer: Any) -> int | None:
    if isinstance(pointer, ctypes._CFuncPtr | ctypes.c_void_p):  # pyright: ignore
        return ctypes.cast(pointer, ctypes.c_void_p).value
    return None


def _capsule(pointer: Any) -> int | None:
    if type(pointer).__name__ != "PyCapsule":
        return None
    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype, api.PyCapsule_GetName.argtypes = ctypes.c_char_p, [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    return api.PyCapsule_GetPointer(pointer, api.PyCapsule_GetName(pointer))


def _low_level_callable(pointer: Any) -> int | None:
    # SciPy's class is a tuple whose first entry is a capsule, which holds the function's address.
    is_callable = type(pointer).__name__ == "LowLevelCallable" and isinstance(pointer, tuple)
    return _capsule(tuple.__getitem__(pointer, 0)) if is_callable else None


def _numba(pointer: Any) -> int | None:
    address = getattr(pointer, "address", None)
    return address if isinstance(address, int) else None


def _cffi(pointer: Any) -> int | None:
    if type(pointer).__module__ != "_cffi_backend":
        return None
    import cffi

    return int(cffi.FFI().cast("intptr_t", pointer))


def _name(pointer: Any) -> str:
    name = getattr(pointer, "__name__", None) or getattr(pointer, "native_name", None)
    return name if isinstance(name, str) and name.isidentifier() else "c_function"
