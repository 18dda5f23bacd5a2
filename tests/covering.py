"""Some of the combinations of a test's parametrizations, so that few of them hold what all would."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations, groupby
from typing import Any

import pytest


def name_of(item: pytest.Item) -> str:
    """The test's file and function, without what is chosen by parametrization."""
    return item.nodeid.partition("[")[0].removeprefix("tests/")


def covering(items: Iterable[pytest.Item], strength: int) -> list[pytest.Item]:
    """The items in which every value of each parametrization occurs, or with 2, every pair of values of two of them."""
    return [item for _, group in groupby(items, name_of) for item in _of_one_test(list(group), strength)]


def _of_one_test(items: list[pytest.Item], strength: int) -> list[pytest.Item]:
    rows = [getattr(item, "callspec", None) for item in items]
    chosen = cover([tuple(sorted(row.indices.items())) if row else () for row in rows], strength)
    return [items[i] for i in chosen]


def cover(rows: list[tuple[Any, ...]], strength: int) -> list[int]:
    """The places of some rows that hold every combination of `strength` values that occurs in all of them.

    Takes the row that holds the most which no row so far has, again and again: not the fewest rows, but nearly.
    """
    columns = {column for column in zip(*rows, strict=True) if len(set(column)) > 1}
    # Names that are parametrized together have the same place in each row, and are one choice.
    choices = list({tuple(place for _, place in column): column for column in columns}.values())
    if len(choices) <= strength:
        return list(range(len(rows)))
    missing = [set(combinations(sorted(row), strength)) for row in zip(*choices, strict=True)]
    chosen: list[int] = []
    while True:
        best = max(range(len(rows)), key=lambda i: len(missing[i]))
        found = set(missing[best])
        if not found:
            return sorted(chosen)
        chosen.append(best)
        missing = [each - found for each in missing]
