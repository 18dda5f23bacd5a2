"""Python functions that run inside a compiled program.

A program calls a host function by its place in a list that belongs to the compiled module. The program of one device
(`partitioner`) is lowered apart, and later put into the whole. So there, host functions have their place in the list of
the whole, which is filled when the call is lowered.
"""

# Private names are what this folder is for.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Hashable, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import Any

import numpy as np
from jax._src import callback as jax_callback
from jax._src import ffi
from jax._src.interpreters import mlir

from jaxprim._jax import words
from jaxprim._jax.avals import Aval
from jaxprim._jax.tables import new_primitive, platform_of

# Since JAX 0.8.2 one must say that a callback returns no token. This check can go with 0.8.1.
_NO_TOKEN: dict[str, Any] = (
    {"returns_token": False} if "returns_token" in signature(jax_callback.emit_python_callback).parameters else {}
)

Callback = Callable[..., Sequence[np.ndarray]]

host_call_p = new_primitive("host_call")
host_call_p.def_abstract_eval(lambda *avals, results, **_: results)


def _lower_host_call(ctx: Any, *args: Any, callback: Callback, results: Any, named: Hashable, unsized: Callback) -> Any:
    calls: HostCalls | None = getattr(_here, "calls", None)
    if calls is not None:
        place = calls.place(named, tuple(aval.shape for aval in ctx.avals_in), callback, unsized)
        device = "cpu" if platform_of(ctx) == "cpu" else "gpu"
        target = f"xla_ffi_python_{device}_callback"
        return ffi.build_ffi_lowering_function(target, has_side_effect=False)(ctx, *args, index=place).results
    sharding = jax_callback._callback_op_sharding(ctx.module_context.axis_context, None, ctx.avals_out)
    out, _, _ = jax_callback.emit_python_callback(
        ctx, callback, None, list(args), ctx.avals_in, ctx.avals_out,
        has_side_effect=False, sharding=sharding, **_NO_TOKEN,
    )  # fmt: skip
    return out


# Not cacheable: the module that a callback is lowered into keeps it alive, so another module must not reuse the
# lowering.
mlir.register_lowering(host_call_p, _lower_host_call, cacheable=False)


def host_call(callback: Callback, results: Sequence[Aval], *args: Any, named: Hashable, unsized: Callback) -> list[Any]:
    """Call a Python function on NumPy arrays at run time. JAX only knows the types of its results.

    Args:
        callback: the function.
        results: the types of its results.
        args: its operands.
        named: what names the function, whatever the shapes.
        unsized: the same function, which finds the types of its results when it is called.
    """
    return host_call_p.bind(*args, callback=callback, results=tuple(results), named=named, unsized=unsized)


class _AnyPart:
    """A host function for whatever part of its operands a device has."""

    def __init__(self, unsized: Callback) -> None:
        self.unsized = unsized
        self.by_shapes: dict[Any, Callback] = {}

    def __call__(self, *arrays: Any) -> tuple[Any, ...]:
        # The shapes are unknown if the program came from JAX's compilation cache: no device's part was traced here.
        run = self.by_shapes.get(tuple(map(np.shape, arrays)), self.unsized)
        return tuple(run(*arrays))  # of the declared shapes and dtypes: XLA copies their bytes as they are


class HostCalls:
    """The host functions of an operation that may be split, and their places in the list of the whole module."""

    def __init__(self) -> None:
        self._module: Any = None
        self._places: dict[Hashable, tuple[np.uint64, _AnyPart]] = {}

    def __bool__(self) -> bool:
        return bool(self._places)

    @contextmanager
    def inside(self, module: Any = None) -> Generator[None]:
        """A context in which the operation is lowered; with the module, host functions get their places there."""
        before = getattr(_here, "calls", None)
        _here.calls, self._module = self, module
        try:
            yield
        finally:
            _here.calls, self._module = before, None

    def place(self, key: Hashable, shapes: Any, callback: Callback, unsized: Callback) -> np.uint64:
        """The place of a host function in the list of the whole module."""
        if key not in self._places:
            if self._module is None:
                raise LookupError("jaxprim: a part of the operands needs a host function that the whole does not call")
            listed = self._module.host_callbacks
            self._places[key] = (np.uint64(len(listed)), _AnyPart(unsized))
            self._module.add_host_callback(self._places[key][1])
        index, found = self._places[key]
        found.by_shapes[shapes] = callback
        return index


_here = threading.local()  # the host calls of the operation that is lowered in this thread


def is_runtime_error(error: ValueError) -> bool:
    """Whether a ValueError is the error of a compiled program that ran.

    A jitted function raises such errors as `JaxRuntimeError` in its first call. Later calls take another path through
    JAX's dispatch, which raises `ValueError` (in all JAX versions so far).
    """
    return str(error).partition(":")[0] in words.STATUS
