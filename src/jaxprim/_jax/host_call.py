"""Python functions that run inside a compiled program."""

# Private names are what this folder is for.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any

import numpy as np
from jax._src import callback as jax_callback
from jax._src.interpreters import mlir

from jaxprim._jax import words
from jaxprim._jax.avals import Aval
from jaxprim._jax.tables import new_primitive

# Since JAX 0.8.2 one must say that a callback returns no token. This check can go with 0.8.1.
_NO_TOKEN: dict[str, Any] = (
    {"returns_token": False} if "returns_token" in signature(jax_callback.emit_python_callback).parameters else {}
)

host_call_p = new_primitive("host_call")
host_call_p.def_abstract_eval(lambda *avals, callback, results: results)


def _lower_host_call(ctx: Any, *args: Any, callback: Callable[..., Any], results: Any) -> Any:
    sharding = jax_callback._callback_op_sharding(ctx.module_context.axis_context, None, ctx.avals_out)
    out, _, _ = jax_callback.emit_python_callback(
        ctx, callback, None, list(args), ctx.avals_in, ctx.avals_out,
        has_side_effect=False, sharding=sharding, **_NO_TOKEN,
    )  # fmt: skip
    return out


# Not cacheable: the module that a callback is lowered into keeps it alive, so another module must not reuse the
# lowering.
mlir.register_lowering(host_call_p, _lower_host_call, cacheable=False)


def host_call(callback: Callable[..., Sequence[np.ndarray]], results: Sequence[Aval], *args: Any) -> list[Any]:
    """Call a Python function on NumPy arrays at run time. JAX only knows the types of its results."""
    return host_call_p.bind(*args, callback=callback, results=tuple(results))


def is_runtime_error(error: ValueError) -> bool:
    """Whether a ValueError is the error of a compiled program that ran.

    A jitted function raises such errors as `JaxRuntimeError` in its first call. Later calls take another path through
    JAX's dispatch, which raises `ValueError` (in all JAX versions so far).
    """
    return str(error).partition(":")[0] in words.STATUS
