"""Random numbers for operands that are given as types."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim.checking import probes
from jaxprim.checking.values import Array, is_key, to_jax


def draw_types(operands: tuple[Any, ...], seed: int) -> tuple[Any, ...]:
    """The operands, with numbers for each ``jax.ShapeDtypeStruct``.

    The numbers lie between 1/2 and 3/2, where most functions are defined; integers are 0 or 1, which are good indices.
    """
    leaves, tree = jax.tree_util.tree_flatten(operands)
    some = [
        _numbers(leaf, probes.stream(seed, "example", i)) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf
        for i, leaf in enumerate(leaves)
    ]
    return tree.unflatten(some)


def _numbers(like: jax.ShapeDtypeStruct, rng: probes.Stream) -> Any:
    if is_key(like):
        return jax.random.split(jax.random.key(int(rng.integers(2**31))), like.shape)
    return to_jax(np.asarray(_of_kind(like, rng), like.dtype))


def _of_kind(like: jax.ShapeDtypeStruct, rng: probes.Stream) -> Array:
    if not jnp.issubdtype(like.dtype, jnp.inexact):
        return rng.integers(0, 2, like.shape)
    real = rng.uniform(0.5, 1.5, like.shape)
    complex_ = jnp.issubdtype(like.dtype, jnp.complexfloating)
    return np.asarray(real + 1j * rng.uniform(0.5, 1.5, like.shape) if complex_ else real)
