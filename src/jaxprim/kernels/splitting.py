"""How a kernel's call splits over devices: along its batch axes, and along no others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

from jaxprim import _jax
from jaxprim._avals import in_operands_mesh
from jaxprim._errors import BadCall, message
from jaxprim._split import Axes, Split
from jaxprim.kernels.signature import Array, KernelSignature


def split_of(signature: KernelSignature, operands: Sequence[Any], results: Sequence[Any]) -> Split:
    """What a call may split, from the types of its operands and results.

    An operand whose batch axis has size 1 is the same for the whole batch, so that axis is one of its own.
    """
    batch = results[0].shape[: results[0].ndim - len(signature.results[0].dims)]

    def names(stem: str, array: Array, aval: Any) -> Axes:
        leading = aval.ndim - len(array.dims)
        own = [f"{stem}{axis}" for axis in range(aval.ndim)]
        return (*(f"batch{i}" if aval.shape[i] == batch[i] else own[i] for i in range(leading)), *own[leading:])

    ins = tuple(names(f"x{i}_", *row) for i, row in enumerate(zip(signature.operands, operands, strict=True)))
    outs = tuple(names(f"y{i}_", *row) for i, row in enumerate(zip(signature.results, results, strict=True)))
    return Split(ins, outs, frozenset(f"batch{i}" for i in range(len(batch))) & {name for axes in ins for name in axes})


def result_types(
    name: str, signature: KernelSignature, results: Sequence[Any], operands: Sequence[Any], defined: str
) -> tuple[Any, ...]:
    """Result types in the mesh of the operands. On explicit mesh axes, their batch axes are split as the operands' are.

    Raises:
        BadCall: an axis of one element is split over an explicit mesh axis, or two operands contradict each other.
    """
    found = in_operands_mesh(results, operands)
    if not any(over for aval in operands for over in _jax.explicit_axes(aval)):
        return found
    split = split_of(signature, operands, found)
    known: dict[str, tuple[Any, ...]] = {}
    for array, axes, aval in zip(signature.operands, split.operands, operands, strict=True):
        for place, (axis, over) in enumerate(zip(axes, _jax.explicit_axes(aval), strict=True)):
            if over and axis not in split.free:
                raise _must_be_whole(name, array, aval, place, defined)
            others = {mesh_axis for other, rest in known.items() if other != axis for mesh_axis in rest}
            if over and (known.setdefault(axis, over) != over or others & set(over)):
                raise _contradiction(name, array, aval, place, known, defined)
    return tuple(
        _jax.split_over(aval, [known.get(axis, ()) for axis in axes])
        for axes, aval in zip(split.results, found, strict=True)
    )


def _must_be_whole(name: str, array: Array, aval: Any, axis: int, defined: str) -> BadCall:
    return BadCall(
        message(
            f"{name}: operand '{array.name}' is split along an axis that the kernel needs whole.",
            got=f"{aval.str_short(short_dtypes=True)}, axis {axis} {_over(_jax.explicit_axes(aval)[axis])}",
            expected=f"batch axes alone split: {array.name}: {array}",
            why="each device would run the kernel on a part of one element",
            defined=defined,
            write=_made_whole(array, aval, axis),
        )
    )


def _contradiction(
    name: str, array: Array, aval: Any, axis: int, known: dict[str, tuple[Any, ...]], defined: str
) -> BadCall:
    others = [f"batch axis {other.removeprefix('batch')} {_over(over)}" for other, over in known.items()]
    return BadCall(
        message(
            f"{name}: its operands are split in ways that do not fit together.",
            got=f"batch axis {axis} {_over(_jax.explicit_axes(aval)[axis])} in operand '{array.name}'",
            expected=f"as in the operands before it: {', '.join(others)}",
            why="a device must have the same elements of each operand",
            defined=defined,
            write=_made_whole(array, aval, axis),
        )
    )


def _over(mesh_axes: tuple[Any, ...]) -> str:
    return f"split over {', '.join(map(str, mesh_axes))}"


def _made_whole(array: Array, aval: Any, axis: int) -> str:
    """The line that makes one axis of an operand whole."""
    parts = [None if i == axis else over or None for i, over in enumerate(_jax.explicit_axes(aval))]
    shown = ", ".join(repr(part[0] if part is not None and len(part) == 1 else part) for part in parts)
    return f"{array.name} = jax.sharding.reshard({array.name}, jax.sharding.PartitionSpec({shown}))"


def on_one_device(split: Split, results: Sequence[Any], operands: Sequence[jax.Array]) -> tuple[Any, ...]:
    """The result types of a call on the part of the operands that one device has."""
    sizes = {
        name: size
        for axes, x in zip(split.operands, operands, strict=True)
        for name, size in zip(axes, x.shape, strict=True)
    }
    local = [
        _jax.ShapedArray(tuple(sizes.get(n, size) for n, size in zip(axes, aval.shape, strict=True)), aval.dtype)
        for axes, aval in zip(split.results, results, strict=True)
    ]
    return in_operands_mesh(local, [_jax.typeof(x) for x in operands])
