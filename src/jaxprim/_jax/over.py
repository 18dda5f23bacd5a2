"""The devices over which one call is split, as the program of one of them sees them: what it computes, and whom it can ask.

In a `shard_map`, devices are told apart by mesh axes. In a program that XLA asked `partitioner` for, there is no mesh: a
device knows its number, and a table says which part that is.
"""

# Private names are what this folder is for.
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import jax
import numpy as np
from jax._src.interpreters import batching, mlir
from jax._src.lib.mlir import ir
from jax._src.lib.mlir.dialects import hlo

from jaxprim._jax.avals import ShapedArray
from jaxprim._jax.tables import new_primitive, register_lowering
from jaxprim._split import MAX, MIN, SUM, Cut, groups, steps


class Over(Protocol):
    """The devices of one call. Axes go by their names in the `Split`."""

    def parts(self, name: str) -> int:
        """The number of parts of an axis."""
        ...

    def index(self, name: str) -> Any:
        """The part of this device."""
        ...

    def shift(self, x: Any, name: str, by: int, periodic: bool) -> Any:
        """The array of the device that has the part ``by`` places before; zeros if there is none."""
        ...

    def join(self, x: Any, names: Sequence[str], word: str) -> Any:
        """The sum, or the largest or least, over all parts of some axes."""
        ...


@dataclass(frozen=True)
class OverMesh:
    """The devices of a `shard_map`.

    Attributes:
        axes: the mesh axes over which each axis is split.
        sizes: the size of each mesh axis.
    """

    axes: Mapping[str, tuple[Any, ...]]
    sizes: Mapping[Any, int]

    def parts(self, name: str) -> int:
        return prod(self.sizes[axis] for axis in self.axes.get(name, ()))

    def index(self, name: str) -> Any:
        return jax.lax.axis_index(self.axes[name]) if self.parts(name) > 1 else np.int32(0)

    def shift(self, x: Any, name: str, by: int, periodic: bool) -> Any:
        count = self.parts(name)
        if count == 1:
            return _on_one(x, by, periodic)
        axes = self.axes[name]
        in_order = tuple(axis for axis in self.sizes if axis in axes)  # JAX wants the axes as the mesh has them
        place = self._places(axes, in_order)
        moves = [
            (place[part], place[(part + by) % count]) for part in range(count) if periodic or 0 <= part + by < count
        ]
        return jax.lax.ppermute(x, in_order, moves)

    def _places(self, axes: tuple[Any, ...], in_order: tuple[Any, ...]) -> list[int]:
        """The number of each part among the devices along some mesh axes, if these are taken in another order."""
        numbers = np.arange(prod(self.sizes[axis] for axis in axes)).reshape([self.sizes[axis] for axis in in_order])
        return numbers.transpose([in_order.index(axis) for axis in axes]).ravel().tolist()

    def join(self, x: Any, names: Sequence[str], word: str) -> Any:
        over = tuple(axis for name in names for axis in self.axes.get(name, ()))
        return _COLLECTIVES[word](x, over) if over else x


class OverVmap(OverMesh):
    """A vmapped axis that stands for devices. JAX permutes all of it or nothing."""

    def shift(self, x: Any, name: str, by: int, periodic: bool) -> Any:
        moved = super().shift(x, name, by, True)
        if periodic:
            return moved
        source = self.index(name) - by
        return jax.numpy.where((source >= 0) & (source < self.parts(name)), moved, jax.numpy.zeros_like(moved))


@dataclass(frozen=True)
class OverTiles:
    """The devices of XLA's question.

    Attributes:
        chosen: the cut of each axis.
        devices: their number.
    """

    chosen: Mapping[str, Cut]
    devices: int

    def parts(self, name: str) -> int:
        return self.chosen[name][0] if name in self.chosen else 1

    def index(self, name: str) -> Any:
        if self.parts(name) == 1:
            return np.int32(0)
        return jax.numpy.asarray(self.chosen[name][1].astype(np.int32))[device_p.bind()[0]]

    def shift(self, x: Any, name: str, by: int, periodic: bool) -> Any:
        if self.parts(name) == 1:
            return _on_one(x, by, periodic)
        return move_p.bind(x, steps=steps(name, by, self.chosen, self.devices, periodic=periodic))[0]

    def join(self, x: Any, names: Sequence[str], word: str) -> Any:
        over = groups(names, self.chosen, self.devices)
        return join_p.bind(x, groups=over, word=word)[0] if over else x

    @property
    def key(self) -> tuple[Any, ...]:
        """What a program depends on."""
        return tuple((name, parts, tuple(part.tolist())) for name, (parts, part) in sorted(self.chosen.items()))


