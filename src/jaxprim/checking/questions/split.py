"""Do the parts of an operation, put together as its sharding rule says, give the whole? One device is enough to ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from jaxprim._errors import BadCall, RuleWrong
from jaxprim._split import INVARYING, MAX, MIN, SUM, Axes, Split
from jaxprim.checking.answers import Answer, NotAsked, Note, Refusal, attempt, failed
from jaxprim.checking.case import Case
from jaxprim.checking.question import question
from jaxprim.checking.reports.findings import Evidence
from jaxprim.checking.values import Array, is_key, wide
from jaxprim.forms.sharding import Sharding, shown

DOES = {SUM: "added", MAX: "the largest of them", MIN: "the least of them", INVARYING: "each of them"}
_ONE: dict[str, Callable[..., Array]] = {MAX: np.max, MIN: np.min, INVARYING: np.max}  # of one part


@question("Do the parts of the operation give the whole, as its sharding rule says?", group="scale")
def split(case: Case) -> Answer:
    """Cut each axis that the rule lets devices split, apply the operation to the parts, and put the results together.

    A result that has the axis is put together along it, and one that lacks it is the sum of the parts, or what else the
    rule says. With a partition rule, that computes the parts, and they are equal.
    """
    rule = case.subject.sharding
    if rule is None:
        raise NotAsked("no sharding rule")
    found = split_of(case, rule)
    sizes = free_axes(case, found)
    for axis in sizes:
        if sizes[axis] < 2:
            yield Note(f"{shown(axis)} has size {sizes[axis]} in the example, so it cannot be split")
            continue
        ways = _ways(sizes[axis]) if case.subject.partition is None else _equal(sizes[axis])
        items = [item for parts in ways for item in _compare(case, found, axis, parts)]
        yield from items
        if failed(items):
            yield Note(f"to keep {shown(axis)} whole on each device: {rule.line_with_whole(axis)}")


def split_of(case: Case, rule: Sharding) -> Split:
    """What the rule says of the example."""
    point = case.point
    if any(map(is_key, [*point.leaves, *case.native.results])):
        raise NotAsked("an operation on random keys is never split")
    operands = [(name, np.shape(leaf)) for name, leaf in zip(point.names, point.leaves, strict=True)]
    return rule(operands, case.native.shapes)


def free_axes(case: Case, found: Split) -> dict[str, int]:
    """The axes that may be split, with their sizes in the example."""
    sizes = found.sizes([np.shape(leaf) for leaf in case.point.leaves])
    if not found.free:
        raise NotAsked("its sharding rule keeps every axis whole")
    return {name: size for name, size in sizes.items() if name in found.free}


def _ways(size: int) -> Iterator[tuple[int, ...]]:
    """The sizes of the parts: halves, and three parts of which the first is one element.

    The second of the three begins at an odd position, so that what repeats with a period of two is found too.
    """
    yield size // 2, size - size // 2
    if size > 2:
        yield 1, (size - 1) // 2, size - 1 - (size - 1) // 2


def _equal(size: int) -> list[tuple[int, ...]]:
    """Two ways to cut an axis into equal parts, of the fewest parts."""
    counts = [count for count in range(2, size + 1) if size % count == 0]
    return [(size // count,) * count for count in counts[:2]]


def _compare(case: Case, found: Split, axis: str, parts: tuple[int, ...]) -> Answer:
    precision, sizes = case.native, ", ".join(map(str, parts))
    refused_by_us = (BadCall, RuleWrong)  # the rule, or the signature of a kernel, does not fit the parts
    try:
        # An operation may refuse small or uneven parts.
        rows = attempt(lambda: _of_parts(case, found.operands, axis, parts), faults=refused_by_us)
    except refused_by_us as error:
        against = f"{shown(axis)} in parts of {sizes}"
        yield Evidence("sharding", against, seed=case.seed, message=str(error), ok=False)
        return
    if isinstance(rows, Refusal):
        yield Note(f"not asked for {shown(axis)} in parts of {sizes}: {rows.why}")
        return
    for k, (name, axes, whole, noise) in enumerate(
        zip(precision.names, found.results, *case.value(precision), strict=True)
    ):
        each = [row[k] for row in rows]
        word = found.word(k, axis)
        does = "put together" if axis in axes else DOES[word]
        against = f"{shown(axis)} in parts of {sizes}, {does}, against the whole"
        wrong = _wrong_shape(each, whole, axes, axis, parts)
        if wrong:
            yield Evidence("sharding", against, name, message=wrong, seed=case.seed, ok=False)
            continue
        alone = axis not in axes and word == INVARYING
        for some in [[part] for part in each] if alone else [each]:
            got, size = _together(some, axes, axis, whole.dtype, word)
            yield case.evidence(
                "sharding", against, name, got, whole, case.roughly(precision, np.maximum(size, np.abs(whole)), noise)
            )


def _of_parts(case: Case, operands: Sequence[Axes], axis: str, parts: Sequence[int]) -> list[list[Array]]:
    """The results of each part."""
    partition, point = case.subject.partition, case.point
    if partition is not None:
        results = partition(point.leaves, point.tree, point.params, axis, len(parts))
        return [[wide(result[i]) for result in results] for i in range(len(parts))]
    ends = list(accumulate(parts))
    return [
        case.native.value([_part(x, axes, axis, end - n, end) for x, axes in zip(case.point.leaves, operands, strict=True)])
        for n, end in zip(parts, ends, strict=True)
    ]  # fmt: skip


def _part(leaf: Any, axes: Axes, axis: str, start: int, end: int) -> Any:
    return leaf[tuple(slice(start, end) if name == axis else slice(None) for name in axes)] if axis in axes else leaf


def _wrong_shape(each: Sequence[Array], whole: Array, axes: Axes, axis: str, parts: Sequence[int]) -> str:
    """What is wrong with the shape of a part's result, or nothing."""
    for place, (part, n) in enumerate(zip(each, parts, strict=True), 1):
        expected = tuple(n if name == axis else size for name, size in zip(axes, whole.shape, strict=True))
        if part.shape != expected:
            return f"part {place} has shape {part.shape}, expected {expected}"
    return ""


def _together(each: Sequence[Array], axes: Axes, axis: str, dtype: np.dtype[Any], word: str) -> tuple[Array, Array]:
    """The whole made of the results of parts, and the size of the terms of each element."""
    if axis in axes or word != SUM:
        whole = np.concatenate(each, axes.index(axis)) if axis in axes else _ONE[word](np.stack(each), 0)
        return whole, np.abs(whole)
    # A sum of integers wraps as on a device. One of booleans is no boolean: it says how many are true.
    total = np.sum(np.stack(each), 0, dtype=None if dtype.kind == "b" else dtype)
    return total, np.sum(np.abs(np.stack(each)), 0)
