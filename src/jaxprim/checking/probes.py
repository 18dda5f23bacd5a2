"""Random directions, cotangents and nearby points, each drawn from its own named stream of one seed.

A probe is scaled by its value, so operands of 1e-30 and of 1e30 are tested alike. No element of
a probe is near zero, so an error in one element of a rule shows in full.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim.checking.values import Array, is_key, is_scalar, to_jax, wide

Stream = np.random.Generator
# A tangent for some of the operand leaves, by their positions: each has the shape of its leaf, in double precision.
Tangents = Mapping[int, Array]

# The draws of tangents and cotangents, one for each purpose. 0 is for all operands together and for the first cotangent.
ALONE = 1
NOISE = 2
MEMBERS = 10  # the members of a batch: this one and the following
HIGHER_ORDER = 20  # this one and the following
HOLOMORPHIC = 30


@dataclass(frozen=True)
class Direction:
    """A tangent for some of the operand leaves; the others have none."""

    label: str
    tangents: Tangents

    @property
    def key(self) -> tuple[Any, ...]:
        """The identity of the direction, the same in every question."""
        return self.label, *self.tangents


def stream(seed: int, *labels: object) -> Stream:
    """The random numbers of one purpose; other draws never change them."""
    words = [zlib.crc32(str(label).encode()) for label in labels]
    return np.random.default_rng([seed, *words])


def signs(rng: Stream, shape: tuple[int, ...], complex_: bool) -> Array:
    """Random signs, or for complex numbers random phases that are neither real nor imaginary."""
    if not complex_:
        return rng.choice([-1.0, 1.0], shape)
    return np.exp(1j * (rng.uniform(0.2, np.pi / 2 - 0.2, shape) + rng.integers(0, 4, shape) * np.pi / 2))


def unit(rng: Stream, like: Array) -> Array:
    """Numbers of size 1/2 to 3/2, real or complex like ``like``."""
    return rng.uniform(0.5, 1.5, like.shape) * signs(rng, like.shape, np.iscomplexobj(like))


def typical(value: Array) -> float:
    """The typical size of the numbers in an array: the median of the finite, nonzero ones, or 1 if there are none."""
    sizes = np.abs(value)
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    return float(np.median(sizes)) if sizes.size else 1.0


def relative_direction(rng: Stream, value: Array) -> Array:
    """A tangent that changes each element in proportion to itself: it stays in the domain for small steps."""
    sizes = np.abs(value)
    usable = np.isfinite(sizes) & (sizes > 0)
    return unit(rng, value) * np.where(usable, sizes, typical(value))


def even_direction(rng: Stream, value: Array) -> Array:
    """A tangent of the same size in every element."""
    return unit(rng, value) * typical(value)


def round_to(value: Array, like: Any) -> Array:
    """``value`` as a rule receives it: rounded to the dtype of ``like``."""
    dtype = jnp.result_type(like)
    with np.errstate(over="ignore", under="ignore"):
        return wide(value.astype(dtype))


def move(leaf: Any, change: Array) -> Any:
    """``leaf + change`` in the type of the leaf; a Python number stays one, so that it stays weakly typed."""
    total = wide(leaf) + change
    if is_scalar(leaf):
        return type(leaf)(total)
    with np.errstate(over="ignore", under="ignore"):
        return to_jax(total.astype(leaf.dtype))


def fresh(leaf: Any) -> Any:
    """A copy of the leaf in its own memory."""
    return leaf if is_scalar(leaf) or is_key(leaf) else to_jax(np.array(leaf))


def nearby(rng: Stream, leaf: Any, relative: float) -> Any:
    """The leaf with each element changed by at most ``relative`` of itself; keys are split, truth values shuffled.

    Integers are kept, because another index may be out of range.
    """
    if is_key(leaf):
        data = rng.integers(0, 2**31, leaf.shape)
        return jax.vmap(jax.random.fold_in)(leaf.ravel(), data.ravel()).reshape(leaf.shape)
    if jnp.result_type(leaf) == jnp.bool_ and not is_scalar(leaf):
        return jnp.roll(leaf, int(rng.integers(1, max(2, leaf.size))))
    if not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
        return leaf
    value = wide(leaf)
    base = np.where(value == 0, 0 if np.any(value) else 1, np.abs(value))
    return move(leaf, base * relative * rng.uniform(0.5, 1.0, value.shape) * nearby_signs(rng, value))


def nearby_signs(rng: Stream, value: Array) -> Array:
    """Random signs. They are all positive for an array of zeros, because zero is often the end of the domain."""
    return rng.choice([-1.0, 1.0], value.shape) if np.any(value) else np.ones(value.shape)
