"""Masks over leaves: select some of them, and put them back in their places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Mask = tuple[bool, ...]


def select(values: Sequence[Any], mask: Sequence[bool]) -> list[Any]:
    """The values where the mask holds."""
    return [value for value, wanted in zip(values, mask, strict=True) if wanted]


def expand(values: Sequence[Any], mask: Sequence[bool], fill: Callable[[int], Any]) -> list[Any]:
    """Values at the places where the mask holds, ``fill(index)`` elsewhere."""
    given = iter(values)
    return [next(given) if wanted else fill(index) for index, wanted in enumerate(mask)]
