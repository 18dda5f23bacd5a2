"""Calls that XLA may split over devices: those of foreign code, and operations that say how they split.

A device that runs a call of foreign code as XLA knows it needs all operands whole. Three things tell XLA more. Which one
can be used depends on where the shardings are known:

- **explicit mesh axes**: the types say how arrays are split, so the call is put into a `shard_map` over these axes;
- **XLA's batch partitioner**: for leading axes that all arrays have. XLA makes the call smaller by itself;
- **a partitioner of our own** (`partitioner`): for all else. XLA asks it for the program of one device, once it knows the
  shardings.

In the last two, a Shardy rule says which axes belong together.
"""

# Private names are what this folder is for.
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
from jax._src import core, sharding_impls
from jax._src.custom_partitioning_sharding_rule import (
    ArrayMapping,
    CompoundFactor,
    SdyShardingRule,
    sdy_sharding_rule_to_mlir,
)
from jax._src.interpreters import mlir
from jax._src.lib.mlir import ir
from jax._src.lib.mlir.dialects import hlo

from jaxprim._jax import partitioner
from jaxprim._jax.avals import Aval, ShapedArray, explicit_axes, is_key
from jaxprim._jax.over import OverMesh, lower_joined
from jaxprim._jax.state import of_program
from jaxprim._jax.tables import lower_fun, platform_of
from jaxprim._split import Split


def lower_split(
    ctx: Any, split: Split, on_device: Callable[..., Any], whole: Callable[..., Any], args: Sequence[Any]
) -> Any:
    """Lower a call of foreign code that may be split.

    Args:
        ctx: the lowering context.
        split: what may be split.
        on_device: the function of the arrays that one device has, for JAX to trace.
        whole: the function of the whole arrays, for JAX to trace: one call of foreign code.
        args: the operands.
    """
    if _is_explicit(ctx):
        alone = lambda *operands, over: on_device(*operands)
        return lower_fun(partial(_in_shard_map, ctx.avals_in, split, alone))(ctx, *args)
    outs = lower_fun(whole)(ctx, *args)
    if _is_left_to_xla(ctx, split):
        return _foreign_call(ctx, split, outs)
    return outs


def lower_operation(
    ctx: Any, split: Split, operation: partitioner.Operation, whole: Callable[[], Any], args: Sequence[Any]
) -> Any:
    """Lower an operation that may be split.

    Args:
        ctx: the lowering context.
        split: what may be split.
        operation: the operation on the arrays that one device has.
        whole: lowers it for the whole arrays.
        args: the operands.
    """
    if _is_explicit(ctx):
        return lower_fun(partial(_in_shard_map, ctx.avals_in, split, operation))(ctx, *args)
    apart = None if _is_plain(ctx) else _apart(ctx, split, operation)
    used = split if apart is None else apart.of(split)
    # JAX has no host functions in partly manual code. In the program of one device they may stand.
    must_be_named = operation.is_on_host and _devices_of_xla(ctx) > 1 and not _is_plain(ctx)
    if not _is_left_to_xla(ctx, used) and not must_be_named:
        return whole()
    name = partitioner.name(ctx.module_context, split, operation, ctx.avals_in, platform_of(ctx), apart)
    if name is None:
        return whole()
    if apart is None:
        return _named_call(split, name, args, list(map(partitioner.mlir_type, ctx.avals_out)))
    return _call_apart(ctx, split, apart, name, args)


def _is_explicit(ctx: Any) -> bool:
    # XLA refuses a `shard_map` of nothing but empty arrays.
    split = any(over for aval in ctx.avals_in for over in explicit_axes(aval))
    return split and any(0 not in aval.shape for aval in ctx.avals_in)


def _is_left_to_xla(ctx: Any, split: Split) -> bool:
    """Whether XLA decides later how the arrays are split. It splits neither symbolic sizes nor keys."""
    avals = [*ctx.avals_in, *ctx.avals_out]
    known = core.is_constant_shape([n for aval in avals for n in aval.shape]) and not any(map(is_key, avals))
    return bool(split.free) and known and _devices_of_xla(ctx) > 1


