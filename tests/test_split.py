"""Which device computes which part: tiles and cuts, in NumPy alone."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from jaxprim._split import Split, choose, groups, steps, tiling

ROWS = Split((("b", "n"), ("b", "m")), (("b", "n"),), frozenset("b"))


def cut(*parts_of_devices):
    """The cut of an axis, from the part of each device."""
    part = np.array(parts_of_devices)
    return int(part.max()) + 1, part


WHOLE = cut(0, 0, 0, 0)
HALVES, QUARTERS = cut(0, 0, 1, 1), cut(0, 1, 2, 3)


def parts(chosen):
    return {name: (count, part.tolist()) for name, (count, part) in chosen.items()}


def test_the_largest_array_decides():
    found = [((8, 2), [HALVES, WHOLE]), ((8, 9), [QUARTERS, WHOLE]), ((8, 2), None)]
    assert parts(choose(ROWS, found, [64, 288, 64])) == {"b": (4, [0, 1, 2, 3])}
    assert parts(choose(ROWS, found, [288, 64, 64])) == {"b": (2, [0, 0, 1, 1])}


def test_devices_that_cannot_ask_each_other():
    """The longer results lead with the parts of one reduced axis; the other one stays whole."""
    said = frozenset({(1, "k", "max"), (2, "k", "invarying")})
    split = Split((("i", "k", "l"),), (("i",), ("i", "l"), ("i", "l"), ("k", "l")), frozenset("ikl"), said)
    assert split.joining == {"i", "k", "l"}
    assert split.joined(0) == {"sum": ("k", "l")}
    assert split.joined(1) == {"max": ("k",)}
    assert split.joined(2) == {}
    apart = split.kept_apart("k")
    assert apart.free == {"k"}
    assert apart.results == (("k", "i"), ("k", "i", "l"), ("i", "l"), ("k", "l"))
    assert split.kept_apart(None).free == frozenset()


@pytest.mark.parametrize(
    ("shape", "cuts"),
    [((6, 2), [QUARTERS, WHOLE]), ((8, 4), [WHOLE, QUARTERS]), ((8, 2), None), ((8, 2), [WHOLE, WHOLE])],
    ids=["uneven", "an axis that must be whole", "on each device", "not cut"],
)
def test_an_axis_stays_whole(shape, cuts):
    assert choose(ROWS, [(shape, cuts), (shape, None), (shape, None)], [1, 1, 1]) == {}


def test_a_part_that_follows_from_another_is_not_cut():
    both = Split((("a", "b"),), (("a", "b"),), frozenset("ab"))
    assert list(choose(both, [((4, 4), [HALVES, HALVES]), ((4, 4), None)], [1, 1])) == ["a"]
    assert list(choose(both, [((4, 4), [HALVES, cut(0, 1, 0, 1)]), ((4, 4), None)], [1, 1])) == ["a", "b"]


def test_each_device_gets_the_tile_of_its_parts():
    """A brute force: the device at a place of XLA's tile assignment must have the parts that this place means."""
    a, b = cut(1, 0, 1, 0, 1, 0, 1, 0), cut(0, 0, 1, 1, 2, 2, 3, 3)
    dims, devices = tiling(("b", "n", "a"), {"a": a, "b": b}, 8)
    assert dims == [4, 1, 2]
    for place, (in_b, _, in_a) in enumerate(product(*map(range, dims))):
        assert (a[1][devices[place]], b[1][devices[place]]) == (in_a, in_b)
    dims, devices = tiling(("b",), {"a": a, "b": b}, 8)
    assert [b[1][device] for device in devices] == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(
    ("split", "count"),
    [
        (Split((("b", "c", "n"),), (("b", "c"),), frozenset("bc")), 2),
        (Split((("b", "n"), ("n",)), (("b", "n"),), frozenset("b")), 0),
        (Split((("b", "n"),), (("n", "b"),), frozenset("b")), 0),
        (Split((("n",),), (("n",),), frozenset()), 0),
    ],
)
def test_leading_axes_that_all_arrays_have(split, count):
    assert split.leading == count


def cuts(**axes):
    return {name: cut(*part) for name, part in axes.items()}


LAYOUT = cuts(a=(1, 0, 1, 0, 1, 0, 1, 0), b=(0, 0, 1, 1, 0, 0, 1, 1))  # and two devices for each tile


@pytest.mark.parametrize("summed", [("a",), ("b",), ("a", "b"), ("other",)])
def test_each_sum_has_one_device_for_each_part(summed):
    found = groups(summed, LAYOUT, 8)
    assert sorted(sum(found, ())) == (list(range(8)) if summed != ("other",) else [])
    for group in found:
        parts = {tuple(LAYOUT[name][1][device] for name in summed) for device in group}
        rest = {tuple(LAYOUT[name][1][device] for name in "ab" if name not in summed) for device in group}
        assert (len(parts), len(rest)) == (len(group), 1)


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("by", [1, -1, 2])
def test_data_move_to_the_same_tile_of_all_other_axes(by, periodic):
    layout = cuts(a=(3, 2, 1, 0, 3, 2, 1, 0), b=(0, 0, 0, 0, 1, 1, 1, 1))
    moves = steps("a", by, layout, 8, periodic=periodic)
    assert len({target for _, target in moves}) == len(moves) == (8 if periodic else 2 * (4 - abs(by)))
    for source, target in moves:
        assert layout["b"][1][source] == layout["b"][1][target]
        assert layout["a"][1][target] == (layout["a"][1][source] + by) % 4
        assert periodic or 0 <= layout["a"][1][source] + by < 4
    assert steps("other", by, layout, 8, periodic=periodic) == ()
