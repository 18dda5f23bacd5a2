"""Names for authors of derivative rules: `Zero`, and everything in ``jax.interpreters.ad``."""

from __future__ import annotations

from typing import Any

from jaxprim._jax import public_ad
from jaxprim._zeros import Zero

__all__ = ["Zero"]


def __getattr__(name: str) -> Any:
    return getattr(public_ad, name)
