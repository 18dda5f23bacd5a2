"""Types of values: avals, their tangents and zeros, their mesh, and the axes over which they vary."""

# Private names are what this folder is for.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import jax
import numpy as np
from jax._src import ad_util, core, dtypes
from jax._src.interpreters import ad, pxla

Aval = Any  # jax.core.ShapedArray, or another of JAX's abstract values

ShapedArray = core.ShapedArray
JaxZero = ad_util.Zero
SymbolicZero = ad_util.SymbolicZero  # what ``jax.custom_jvp`` and ``custom_vjp`` hand to rules
ShardingTypeError = core.ShardingTypeError
float0 = dtypes.float0
typeof = core.typeof
is_undefined = ad.is_undefined_primal


def is_key(aval: Aval) -> bool:
    """Whether an aval is the type of a typed PRNG key."""
    return is_extended(aval.dtype)


def is_extended(dtype: Any) -> bool:
    """Whether a dtype is one of JAX's extended dtypes, such as the dtype of PRNG keys."""
    return dtypes.issubdtype(dtype, dtypes.extended)


def is_array_type(aval: Aval) -> bool:
    """Whether an aval is the type of an array (not of a mutable ref or a hijax value)."""
    return isinstance(aval, core.ShapedArray)


def struct_of(aval: Aval) -> jax.ShapeDtypeStruct:
    """The type as ``jax.eval_shape`` takes it."""
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type)


def strip(aval: Aval) -> Aval:
    return aval.strip_weak_type()


# -------------------------------------------------------------------------------------------------- tangents and zeros
# JAX 0.9.2 renamed `to_cotangent_aval`. The old name can go with 0.9.1.
_TO_COTANGENT = "to_ct_aval" if hasattr(core.ShapedArray, "to_ct_aval") else "to_cotangent_aval"


def tangent_aval(aval: Aval) -> Aval:
    return aval.to_tangent_aval()


def cotangent_aval(aval: Aval) -> Aval:
    return getattr(aval, _TO_COTANGENT)().strip_weak_type()


def has_tangent(aval: Aval) -> bool:
    """Whether values of this type have tangents (integers, booleans and keys have none)."""
    return _has_tangent(aval.dtype)


@cache  # each differentiation asks it of each operand, and an aval takes ten times as long to make
def _has_tangent(dtype: Any) -> bool:
    return core.primal_dtype_to_tangent_dtype(dtype) != float0


def zeros(aval: Aval) -> Any:
    """The array of zeros of an aval, with its sharding and varying axes."""
    return ad.instantiate_zeros(JaxZero(aval))


def zero_tangent(value: Any) -> Any:
    """JAX's zero tangent of a value."""
    return JaxZero(tangent_aval(typeof(value)))


def add_tangents(x: Any, y: Any) -> Any:
    return ad.add_tangents(x, y)


# ----------------------------------------------------------------------------------------------- meshes, varying axes
# JAX 0.10 put the varying axes of an aval into `aval.mat`, beside other things; before, `aval.vma` was the set of them.
# The set can go with 0.9.
_HAS_AXIS_TYPE = hasattr(core.ShapedArray, "mat")


def varying(aval: Aval) -> frozenset[Any]:
    """The mesh axes over which a value varies inside ``shard_map``."""
    return aval.mat.varying if _HAS_AXIS_TYPE else aval.vma


def varies_over(aval: Aval, axes: frozenset[Any]) -> dict[str, Any]:
    """The keyword argument that gives an aval like this one exactly these varying axes."""
    return {"manual_axis_type": aval.mat.update(varying=axes)} if _HAS_AXIS_TYPE else {"vma": axes}


def has_mesh(aval: Aval) -> bool:
    """Whether an aval belongs to a mesh: inside ``shard_map``, or under explicit sharding."""
    return not aval.sharding.mesh.empty


def without_its_mesh(aval: Aval) -> Aval:
    """The type of an array without its mesh."""
    return core.ShapedArray(aval.shape, aval.dtype, aval.weak_type) if has_mesh(aval) else aval


def mesh_in_reach() -> bool:
    """Whether some mesh axis is in scope, as inside shard_map."""
    return not jax.sharding.get_abstract_mesh().empty