# ------------------------------------------------------------------------------------------------------ explicit axes
def _in_shard_map(avals: Sequence[Aval], split: Split, on_device: Callable[..., Any], *args: Any) -> Any:
    mesh = next(aval.sharding.mesh for aval in avals if any(explicit_axes(aval)))
    over = {
        name: axes
        for names, aval in zip(split.operands, avals, strict=True)
        for name, axes in zip(names, explicit_axes(aval), strict=True)
        if axes and name in split.free
    }
    specs = [jax.sharding.PartitionSpec(*[over.get(name) for name in names]) for names in split.arrays]
    count = len(split.operands)
    devices = OverMesh(over, mesh.shape)

    def local(*xs: Any) -> list[Any]:
        return partitioner.on_one_device(split, on_device, devices, xs)

    with of_program(mesh):
        # All explicit axes, also those that nothing is split over: inside, nothing is explicit.
        mapped = jax.shard_map(
            local,
            mesh=mesh,
            in_specs=tuple(specs[:count]),
            out_specs=specs[count:],
            axis_names=set(mesh.explicit_axes),
            check_vma=False,
        )
        placed = [jax.sharding.NamedSharding(mesh, spec) for spec in specs[:count]]
        return mapped(*[jax.sharding.reshard(x, to) for x, to in zip(args, placed, strict=True)])


# ----------------------------------------------------------------------------------------------------- automatic axes
def _is_plain(ctx: Any) -> bool:
    """Whether no mesh axis is manual."""
    return isinstance(ctx.module_context.axis_context, sharding_impls.ShardingContext)


def _devices_of_xla(ctx: Any) -> int:
    """The number of devices that XLA may split over; 1 inside a `shard_map` over all mesh axes."""
    context = ctx.module_context.axis_context
    if isinstance(context, sharding_impls.ShardingContext):
        return context.num_devices
    if isinstance(context, sharding_impls.SPMDAxisContext) and set(context.manual_axes) != set(context.mesh.axis_names):
        return int(context.mesh.size)
    return 1


def _apart(ctx: Any, split: Split, operation: partitioner.Operation) -> partitioner.Apart:
    """What is split in partly manual code. There, XLA numbers devices in an order of its own, so that none can be named.

    So results are joined by XLA, over one axis. Over which one is not known before XLA asks, and a device's part of the
    leading axis is larger than one element if fewer devices split it than there are: one axis is enough of that.
    """
    context = ctx.module_context.axis_context
    count = math.prod(n for axis, n in context.mesh.shape.items() if axis not in context.manual_axes)
    whole = operation.own_axes if operation.has_partition_rule else frozenset[str]()
    sizes = split.sizes([aval.shape for aval in ctx.avals_in])
    fits = [axis for axis in sorted(split.joining - whole) if core.is_constant_dim(sizes[axis]) and sizes[axis]]
    fits = [axis for axis in fits if sizes[axis] % count == 0]
    return partitioner.Apart(max(fits, key=lambda axis: sizes[axis], default=None), count, whole)


def _call_apart(ctx: Any, split: Split, apart: partitioner.Apart, name: str, args: Sequence[Any]) -> list[Any]:
    """A call of devices that cannot ask each other. XLA joins their results."""
    used = apart.of(split)
    leads = [len(new) - len(old) for new, old in zip(used.results, split.results, strict=True)]
    types = [
        partitioner.mlir_type(ShapedArray((*(apart.count,) * lead, *aval.shape), aval.dtype))
        for lead, aval in zip(leads, ctx.avals_out, strict=True)
    ]
    outs = _named_call(used, name, args, types, apart)
    return [
        lower_joined(y, aval, split.word(i, str(apart.axis))) if lead else y
        for i, (y, lead, aval) in enumerate(zip(outs, leads, ctx.avals_out, strict=True))
    ]


