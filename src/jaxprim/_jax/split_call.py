"""Calls of foreign code that XLA may split over devices.

A device that runs a call of foreign code as XLA knows it needs all operands whole. Three things tell XLA more. Which one
can be used depends on where the shardings are known:

- **explicit mesh axes**: the types say how arrays are split, so the call is put into a `shard_map` over these axes;
- **XLA's batch partitioner**: for leading axes that all arrays have. XLA makes the call smaller by itself;
- **a partitioner of our own**: for all else. XLA asks it for the program of one device, once it knows the shardings.

In the last two, a Shardy rule says which axes belong together. JAX's `custom_partitioning` does the third as well, but it
names the program by an object's address, so no other process finds it in JAX's compilation cache, and it cannot be
exported. Here the name of the program is the program: all that is needed to write it is in the text that XLA hands back.
"""

# Private names are what this folder is for.
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np
from jax._src import core, sharding_impls
from jax._src.custom_partitioning_sharding_rule import ArrayMapping, SdyShardingRule, sdy_sharding_rule_to_mlir
from jax._src.interpreters import mlir
from jax._src.lib import xla_client
from jax._src.lib.mlir import ir
from jax._src.lib.mlir.dialects import hlo

from jaxprim._jax.avals import Aval, explicit_axes
from jaxprim._jax.tables import lower_fun
from jaxprim._split import Cut, Split, choose, tiling

SPLIT_TARGET = "jaxprim_split"


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
    if any(over for aval in ctx.avals_in for over in explicit_axes(aval)):
        return lower_fun(partial(_in_shard_map, ctx.avals_in, split, on_device))(ctx, *args)
    outs = lower_fun(whole)(ctx, *args)
    devices = _devices_of_xla(ctx)
    if devices > 1 and split.free and core.is_constant_shape([n for aval in ctx.avals_in for n in aval.shape]):
        return _left_to_xla(ctx, split, outs, devices)
    return outs


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
    # All explicit axes, also those that nothing is split over: inside, nothing is explicit.
    mapped = jax.shard_map(
        lambda *xs: list(on_device(*xs)),
        mesh=mesh,
        in_specs=tuple(specs[:count]),
        out_specs=specs[count:],
        axis_names=set(mesh.explicit_axes),
        check_vma=False,
    )
    with jax.sharding.use_abstract_mesh(mesh):
        placed = [jax.sharding.NamedSharding(mesh, spec) for spec in specs[:count]]
        return mapped(*[jax.sharding.reshard(x, to) for x, to in zip(args, placed, strict=True)])


# ----------------------------------------------------------------------------------------------------- automatic axes
def _devices_of_xla(ctx: Any) -> int:
    """The number of devices that XLA may split over; 1 inside a `shard_map` over all mesh axes."""
    context = ctx.module_context.axis_context
    if isinstance(context, sharding_impls.ShardingContext):
        return context.num_devices
    if isinstance(context, sharding_impls.SPMDAxisContext) and set(context.manual_axes) != set(context.mesh.axis_names):
        return int(context.mesh.size)
    return 1


def _left_to_xla(ctx: Any, split: Split, outs: Sequence[Any], devices: int) -> Any:
    """The same call with what XLA needs to split it."""
    call = outs[0].owner
    rule = _shardy_rule(split, [x.type for x in call.operands], [x.type for x in call.results])
    # XLA's batch partitioner fills up parts of unequal size with anything, which foreign code must not see. The number of
    # parts divides the number of devices.
    sizes = ctx.avals_in[0].shape[: split.leading]
    is_plain = isinstance(ctx.module_context.axis_context, sharding_impls.ShardingContext)
    # It also forgets which operands and results share their memory.
    is_in_place = "output_operand_aliases" in call.attributes and len(call.attributes["output_operand_aliases"]) > 0
    if is_plain and split.leading and not is_in_place and all(n % devices == 0 for n in sizes):
        call.attributes["sdy.sharding_rule"] = rule
        call.attributes["mhlo.frontend_attributes"] = mlir.ir_attribute({"num_batch_dims": str(split.leading)})
        return outs
    types = [x.type for x in call.results]
    may_split = hlo.CustomCallOp(
        types,
        list(call.operands),
        call_target_name=ir.StringAttr.get(SPLIT_TARGET),
        has_side_effect=ir.BoolAttr.get(False),
        api_version=mlir.i32_attr(2),
        called_computations=ir.ArrayAttr.get([]),
        backend_config=ir.StringAttr.get(_describe(split, call)),
    )
    may_split.attributes["sdy.sharding_rule"] = rule
    call.operation.erase()
    return list(may_split.results)


def may_be_batch_split(target: str) -> None:
    """Let XLA split a handler's calls along leading axes, where a call says how many there are."""
    jax.ffi.register_ffi_target_as_batch_partitionable(target)


def _shardy_rule(split: Split, operands: list[Any], results: list[Any]) -> Any:
    names = {name for axes in split.arrays for name in axes}
    rule = SdyShardingRule(
        tuple(ArrayMapping(*axes) for axes in split.operands),
        tuple(ArrayMapping(*axes) for axes in split.results),
        need_replication_factors=tuple(sorted(names - split.free)),
    )
    return sdy_sharding_rule_to_mlir(rule, operands, results)


