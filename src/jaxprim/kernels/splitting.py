"""How a kernel's call splits over devices: along its batch axes, and along no others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

from jaxprim import _jax
from jaxprim._avals import in_operands_mesh
from jaxprim._sharded_types import Splits, split_types
from jaxprim._split import Axes, Split, part
from jaxprim.kernels.signature import Array, KernelSignature


def split_of(signature: KernelSignature, operands: Sequence[Any], results: Sequence[Any]) -> Split:
    """What a call may split, from the types of its operands and results.

    An operand whose batch axis has size 1 is the same for the whole batch, and such a result is a sum over it. In both cases
    the axis is one of its own.
    """
    rows = [*zip(signature.operands, operands, strict=True), *zip(signature.results, results, strict=True)]
    shapes = [aval.shape[: aval.ndim - len(array.dims)] for array, aval in rows]
    # An own handler may get an operand without any batch axes.
    batched = [shape for shape in shapes if len(shape) == max(map(len, shapes))]
    batch = [next((size for size in sizes if not _is_one(size)), 1) for sizes in zip(*batched, strict=True)]

    def names(stem: str, array: Array, aval: Any) -> Axes:
        leading = aval.ndim - len(array.dims)
        own = [f"{stem}{axis}" for axis in range(aval.ndim)]
        return (*(f"batch{i}" if aval.shape[i] == batch[i] else own[i] for i in range(leading)), *own[leading:])

    ins = tuple(names(f"x{i}_", *row) for i, row in enumerate(zip(signature.operands, operands, strict=True)))
    outs = tuple(names(f"y{i}_", *row) for i, row in enumerate(zip(signature.results, results, strict=True)))
    return Split(ins, outs, frozenset(f"batch{i}" for i in range(len(batch))) & {name for axes in ins for name in axes})


def _is_one(size: Any) -> bool:
    """Whether a size is 1. A symbolic one is not, also where it may be."""
    return isinstance(size, int) and size == 1


def result_types(
    name: str, signature: KernelSignature, results: Sequence[Any], operands: Sequence[Any], defined: str
) -> tuple[Any, ...]:
    """Result types in the mesh of the operands. On explicit mesh axes, their batch axes are split as the operands' are.

    Raises:
        BadCall: an axis of one element is split over an explicit mesh axis, or two operands contradict each other.
    """
    arrays = signature.operands
    who = Splits(
        name,
        [array.name for array in arrays],
        whole="the kernel needs whole",
        expected=lambda index: f"batch axes alone split: {arrays[index].name}: {arrays[index]}",
        why="each device would run the kernel on a part of one element",
        axis=lambda axis: f"batch axis {axis.removeprefix('batch')}",
        facts={"defined": defined},
    )
    return split_types(who, lambda: split_of(signature, operands, results), results, operands)


def on_one_device(split: Split, results: Sequence[Any], operands: Sequence[jax.Array]) -> tuple[Any, ...]:
    """The result types of a call on the part of the operands that one device has."""
    sizes = split.sizes([x.shape for x in operands])
    local = [
        _jax.ShapedArray(part(axes, aval.shape, sizes), aval.dtype)
        for axes, aval in zip(split.results, results, strict=True)
    ]
    return in_operands_mesh(local, [_jax.typeof(x) for x in operands])
