"""Names for authors of lowering rules: everything in ``jax.interpreters.mlir``."""

from __future__ import annotations

from typing import Any

from jaxprim._jax import public_mlir


def __getattr__(name: str) -> Any:
    return getattr(public_mlir, name)
