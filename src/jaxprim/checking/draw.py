"""Examples that nobody gave: numbers for a type, and the types that a kernel's signature declares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim._primitive import Primitive
from jaxprim._rules import rules_of
from jaxprim.checking import probes
from jaxprim.checking.values import Array, is_key
from jaxprim.kernels.dtypes import DTYPES
from jaxprim.kernels.kernel import Kernel
from jaxprim.kernels.signature import Signature

# What the sizes of a signature are taken to be: all different, so that mixing up two axes shows.
SMALLEST = 2


def drawn(operands: tuple[Any, ...], seed: int) -> tuple[Any, ...]:
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
    return jnp.asarray(_of_kind(like, rng), like.dtype)


def _of_kind(like: jax.ShapeDtypeStruct, rng: probes.Stream) -> Array:
    if not jnp.issubdtype(like.dtype, jnp.inexact):
        return rng.integers(0, 2, like.shape)
    real = rng.uniform(0.5, 1.5, like.shape)
    complex_ = jnp.issubdtype(like.dtype, jnp.complexfloating)
    return np.asarray(real + 1j * rng.uniform(0.5, 1.5, like.shape) if complex_ else real)


def declared(primitive: Primitive) -> tuple[Any, ...] | None:
    """The types of the operands that a kernel of the primitive declares, or None if no kernel declares them all."""
    for platform in rules_of(primitive).kernels():
        author = rules_of(primitive).given[f"kernel[{platform}]"].author
        if isinstance(author, Kernel):
            return _of_signature(author.signature)
    return None


def _of_signature(signature: Signature) -> tuple[Any, ...] | None:
    if any(attribute.default is None for attribute in signature.attributes):
        return None
    resolved = signature.resolve(dict.fromkeys(signature.variables, "f32"))
    sizes = {name: SMALLEST + k for k, name in enumerate(resolved.sizes)}
    try:
        shapes = [_shape(array.dims, sizes) for array in resolved.operands]
    except KeyError:  # a size that is worked out from others
        return None
    pairs = zip(shapes, resolved.operands, strict=True)
    return tuple(jax.ShapeDtypeStruct(shape, DTYPES[array.dtype].numpy) for shape, array in pairs)


def _shape(dims: tuple[str, ...], sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(int(dim) if dim.isdigit() else sizes[dim] for dim in dims)
