"""`c_function`: a compiled C function as a kernel, from its address."""

from __future__ import annotations

import ctypes
import hashlib
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxprim import _jax
from jaxprim.kernels import ahead, build, identity, pointers
from jaxprim.kernels.aliases import shared
from jaxprim.kernels.arguments import Layout, c_arguments, default_order, refuse_left_out
from jaxprim.kernels.from_source import register
from jaxprim.kernels.handler import BIND, KEY, NAME, SYMBOL, Function, contract, return_type, write_handler
from jaxprim.kernels.kernel import Kernel, Target
from jaxprim.kernels.languages import CPP
from jaxprim.kernels.options import (
    ORDERS,
    SIZES,
    has_status,
    meanings_of,
    one_of,
    refuse_keep,
    refuse_lost_status,
    threads_of,
)
from jaxprim.kernels.pointers import address_of
from jaxprim.kernels.signature import KernelSignature, parse
from jaxprim.kernels.source import Source, target_name

_KEEP = (
    'kernels.cpp("struct Plan { void* of; Plan(int64_t n) : of(make_plan(n)) {} ~Plan() { free_plan(of); } }; ...", '
    'signature, keep="Plan(n)", libraries=["plans"])'
)


@_jax.boundary
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
    aliases: Mapping[str, str] | None = None,
    keep: None = None,
) -> Kernel:
    """A compiled C function as a kernel for CPUs. XLA calls it directly: no copies, no Python.

    Args:
        pointer: a ctypes function, a cffi function pointer, a ``scipy.LowLevelCallable``, a capsule of Cython
            (``module.__pyx_capi__["name"]``), or an address. It is kept alive as long as the process, if it was
            compiled into a program.
        signature: ``"(f64, f64) -> f64"`` for an elementwise function, ``"(x: f64[n]) -> f64[n]"`` for one that takes
            pointers; see `jaxprim.kernels.signature`.
        arguments: the order of the function's arguments; see `jaxprim.kernels.arguments`.
        sizes: the dtype of sizes, ``"i64"`` or ``"i32"``.
        status: whether the function returns an integer that is 0 on success; or the meanings of other integers, such
            as ``{1: "the matrix is singular"}``. With ``&status`` among the arguments, that integer is meant.
        threads: the number of threads that share the batch axes; None for all of XLA's. The function must be thread-safe.
        order: ``"F"`` for arrays in Fortran order.
        name: its name in messages.
        aliases: for the name of a result, that of the operand in whose memory it is: ``{"y": "x"}`` for a function that
            works in place. It gets y alone, which holds the values of x when it starts.
        keep: refused, because an address has no constructor. A class in the source of `cpp` may call functions of a C
            library.

    Example:
        >>> import ctypes, ctypes.util
        >>> import jax, jax.numpy as jnp
        >>> from jaxprim import kernels
        >>> libm = ctypes.CDLL(ctypes.util.find_library("m"))
        >>> cbrt = kernels.c_function(libm.cbrtf, "(f32) -> f32")
        >>> cbrt(jnp.array([8.0, 27.0], jnp.float32)).tolist()
        [2.0, 3.0]
    """
    refuse_keep("c_function", keep, "it knows one address, and a set-up needs a function that frees it too", _KEEP)
    found = shared(parse(signature), aliases)
    pointers.refuse_data(pointer)
    name = str(name or found.function or _name(pointer))
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

    beside = ahead.folders()

    def load(resolved: KernelSignature) -> Target:
        _check(resolved, call, prototype)
        return pointer_target(resolved, call, pointer, beside)

    made = lambda resolved: trampoline(resolved, call, beside)
    return Kernel(name, found, load, source=made, order=one_of("order", order, ORDERS))


def _check(signature: KernelSignature, call: Function, prototype: str | None) -> None:
    """Refuse a signature that cannot be read, or that does not fit the function's own declaration."""
    write_handler(signature, call)
    if prototype is not None:
        passed = [argument.type for argument in c_arguments(signature, call.arguments, Layout(call.size))]
        pointers.check_prototype(call.name, prototype, passed)
        pointers.check_returned(call.name, prototype, return_type(signature, call))


# The functions that programs may call, with their addresses, by the keys that the programs hold. A program that was
# compiled ahead of time holds nothing that keeps them alive, so nothing is ever removed.
_bound: dict[tuple[str, int], tuple[int, Any]] = {}
_binding = threading.Lock()


def pointer_target(
    signature: KernelSignature, call: Function, pointer: Any, beside: tuple[Path, ...], lock: int = 0
) -> Target:
    """The registered handler that calls a function of this signature.

    Args:
        signature: the signature, without type variables.
        call: how the function is called.
        pointer: the function. It is kept alive as long as the process.
        beside: the folders in which the handler may be, built ahead.
        lock: the address of a lock that the function needs; 0 for none.
    """
    address = address_of(pointer)
    library, handler = _loaded(trampoline(signature, call, beside))
    content, says_all = identity.identity(pointer, address)
    with _binding:
        key = _key(content, call)
        earlier, _ = _bound.get((handler, key), (address, None))
        if earlier != address and not says_all:
            key = _key(identity.of_process(address), call)
        if (handler, key) not in _bound:
            _bind(library, key, address, lock, call)
            _bound[handler, key] = (address, pointer)
    target = register(library, SYMBOL, target_name(call.name, handler), CPP)
    return Target(target.name, {KEY: np.int64(key), NAME: call.name})


def _key(name: str, call: Function) -> int:
    """The key of a function and of what its call needs, as a 64-bit integer."""
    whole = repr((name, call.name, call.meanings, call.threads, call.exclusive))
    return int.from_bytes(hashlib.sha256(whole.encode(errors="replace")).digest()[:8], "little", signed=True)


def _bind(library: ctypes.CDLL, key: int, address: int, lock: int, call: Function) -> None:
    count = len(call.meanings)
    codes = (ctypes.c_int64 * count)(*(code for code, _ in call.meanings))
    words = (ctypes.c_char_p * count)(*(text.encode(errors="replace") for _, text in call.meanings))
    name = call.name.encode(errors="replace")
    bind = getattr(library, BIND)
    bind.restype = None
    bind.argtypes = (
        ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_char_p,
        ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p,
    )  # fmt: skip
    bind(key, address, lock or None, call.threads, name, count, codes, words)


def trampoline(signature: KernelSignature, call: Function, beside: tuple[Path, ...]) -> Source:
    """The source of the handler for all functions of one type."""
    typed = Function("c_function", by_address=True, arguments=call.arguments, size=call.size, status=call.status)
    return Source(
        typed.name,
        '#include "jaxprim_kernel.h"\n',
        signature=str(signature),
        handler=write_handler(signature, typed),
        contract=contract(signature, typed),
        exports=(SYMBOL, BIND),
        beside=beside,
    )


# By their handlers: one library serves all functions of a type, wherever it was found.
_trampolines: dict[str, tuple[ctypes.CDLL, str]] = {}


def _loaded(source: Source) -> tuple[ctypes.CDLL, str]:
    if source.handler not in _trampolines:
        _trampolines[source.handler] = build.library(source)
    return _trampolines[source.handler]


def _name(pointer: Any) -> str:
    name = getattr(pointer, "__name__", None) or getattr(pointer, "native_name", None)
    return name if isinstance(name, str) and name.isidentifier() else "c_function"
