"""Questions about several devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxprim._jax import words
from jaxprim.checking.against_plain_call import compare_with_plain_call, derivatives_of
from jaxprim.checking.answers import Answer, NotAsked, Note, first_line
from jaxprim.checking.batch import Batch, stack_cotangents, stack_tangents
from jaxprim.checking.case import Case
from jaxprim.checking.precision import Precision, of_some
from jaxprim.checking.question import question
from jaxprim.checking.values import is_scalar, wide

ONE_DEVICE = "JAX has only one device here; for virtual devices, set XLA_FLAGS=--xla_force_host_platform_device_count=2 before JAX starts"
AXIS = "devices"


def two_devices() -> list[Any]:
    """Two devices; raises NotAsked where JAX has one."""
    devices = jax.local_devices()
    if len(devices) < 2:
        raise NotAsked(ONE_DEVICE)
    return devices[:2]


def _mesh() -> Mesh:
    return Mesh(np.array(two_devices()), (AXIS,))


# -------------------------------------------------------------------------------------------------------- sharded jit
@question("Does jit on two devices give the same as on one?", group="scale", speed="thorough")
def sharded_jit(case: Case) -> Answer:
    """Compare value, JVP and VJP under jit, with operands sharded over two devices, with one device."""
    mesh = _mesh()
    leaves = spread(case, mesh)
    yield from shared_by_all(leaves)
    for item in derivatives_of(case):
        if isinstance(item, Note):
            yield item
            continue
        rule, transform = item
        found = jax.jit(transform(case.native.flat))(*leaves)
        yield from compare_with_plain_call(case, rule, "operands sharded over two devices, against one device", found)


def spread(case: Case, mesh: Mesh) -> list[Any]:
    """The operands of the example, sharded over two devices; raises NotAsked if none is an array."""
    leaves = case.native.point.leaves
    if all(is_scalar(leaf) for leaf in leaves):
        raise NotAsked("no operand is an array")
    return [leaf if is_scalar(leaf) else _spread(leaf, mesh) for leaf in leaves]


def shared_by_all(leaves: Sequence[Any]) -> Answer:
    """A note if every device holds all of every operand."""
    if all(is_scalar(leaf) or leaf.sharding.is_fully_replicated for leaf in leaves):
        yield Note("no operand has an axis that divides evenly over two devices: each device holds all operands")


def _spread(leaf: Any, mesh: Mesh) -> Any:
    """The leaf, sharded along its longest even axis, or replicated if there is none."""
    even = [axis for axis, size in enumerate(leaf.shape) if size and size % mesh.size == 0]
    if not even:
        return jax.device_put(leaf, NamedSharding(mesh, PartitionSpec()))
    axis = max(even, key=lambda axis: leaf.shape[axis])
    return jax.device_put(leaf, NamedSharding(mesh, PartitionSpec(*[None] * axis, AXIS)))


# ---------------------------------------------------------------------------------------------------------- shard_map
@question("Does shard_map over two devices give the same as a loop?", group="scale", speed="thorough")
def shard_map(case: Case) -> Answer:
    """Compare value, JVP and VJP of a batch of points, one per device under ``jax.shard_map``, with a loop."""
    mesh = _mesh()
    leaves = case.native.point.leaves
    axes = tuple(None if is_scalar(leaf) else 0 for leaf in leaves)
    if all(axis is None for axis in axes):
        raise NotAsked("no operand is an array")
    batches = [_Pair(case, case.native, axes)]
    arrays = [i for i, axis in enumerate(axes) if axis is not None]
    if len(arrays) > 1:  # the others are the same on every device
        batches.append(_Pair(case, case.native, tuple(0 if i == arrays[0] else None for i in range(len(axes)))))
    for batch in batches:
        try:
            yield from _compare_values_and_rules(case, batch, mesh)
        except (TypeError, ValueError) as error:
            if words.VARYING[TypeError if isinstance(error, TypeError) else ValueError] not in str(error):
                raise
            yield Note(f"shard_map takes it only with check_vma=False: {first_line(error)}")
            yield from _compare_values_and_rules(case, batch, mesh, check_vma=False)


class _Pair(Batch):
    """A batch of two, one member per device."""

    @property
    def size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride] - fixed here, computed there
        return 2


def _compare_values_and_rules(case: Case, batch: Batch, mesh: Mesh, *, check_vma: bool = True) -> Answer:
    precision, noise = case.native, case.value(case.native)[1]
    mapped = _per_device(precision, batch, mesh, check_vma=check_vma)
    found = jax.jit(mapped)(*batch.stacked)
    rows = [precision.value(member) for member in batch.members]
    against = f"shard_map against a loop, {batch.label}"
    for k, name in enumerate(precision.names):
        expected = np.stack([row[k] for row in rows])
        yield case.evidence(
            "impl", against, name, wide(found[k]), expected, case.roughly(precision, expected, noise[k])
        )
    ask = {"jvp": _compare_jvps, "vjp": _compare_vjps}
    for mode in (yield from case.rules()):
        yield from ask[mode](case, batch, mapped, against)


def _per_device(precision: Precision, batch: Batch, mesh: Mesh, *, check_vma: bool) -> Any:
    """The operation on each device's own member, as a function of all operands; results are stacked."""
    specs = tuple(PartitionSpec(AXIS) if axis == 0 else PartitionSpec() for axis in batch.axes)

    def local(*leaves: Any) -> list[Any]:
        own = [leaf if axis is None else leaf[0] for leaf, axis in zip(leaves, batch.axes, strict=True)]
        return [leaf[None] for leaf in precision.flat(*own)]

    return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(AXIS), check_vma=check_vma)


