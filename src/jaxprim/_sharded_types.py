"""Result types on explicit mesh axes: how the operands are split says how the results are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxprim import _jax
from jaxprim._avals import in_operands_mesh
from jaxprim._errors import BadCall, message
from jaxprim._split import Split


@dataclass(frozen=True)
class Splits:
    """What splits, in the words of messages.

    Attributes:
        owner: the primitive or kernel.
        operands: the names of its operands.
        whole: who needs an axis whole, as in "an axis that the kernel needs whole".
        expected: what is expected of an operand, by its place.
        why: why an axis must be whole.
        axis: the words for an axis, by its name in the split.
        facts: where it was made: ``rule=`` or ``defined=``.
    """

    owner: str
    operands: Sequence[str]
    whole: str
    expected: Callable[[int], str]
    why: str
    axis: Callable[[str], str]
    facts: Mapping[str, Any]


def split_types(
    who: Splits, split: Callable[[], Split], results: Sequence[Any], operands: Sequence[Any]
) -> tuple[Any, ...]:
    """Result types in the mesh of the operands. On explicit mesh axes, their axes are split as those of the operands.

    Args:
        who: what splits.
        split: makes what may be split; called only if some operand is split explicitly.
        results: the result types without their mesh.
        operands: the types of the operands.

    Raises:
        BadCall: an axis that must be whole is split over an explicit mesh axis, or two operands contradict each other.
    """
    found = in_operands_mesh(results, operands)
    if not any(over for aval in operands for over in _jax.explicit_axes(aval)):
        return found
    axes, known = split(), dict[str, tuple[Any, ...]]()
    for index, (names, aval) in enumerate(zip(axes.operands, operands, strict=True)):
        for place, (name, over) in enumerate(zip(names, _jax.explicit_axes(aval), strict=True)):
            if over and name not in axes.free:
                raise _must_be_whole(who, index, aval, place)
            others = {mesh_axis for other, rest in known.items() if other != name for mesh_axis in rest}
            if over and (known.setdefault(name, over) != over or others & set(over)):
                raise _contradiction(who, index, aval, place, names, known)
    return tuple(
        _jax.split_over(aval, [known.get(name, ()) for name in names])
        for names, aval in zip(axes.results, found, strict=True)
    )


def _must_be_whole(who: Splits, index: int, aval: Any, place: int) -> BadCall:
    return BadCall(
        message(
            f"{who.owner}: operand '{who.operands[index]}' is split along an axis that {who.whole}.",
            got=f"{aval.str_short(short_dtypes=True)}, axis {place} {_over(_jax.explicit_axes(aval)[place])}",
            expected=who.expected(index),
            why=who.why,
            write=_made_whole(who.operands[index], aval, place),
            **who.facts,
        )
    )


def _contradiction(
    who: Splits, index: int, aval: Any, place: int, names: Sequence[str], known: Mapping[str, tuple[Any, ...]]
) -> BadCall:
    own = names[place]
    others = [
        f"{who.axis(name)} {_over(over)}" for name, over in known.items() if (name, over) != (own, _at(aval, place))
    ]
    return BadCall(
        message(
            f"{who.owner}: its operands are split in ways that do not fit together.",
            got=f"{who.axis(own)} {_over(_at(aval, place))} in operand '{who.operands[index]}'",
            expected=f"as in the operands before it: {', '.join(others)}",
            why="a device must have the same elements of each operand, and a mesh axis splits one axis alone",
            write=_made_whole(who.operands[index], aval, place),
            **who.facts,
        )
    )


def _at(aval: Any, place: int) -> tuple[Any, ...]:
    return _jax.explicit_axes(aval)[place]


def _over(mesh_axes: tuple[Any, ...]) -> str:
    return f"split over {', '.join(map(str, mesh_axes))}"


def _made_whole(name: str, aval: Any, axis: int) -> str:
    """The line that makes one axis of an operand whole."""
    parts = [None if i == axis else over or None for i, over in enumerate(_jax.explicit_axes(aval))]
    shown = ", ".join(repr(part[0] if part is not None and len(part) == 1 else part) for part in parts)
    return f"{name} = jax.sharding.reshard({name}, jax.sharding.PartitionSpec({shown}))"