# ---------------------------------------------------------------------------------------------------- our partitioner
def _describe(split: Split, call: Any) -> str:
    """The call in words, for `_partition`."""
    attributes = ", ".join(f'"{name}" = {call.attributes[name]}' for name in call.attributes)
    return json.dumps([split.operands, split.results, sorted(split.free), attributes])


def _partition(
    operand_shapes: Any, operand_shardings: Any, result_shape: Any, result_sharding: Any, description: bytes
) -> Any:
    """XLA's question: the program of one device, and the shardings of its operands and of its result."""
    result_shardings = result_sharding.tuple_elements() if result_shape.is_tuple() else [result_sharding]
    shapes, shardings = [*operand_shapes, *_each(result_shape)], [*operand_shardings, *result_shardings]
    asked = tuple(tuple(shape.dimensions()) for shape in shapes)
    operands, results, free, attributes = json.loads(description)
    split = Split(tuple(map(tuple, operands)), tuple(map(tuple, results)), frozenset(free))
    cuts = [_cuts(sharding, len(shape)) for sharding, shape in zip(shardings, asked, strict=True)]
    bytes_of = [int(np.prod(s.dimensions())) * s.numpy_dtype().itemsize for s in shapes]
    chosen = choose(split, list(zip(asked, cuts, strict=True)), bytes_of)
    devices = max((len(sharding.tile_assignment_devices()) for sharding in shardings if sharding.is_tiled()), default=1)
    new = [_sharding(*tiling(axes, chosen, devices)) for axes in split.arrays]
    local = [_type(sharding.tile(shape)) for sharding, shape in zip(new, shapes, strict=True)]
    count = len(split.operands)
    program = _program(attributes, tuple(local[:count]), tuple(local[count:]))
    return program, new[:count], _of_all(result_shape, new[count:])


def _each(result_shape: Any) -> list[Any]:
    """The shapes of the results: XLA has a tuple for several."""
    return result_shape.tuple_shapes() if result_shape.is_tuple() else [result_shape]


def _of_all(result_shape: Any, shardings: list[Any]) -> Any:
    """The shardings of the results as one."""
    return xla_client.HloSharding.tuple_sharding(result_shape, shardings) if result_shape.is_tuple() else shardings[0]


def _cuts(sharding: Any, rank: int) -> list[Cut] | None:
    """How XLA has cut each axis of an array; None if it has not."""
    if not sharding.is_tiled():
        return None
    dims, devices = sharding.tile_assignment_dimensions(), np.asarray(sharding.tile_assignment_devices())
    found: list[Cut] = []
    for parts, index in zip(dims[:rank], np.unravel_index(np.arange(len(devices)), dims), strict=False):
        part = np.empty(len(devices), int)
        part[devices] = index
        found.append((parts, part))
    return found


def _sharding(parts: list[int], devices: list[int]) -> Any:
    copies = len(devices) // int(np.prod(parts, dtype=int))
    if copies == len(devices):
        return xla_client.HloSharding.replicate()
    made: Any = xla_client.OpSharding()
    made.type = xla_client.OpSharding.Type.OTHER
    made.tile_assignment_dimensions = [*parts, copies] if copies > 1 else parts
    made.tile_assignment_devices = devices
    made.replicate_on_last_tile_dim = copies > 1
    return xla_client.HloSharding.from_proto(made)


def _type(shape: Any) -> str:
    """An array's type in MLIR's words."""
    with mlir.make_ir_context():
        element = mlir.dtype_to_ir_type(np.dtype(shape.numpy_dtype()))
        return str(ir.RankedTensorType.get(shape.dimensions(), element, loc=ir.Location.unknown()))


@lru_cache(maxsize=1024)
def _program(attributes: str, operands: tuple[str, ...], results: tuple[str, ...]) -> bytes:
    """The program of one device, which is one call."""
    given = ", ".join(f"%x{i}: {kind}" for i, kind in enumerate(operands))
    passed = ", ".join(f"%x{i}" for i in range(len(operands)))
    got = ", ".join(f"%y#{i}" for i in range(len(results)))
    returned = f"({', '.join(results)})"
    text = f"""
      func.func public @main({given}) -> {returned} {{
        %y:{len(results)} = "stablehlo.custom_call"({passed}) {{{attributes}}} : ({", ".join(operands)}) -> {returned}
        return {got} : {", ".join(results)}
      }}"""
    with mlir.make_ir_context():
        return mlir.module_to_bytecode(ir.Module.parse(text))


def _result_without_shardy(_: Any, __: Any, result_shape: Any, description: bytes) -> Any:
    """The sharding of a result for XLA's own propagation, which knows no rule: on each device whole."""
    return _of_all(result_shape, [xla_client.HloSharding.replicate() for _ in _each(result_shape)])


xla_client.register_custom_call_partitioner(
    SPLIT_TARGET,
    lambda sharding, shape, description: sharding,
    _partition,
    _result_without_shardy,
    can_side_effecting_have_replicated_sharding=True,
)
