"""How a call splits over devices: which axes of its arrays belong together, and which device computes which part.

Two axes that have the same name are cut into the same parts. A result that lacks a cut axis is a sum over its parts: for
k cut into parts p,

    y[i, j] = sum_k a[i, k] b[k, j] = sum_p ( sum_{k in p} a[i, k] b[k, j] )

It may also be the largest or the least of what the parts give, or the same for each of them.

NumPy alone, so that it can be tested without devices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

Axes = tuple[str, ...]  # a name for each axis of an array
# How an axis is cut: into how many parts of one size, and the part of each device, an array of shape [devices].
Cut = tuple[int, np.ndarray]

# What a result that lacks a cut axis is, of what the parts give: their sum, the largest or the least of them, element by
# element, or the same as each, which JAX calls invarying.
SUM, MAX, MIN, INVARYING = WORDS = ("sum", "max", "min", "invarying")


def part(axes: Axes, shape: Sequence[int], sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of a part of an array, from the sizes of the axes that are known of the part."""
    return tuple(sizes.get(name, size) for name, size in zip(axes, shape, strict=True))


@dataclass(frozen=True)
class Split:
    """The axes of a call's arrays.

    Attributes:
        operands: the names of the axes of each operand.
        results: the names of the axes of each result.
        free: the names of the axes that may be cut. A device needs all others whole. A result that lacks a free axis
            is the sum of what the devices compute.
        otherwise: where it is no sum: the place of the result, the axis, and the word.
    """

    operands: tuple[Axes, ...]
    results: tuple[Axes, ...]
    free: frozenset[str]
    otherwise: frozenset[tuple[int, str, str]] = frozenset()

    @property
    def arrays(self) -> tuple[Axes, ...]:
        return (*self.operands, *self.results)

    def word(self, result: int, axis: str) -> str:
        """What a result that lacks an axis is, of what its parts give."""
        return next((word for place, name, word in self.otherwise if (place, name) == (result, axis)), SUM)

    def joined(self, result: int) -> dict[str, tuple[str, ...]]:
        """The names of the axes over whose parts devices join a result, by the word that says how."""
        lacking = sorted(self.free - set(self.results[result]))
        found = {word: tuple(a for a in lacking if self.word(result, a) == word) for word in (SUM, MAX, MIN)}
        return {word: axes for word, axes in found.items() if axes}

    @property
    def joining(self) -> frozenset[str]:
        """The names of the axes over whose parts some result is joined."""
        rows = map(self.joined, range(len(self.results)))
        return frozenset(axis for row in rows for axes in row.values() for axis in axes)

    def kept_apart(self, axis: str | None) -> Split:
        """The same for devices that cannot ask each other: no result is joined.

        The results that are to be joined over one axis have it in front, with one element for each part. All others of
        these axes stay whole.
        """
        own = replace(self, free=self.free - (self.joining - {axis}))
        lead = lambda i: (axis,) if axis is not None and own.joined(i) else ()
        return replace(own, results=tuple((*lead(i), *axes) for i, axes in enumerate(self.results)))

    def sizes(self, shapes: Sequence[Sequence[int]]) -> dict[str, int]:
        """The size of each axis of the operands, from their shapes."""
        return {
            name: size
            for axes, shape in zip(self.operands, shapes, strict=True)
            for name, size in zip(axes, shape, strict=True)
        }

    @property
    def leading(self) -> int:
        """The number of leading axes, if they are the free ones and all arrays have all of them in one order; else 0."""
        count = len(self.free)
        first = self.arrays[0][:count]
        return count if self.free == frozenset(first) and all(axes[:count] == first for axes in self.arrays) else 0


def choose(
    split: Split, found: Sequence[tuple[Sequence[int], Sequence[Cut] | None]], size_of: Sequence[int]
) -> dict[str, Cut]:
    """The cut of each axis, from those that some arrays have already.

    Args:
        split: the axes.
        found: for each array its shape, and the cut of each axis; None for an array that each device has whole.
        size_of: the bytes of each array. The largest decides first, since moving it costs most.

    An axis stays whole if its parts would differ in size: XLA fills the last part up with anything, which a kernel must
    not see. It also stays whole if a device's part of it would follow from its parts of the axes chosen before.
    """
    chosen: dict[str, Cut] = {}
    for index in sorted(range(len(found)), key=lambda i: -size_of[i]):
        shape, cuts = found[index]
        for name, size, (parts, part) in zip(split.arrays[index], shape, cuts or (), strict=False):
            fits = parts > 1 and size % parts == 0 and name in split.free and name not in chosen
            if fits and _independent([*chosen.values(), (parts, part)]):
                chosen[name] = (parts, part)
    return chosen


def tiling(axes: Axes, chosen: Mapping[str, Cut], devices: int) -> tuple[list[int], list[int]]:
    """The parts of each axis of an array, and the devices in the order of their tiles; equal tiles are neighbours."""
    cuts = [chosen[name] for name in axes if name in chosen]
    return [chosen[name][0] if name in chosen else 1 for name in axes], np.argsort(
        _tile(cuts, devices), kind="stable"
    ).tolist()


def groups(summed: Sequence[str], chosen: Mapping[str, Cut], devices: int) -> tuple[tuple[int, ...], ...]:
    """The groups of devices whose results are added: one device for each part of the summed axes, the rest being equal."""
    return tuple(tuple(row.values()) for row in _rows(summed, chosen, devices))


def steps(
    name: str, by: int, chosen: Mapping[str, Cut], devices: int, *, periodic: bool
) -> tuple[tuple[int, int], ...]:
    """From which device to which one data go that move by so many parts along an axis."""
    count = chosen[name][0] if name in chosen else 1
    return tuple(
        (device, row[(part + by) % count])
        for row in _rows([name], chosen, devices)
        for part, device in row.items()
        if periodic or 0 <= part + by < count
    )


def _rows(names: Sequence[str], chosen: Mapping[str, Cut], devices: int) -> list[dict[int, int]]:
    """The devices along some axes, all else being equal: rows of one device for each part.

    Several devices may compute the same thing. Then the first of them is in a row with the first of the others, and so on.
    """
    over = [chosen[name] for name in names if name in chosen]
    if not over:
        return []
    rest = _tile([cut for name, cut in chosen.items() if name not in names], devices)
    rows: dict[tuple[int, int], dict[int, int]] = {}
    copies: dict[tuple[int, int], int] = {}
    for device, place in enumerate(zip(rest.tolist(), _tile(over, devices).tolist(), strict=True)):
        copies[place] = copies.get(place, -1) + 1
        rows.setdefault((place[0], copies[place]), {})[place[1]] = device
    return [dict(sorted(row.items())) for row in rows.values()]


def _tile(cuts: Sequence[Cut], devices: int) -> np.ndarray:
    """The place of each device's tile in the order of all tiles; shape [devices]."""
    tile = np.zeros(devices, int)
    for parts, part in cuts:
        tile = tile * parts + part
    return tile


def _independent(cuts: Sequence[Cut]) -> bool:
    """Whether each combination of parts is on the same number of devices."""
    devices, tiles = len(cuts[0][1]), int(np.prod([parts for parts, _ in cuts]))
    counts = np.bincount(_tile(cuts, devices), minlength=tiles)
    return bool((counts == devices / tiles).all())
