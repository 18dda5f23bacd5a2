"""Find a small input at which a question still fails. It says more than the given one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxprim.checking.answers import Answer, attempt
from jaxprim.checking.case import Case
from jaxprim.checking.reports.report import Evidence
from jaxprim.checking.values import describe, has_tangents, is_key, is_scalar, to_jax, wide

# Seconds after which the smallest input so far is reported.
PATIENCE = 1.0
# An operand of up to this many numbers is written out.
WRITTEN = 4
# Rounder numbers have two significant digits. With one digit, many would become 1, which hides factors and powers.
DIGITS = 2

Ask = Callable[[Case], Answer]
Leaves = list[Any]


def smallest(ask: Ask, case: Case, bad: Sequence[Evidence]) -> str:
    """The operands, as text, of a smaller case at which a rule still gives wrong numbers; empty if none was found in time.

    Args:
        ask: the question.
        case: the case that failed.
        bad: its bad evidence. Only wrong numbers count: an exception may have another cause at other operands.
    """
    rules = {evidence.rule for evidence in bad if not evidence.message}
    start, leaves = time.perf_counter(), list(case.point.leaves)
    found, tried = leaves, True
    while rules and tried:
        tried = False
        for candidate in _simplify(found):
            if time.perf_counter() - start > PATIENCE:
                return _words(case, found) if found is not leaves else ""
            if _fails(ask, case.at(candidate, "smaller"), rules):
                found, tried = candidate, True
                break
    return _words(case, found) if found is not leaves else ""


def _fails(ask: Ask, case: Case, rules: set[str]) -> bool:
    def has_wrong_number() -> bool:
        with np.errstate(all="ignore"):
            return any(isinstance(e, Evidence) and not e.ok and not e.message and e.rule in rules for e in ask(case))

    return attempt(has_wrong_number) is True  # an operation may refuse smaller operands


def _simplify(leaves: Leaves) -> Iterator[Leaves]:
    """Fewer elements along all axes of one size, halved or one; then rounder numbers in one operand."""
    for size in sorted({n for leaf in leaves for n in np.shape(leaf) if n > 1}, reverse=True):
        for fewer in dict.fromkeys((1, size // 2)):
            yield [_take(leaf, size, fewer) for leaf in leaves]
    for i, leaf in enumerate(leaves):
        rounder = _round(leaf)
        if rounder is not None:
            yield [*leaves[:i], rounder, *leaves[i + 1 :]]


def _take(leaf: Any, size: int, fewer: int) -> Any:
    index = tuple(slice(fewer) if n == size else slice(None) for n in np.shape(leaf))
    return leaf[index] if index and not is_scalar(leaf) else leaf


def _round(leaf: Any) -> Any | None:
    """The leaf rounded to two digits, or None if that changes nothing."""
    if is_key(leaf) or is_scalar(leaf) or not has_tangents(leaf) or jnp.iscomplexobj(leaf):
        return None
    value = wide(leaf)
    with np.errstate(all="ignore"):
        digits = 10.0 ** (np.floor(np.log10(np.abs(value))) - DIGITS + 1)
        rounder = np.where(np.isfinite(digits) & (digits > 0), np.round(value / digits) * digits, value)
    made = to_jax(rounder.astype(leaf.dtype))
    return None if np.array_equal(wide(made), value, equal_nan=True) else made


def _words(case: Case, leaves: Leaves) -> str:
    return ", ".join(f"{name}={_word(leaf)}" for name, leaf in zip(case.point.names, leaves, strict=True))


def _word(leaf: Any) -> str:
    if is_scalar(leaf):
        return repr(leaf)
    if is_key(leaf) or leaf.size > WRITTEN:
        return describe(leaf)
    return f"{describe(leaf)} {np.array2string(np.asarray(leaf), precision=6, separator=', ')}".replace("\n", "")