def _compare_jvps(case: Case, batch: Batch, mapped: Any, against: str) -> Answer:
    precision, wrt = case.native, case.wrt("jvp")
    noise = case.jvp(precision, case.directions("jvp")[0])[1]
    each = [batch.tangents(wrt, member) for member in range(batch.size)]
    tangents = tuple(stack_tangents(batch, each).values())

    def push(leaves: Sequence[Any]) -> Any:
        return jax.jvp(of_some(mapped, leaves, wrt), tuple(leaves[i] for i in wrt), tangents)[1]

    found = jax.jit(push)(batch.stacked)
    rows = [precision.jvp(t, leaves).tangent for t, leaves in zip(each, batch.members, strict=True)]
    for k, (i, name) in enumerate(zip(precision.outputs, precision.output_names, strict=True)):
        expected = np.stack([row[k] for row in rows])
        tolerance = case.roughly(precision, expected, noise[k])
        yield case.evidence("jvp", f"jvp of {against}", f"tangent of {name}", wide(found[i]), expected, tolerance)


def _compare_vjps(case: Case, batch: Batch, mapped: Any, against: str) -> Answer:
    """An operand that all devices share gets the sum of their cotangents."""
    precision, wrt = case.native, case.wrt("vjp")
    noise = case.vjp(precision, 0)[1]
    drawn = [batch.cotangents(member) for member in range(batch.size)]
    seeds = stack_cotangents(precision, drawn)

    def pull(leaves: Sequence[Any]) -> Any:
        primal, back = jax.vjp(of_some(mapped, leaves, wrt), *[leaves[i] for i in wrt])
        return back(list(precision.seeds(primal, seeds)))

    found = jax.jit(pull)(batch.stacked)
    rows = [precision.vjp(cts, wrt, leaves).cotangent for cts, leaves in zip(drawn, batch.members, strict=True)]
    for i, got in zip(wrt, found, strict=True):
        each = np.stack([row[i] for row in rows])
        shared = batch.axes[i] is None
        expected, size = (np.sum(each, 0), np.sum(np.abs(each), 0)) if shared else (each, each)
        tolerance = case.roughly(precision, size, noise[i])
        yield case.evidence(
            "vjp", f"vjp of {against}", f"cotangent of {case.point.names[i]}", wide(got), expected, tolerance
        )