def _foreign_call(ctx: Any, split: Split, outs: Sequence[Any]) -> Any:
    """The same call of foreign code with what XLA needs to split it."""
    call = outs[0].owner
    # XLA's batch partitioner fills up parts of unequal size with anything, which foreign code must not see. The number of
    # parts divides the number of devices. It gathers the operands if none has an axis beside the leading ones, and it forgets
    # which operands and results share their memory.
    sizes, devices = ctx.avals_in[0].shape[: split.leading], _devices_of_xla(ctx)
    has_more = any(len(axes) > split.leading for axes in split.operands)
    is_in_place = "output_operand_aliases" in call.attributes and len(call.attributes["output_operand_aliases"]) > 0
    fits = has_more and not is_in_place and all(n % devices == 0 for n in sizes)
    if _is_plain(ctx) and split.leading and fits:
        call.attributes["sdy.sharding_rule"] = _shardy_rule(split, call)
        call.attributes["mhlo.frontend_attributes"] = mlir.ir_attribute({"num_batch_dims": str(split.leading)})
        return outs
    if not _is_plain(ctx):  # as for operations: no group of devices can be named there
        split = split.kept_apart(None)
    name = partitioner.name_of_foreign_call(split, {key: str(call.attributes[key]) for key in call.attributes})
    found = _named_call(split, name, list(call.operands), [x.type for x in call.results])
    call.operation.erase()
    return found


def _named_call(
    split: Split, name: str, operands: Sequence[Any], types: Sequence[Any], apart: partitioner.Apart | None = None
) -> list[Any]:
    """A call that XLA asks `partitioner` about."""
    call = hlo.CustomCallOp(
        list(types),
        list(operands),
        call_target_name=ir.StringAttr.get(partitioner.SPLIT_TARGET),
        has_side_effect=ir.BoolAttr.get(False),
        api_version=mlir.i32_attr(2),
        called_computations=ir.ArrayAttr.get([]),
        backend_config=ir.StringAttr.get(name),
    )
    call.attributes["sdy.sharding_rule"] = _shardy_rule(split, call, apart)
    return list(call.results)


def may_be_batch_split(target: str) -> None:
    """Let XLA split a handler's calls along leading axes, where a call says how many there are."""
    jax.ffi.register_ffi_target_as_batch_partitionable(target)


def _shardy_rule(split: Split, call: Any, apart: partitioner.Apart | None = None) -> Any:
    names = dict.fromkeys(name for axes in split.arrays for name in axes)
    factor = {name: f"f{i}" for i, name in enumerate(names)}  # Shardy takes few names
    # An axis that some result has passes through to that one, and is summed in the others.
    passed = {name for axes in split.results for name in axes}
    arrays = [*call.operands, *call.results]
    shapes = [ir.RankedTensorType(x.type).shape for x in arrays]
    # An axis that leads in a result has one element there for each part; elsewhere, each part has several of its own.
    axis, count = (apart.axis, apart.count) if apart is not None else (None, 1)
    rows = [*zip(split.arrays, shapes, strict=True)]
    own = [n for row in rows for name, n in zip(*row, strict=True) if name == axis and n > count]
    inner: dict[str, Any] = {"inner": own[0] // count} if own else {}

    def of(name: str, size: int) -> Any:
        return CompoundFactor(factor[name], "inner") if name == axis and size > count else factor[name]

    mapped = [ArrayMapping(*map(of, axes, shape)) for axes, shape in rows]
    rule = SdyShardingRule(
        tuple(mapped[: len(split.operands)]),
        tuple(mapped[len(split.operands) :]),
        reduction_factors=tuple(factor[name] for name in names if name in split.free - passed),
        need_replication_factors=(*(factor[n] for n in names if n not in split.free), *inner),
        **inner,
    )
    return sdy_sharding_rule_to_mlir(rule, [x.type for x in call.operands], [x.type for x in call.results])
