"""Programs that are compiled to run once or twice: JAX's compiler takes nearly all of their time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

# LLVM then takes a quarter to a third less time for a program of many operations. XLA's own passes, which may reorder
# operations, all run. Only a CPU is known to take these options.
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def jit_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function under ``jax.jit``, for a few runs: compiled quickly, and slower then."""
    return jax.jit(function, compiler_options=QUICKLY if jax.default_backend() == "cpu" else None)
