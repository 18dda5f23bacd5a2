"""Names for authors of derivative rules: `Zero`, and everything in ``jax.interpreters.ad``.

The functions that look for zeros find those of jaxprim too. JAX's own look for JAX's class alone.
"""

from __future__ import annotations

from typing import Any

from jaxprim import _avals
from jaxprim._jax import public_ad
from jaxprim._zeros import Zero, is_symbolic

__all__ = ["Zero", "add_tangents", "instantiate_zeros"]


def add_tangents(x: Any, y: Any) -> Any:
    """Add two tangents. A zero of any shape and dtype leaves the other as it is, as in JAX."""
    if is_symbolic(x):
        return y
    return x if is_symbolic(y) else public_ad.add_tangents(x, y)


def instantiate_zeros(tangent: Any) -> Any:
    """The array of zeros for a zero; anything else unchanged."""
    if isinstance(tangent, Zero):
        return tangent.instantiate()
    return _avals.instantiate([tangent])[0]


def __getattr__(name: str) -> Any:
    return getattr(public_ad, name)