def in_mesh(aval: Aval, axes: frozenset[Any], like: Aval) -> Aval:
    """The aval in the mesh of ``like``, replicated, varying over these axes."""
    return core.ShapedArray(
        aval.shape,
        aval.dtype,
        aval.weak_type,
        sharding=like.sharding.update(spec=jax.sharding.PartitionSpec(*[None] * len(aval.shape))),
        **varies_over(aval, varying(aval) | axes),
    )


def vary_over(aval: Aval, axes: frozenset[Any], like: Aval) -> Aval:
    """The aval, varying over these axes too, in the mesh of ``like`` if it has none."""
    return aval.update(**varies_over(aval, varying(aval) | axes)) if has_mesh(aval) else in_mesh(aval, axes, like)


def explicit_axes(aval: Aval) -> tuple[tuple[Any, ...], ...]:
    """The explicit mesh axes over which each axis of an array is split."""
    sharding = aval.sharding
    if sharding.mesh.empty or not sharding.mesh._any_axis_explicit:
        return ((),) * aval.ndim
    return tuple(() if part is None else part if isinstance(part, tuple) else (part,) for part in sharding.spec)


def split_over(aval: Aval, axes: Sequence[tuple[Any, ...]]) -> Aval:
    """An aval of a mesh, with each axis split over these explicit mesh axes."""
    spec = jax.sharding.PartitionSpec(*[over or None for over in axes])
    return aval.update(sharding=aval.sharding.update(spec=spec))


# JAX 0.8.2 made `pcast` public; `pvary`, its forerunner, went in 0.10. The second can go with 0.8.1.
_pcast: Any = getattr(jax.lax, "pcast", None)
_pvary: Any = getattr(jax.lax, "pvary", None) if _pcast is None else None  # deprecated if both exist


def cast_varying(value: Any, axes: frozenset[Any]) -> Any:
    """A value brought to these varying axes (its transpose sums over them)."""
    missing = tuple(sorted(axes - varying(typeof(value)), key=str))
    if not missing:
        return value
    return _pcast(value, missing, to="varying") if _pcast is not None else _pvary(value, missing)


def conform(value: Any, aval: Aval) -> Any:
    """A value with the varying axes and the explicit sharding of an aval."""
    if not has_mesh(aval):  # as in most eager code
        return value
    value, got = cast_varying(value, varying(aval)), typeof(value)
    if aval.sharding.mesh._any_axis_explicit and got.sharding.spec != aval.sharding.spec:
        value = jax.sharding.reshard(value, aval.sharding)
    return value


def unshard_front(value: Any) -> Any:
    """A value whose first dimension is not sharded explicitly, so that a loop can run over it."""
    sharding = typeof(value).sharding
    if not sharding.mesh._any_axis_explicit or sharding.spec[0] is None:
        return value
    return jax.sharding.reshard(value, sharding.update(spec=jax.sharding.PartitionSpec(None, *sharding.spec[1:])))


def places(value: Any, dim: int = 0) -> Any:
    """The place of each element of a value along a dimension, with the sharding of the value."""
    sharding = typeof(value).sharding if has_mesh(typeof(value)) else None
    return jax.lax.broadcasted_iota(np.int32, value.shape, dim, out_sharding=sharding)


def ordinary_point(aval: Aval) -> Any:
    """An array of different numbers between 1/4 and 3/4, none of which is special as 0 and 1 are."""
    value = zeros(aval)
    steps = [
        jax.lax.convert_element_type(places(value, d), np.float32) * (0.618034 / (d + 1)) for d in range(value.ndim)
    ]
    numbers = jax.lax.rem(sum(steps, np.float32(0.381966)), np.float32(1)) * np.float32(0.5) + np.float32(0.25)
    return value + jax.lax.convert_element_type(numbers, value.dtype)


# ---------------------------------------------------------------------------------------------- values of other types
def register_value_type(cls: type, aval_of: Callable[[Any], Aval], array_of: Callable[[Any], Any]) -> None:
    """Let JAX take instances of a class wherever it takes arrays; ``array_of`` makes the array."""

    def shard(values: Sequence[Any], shardings: Any, layouts: Any, copy_semantics: Any) -> Any:
        return pxla.shard_args(shardings, layouts, copy_semantics, [array_of(value) for value in values])

    core.pytype_aval_mappings[cls] = aval_of
    pxla.shard_arg_handlers[cls] = shard
    dtypes.canonicalize_value_handlers[cls] = array_of