def _on_one(x: Any, by: int, periodic: bool) -> Any:
    return x if periodic or by == 0 else jax.numpy.zeros_like(x)


# --------------------------------------------------------------------------- what a device without a mesh asks others
device_p = new_primitive("device_number")
move_p = new_primitive("move_between_devices")
join_p = new_primitive("join_over_devices")
_CHANNEL = 1
_COLLECTIVES: Mapping[str, Any] = {SUM: jax.lax.psum, MAX: jax.lax.pmax, MIN: jax.lax.pmin}
_ELEMENTWISE: Mapping[str, Any] = {SUM: hlo.add, MAX: hlo.maximum, MIN: hlo.minimum}


def _lower_device(ctx: Any) -> Any:
    number = hlo.partition_id()
    return [hlo.convert(ir.RankedTensorType.get([], ir.IntegerType.get_signless(32)), number)]


def _lower_move(ctx: Any, x: Any, *, steps: Any) -> Any:
    channel = hlo.ChannelHandle.get(_CHANNEL, mlir.DEVICE_TO_DEVICE_TYPE)
    pairs = ir.DenseElementsAttr.get(np.asarray(steps, np.int64).reshape(-1, 2))
    return hlo.CollectivePermuteOp(x, pairs, channel_handle=channel).results


def _lower_join(ctx: Any, x: Any, *, groups: Any, word: str) -> Any:
    return join_over(x, groups, word)


def join_over(x: Any, groups: Any, word: str) -> Any:
    """What groups of devices have, joined by a word, in code that is being written."""
    call = hlo.AllReduceOp(
        [x.type],
        [x],
        replica_groups=ir.DenseElementsAttr.get(np.asarray(groups, np.int64)),
        channel_handle=hlo.ChannelHandle.get(_CHANNEL, mlir.DEVICE_TO_DEVICE_TYPE),
        use_global_device_ids=True,
    )
    _of_two(call, x.type, word)
    return call.results


def _of_two(call: Any, array: Any, word: str) -> None:
    """Write how two numbers are joined into a call that joins arrays of this type."""
    number = ir.RankedTensorType.get([], ir.RankedTensorType(array).element_type)
    with ir.InsertionPoint(call.regions[0].blocks.append(number, number)) as point:
        hlo.return_([_ELEMENTWISE[word](*point.block.arguments)])


def _batch_move(args: Sequence[Any], dims: Sequence[Any], *, steps: Any) -> Any:
    return move_p.bind(*args, steps=steps), dims  # each element moves alike


device_p.def_abstract_eval(lambda: [ShapedArray((), np.dtype(np.int32))])
move_p.def_abstract_eval(lambda x, steps: [x])
join_p.def_abstract_eval(lambda x, groups, word: [x])
register_lowering(device_p, _lower_device)
register_lowering(move_p, _lower_move)
register_lowering(join_p, _lower_join)
batching.primitive_batchers[move_p] = _batch_move


# ------------------------------------------------------------------------------------- where XLA asks others by itself
def in_slot(x: Any, count: int, word: str) -> Any:
    """An array as the first of so many, of which the others do not count when they are joined."""
    others = jax.numpy.full((count - 1, *x.shape), _neutral(x.dtype, word), x.dtype)
    return jax.numpy.concatenate([x[None], others])


def lower_joined(x: Any, aval: Any, word: str) -> Any:
    """The sum, or the largest or least, of the arrays along the first axis; ``aval`` is the type of one of them."""
    one = ir.RankedTensorType.get(aval.shape, mlir.dtype_to_ir_type(aval.dtype))
    start = mlir.ir_constant(np.asarray(_neutral(aval.dtype, word), aval.dtype))
    call = hlo.ReduceOp([one], [x], [start], dimensions=mlir.dense_int_array([0]))
    _of_two(call, one, word)
    return call.results[0]


def _neutral(dtype: Any, word: str) -> Any:
    """The number that changes nothing when it is joined."""
    if word == SUM or np.dtype(dtype).kind == "b":
        return word == MIN
    if jax.numpy.issubdtype(dtype, np.integer):
        info = jax.numpy.iinfo(dtype)
        return info.min if word == MAX else info.max
    return -np.inf if word == MAX else np.inf
