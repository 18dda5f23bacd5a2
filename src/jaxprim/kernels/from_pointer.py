"""`c_function`: a compiled C function as a kernel, from its address."""

from __future__ import annotations

import ctypes
import secrets
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from jaxprim.kernels import build, pointers
from jaxprim.kernels.arguments import Layout, c_arguments, default_order, refuse_left_out
from jaxprim.kernels.build import Source
from jaxprim.kernels.from_source import register
from jaxprim.kernels.handler import ADDRESS, PROCESS, SYMBOL, Function, return_type, write_handler
from jaxprim.kernels.kernel import Kernel, Target
from jaxprim.kernels.languages import CPP
from jaxprim.kernels.options import ORDERS, SIZES, has_status, meanings_of, one_of, refuse_lost_status, threads_of
from jaxprim.kernels.pointers import address_of
from jaxprim.kernels.signature import KernelSignature, parse

# One random number per process, see `handler.PROCESS`. A forked child shares its parent's addresses, and so its number.
_TOKEN = secrets.randbits(62)


def c_function(
    pointer: Any,
    signature: str,
    *,
    arguments: str | None = None,
    sizes: str = "i64",
    status: bool | Mapping[int, str] = False,
    threads: int | None = 1,
    order: str = "C",
    name: str | None = None,
) -> Kernel:
    """A compiled C function as a kernel for CPUs. XLA calls it directly: no copies, no Python.

    Args:
        pointer: a ctypes function, a cffi function pointer, a ``scipy.LowLevelCallable``, a capsule of Cython
            (``module.__pyx_capi__["name"]``), or an address. It is kept alive.
        signature: ``"(f64, f64) -> f64"`` for an elementwise function, ``"(x: f64[n]) -> f64[n]"`` for one that takes
            pointers; see `jaxprim.kernels.signature`.
        arguments: the order of the function's arguments; see `jaxprim.kernels.arguments`.
        sizes: the dtype of sizes, ``"i64"`` or ``"i32"``.
        status: whether the function returns an integer that is 0 on success; or the meanings of other integers, such
            as ``{1: "the matrix is singular"}``. With ``&status`` among the arguments, that integer is meant.
        threads: the number of threads that share the batch axes; None for all of XLA's. The function must be thread-safe.
        order: ``"F"`` for arrays in Fortran order.
        name: its name in messages.

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
    prototype = pointers.prototype_of(pointer)
    if arguments is None and prototype is not None and pointers.SKIP_DISPATCH in prototype:
        arguments = ", ".join([*default_order(found), "0"])
    returns_status = status is not False and not has_status(arguments)
    call = Function(
        name,
        by_address=True,
        arguments=arguments,
        size=one_of("sizes", sizes, SIZES),
        status=returns_status,
        meanings=meanings_of(status),
        threads=threads_of(threads),
    )
    _check(found.resolve(dict.fromkeys(found.variables, "f64")), call, prototype)
    refuse_left_out(found, arguments)
    refuse_lost_status(found, status=returns_status)
    address_of(pointer)

    def load(resolved: KernelSignature) -> Target:
        _check(resolved, call, prototype)
        return pointer_target(resolved, call, pointer)

    return Kernel(name, found, load, order=one_of("order", order, ORDERS))


def _check(signature: KernelSignature, call: Function, prototype: str | None) -> None:
    """Refuse a signature that cannot be read, or that does not fit the function's own declaration."""
    write_handler(signature, call)
    if prototype is not None:
        passed = [argument.type for argument in c_arguments(signature, call.arguments, Layout(call.size))]
        pointers.check_prototype(call.name, prototype, passed)
        pointers.check_returned(call.name, prototype, return_type(signature, call))


def pointer_target(signature: KernelSignature, call: Function, pointer: Any, **attributes: Any) -> Target:
    """The registered handler that calls a function of this signature at an address."""
    target = _trampoline(signature, call)
    # The program holds the kernel, and the kernel keeps the pointer alive.
    return Target(target.name, {ADDRESS: np.int64(address_of(pointer)), PROCESS: np.int64(_TOKEN), **attributes})


@cache
def _trampoline(signature: KernelSignature, call: Function) -> Target:
    source = Source(call.name, '#include "jaxprim_kernel.h"\n' + write_handler(signature, call))
    library, key = build.library(source)
    getattr(library, PROCESS)(ctypes.c_int64(_TOKEN))
    return register(library, SYMBOL, f"jaxprim.{call.name}.{key}", CPP)


def _name(pointer: Any) -> str:
    name = getattr(pointer, "__name__", None) or getattr(pointer, "native_name", None)
    return name if isinstance(name, str) and name.isidentifier() else "c_function"
