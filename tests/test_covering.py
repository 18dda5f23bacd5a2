from __future__ import annotations

from itertools import product

import pytest
from conftest import TESTS_ON_NEWEST_JAX_ALONE
from covering import cover
from pages import ROOT


def rows(*sizes: int) -> list[tuple[tuple[str, int], ...]]:
    return [tuple(zip("abcdef", places, strict=False)) for places in product(*map(range, sizes))]


@pytest.mark.parametrize(("sizes", "count"), [((8, 5, 2), 8), ((3, 3), 3), ((4, 1, 1), 4)])
def test_every_value_occurs(sizes: tuple[int, ...], count: int) -> None:
    every = rows(*sizes)
    chosen = [every[i] for i in cover(every, 1)]
    assert {value for row in chosen for value in row} == {value for row in every for value in row}
    assert len(chosen) == count


def test_every_pair_occurs() -> None:
    every = rows(5, 4, 3, 2)
    chosen = [every[i] for i in cover(every, 2)]
    assert {(a, b) for row in chosen for a in row for b in row} == {(a, b) for row in every for a in row for b in row}
    assert len(chosen) < 30


def test_two_choices_are_all_pairs() -> None:
    assert cover(rows(3, 4), 2) == list(range(12))


def test_names_that_are_parametrized_together_are_one_choice() -> None:
    every = [(("x", i), ("y", i), ("z", j)) for i in range(3) for j in range(4)]
    assert len(cover(every, 1)) == 4
    assert cover(every, 2) == list(range(12))


def test_a_test_without_parametrization_is_kept() -> None:
    assert cover([()], 1) == [0]


@pytest.mark.parametrize("name", TESTS_ON_NEWEST_JAX_ALONE)
def test_what_an_older_jax_leaves_out_is_there(name: str) -> None:
    file, _, function = name.partition("::")
    assert f"\ndef {function}(" in (ROOT / "tests" / file).read_text()
