"""Options of a kernel, read once; what cannot be meant is refused where the kernel is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxprim import _origin
from jaxprim._errors import KernelError, message

ALL_THREADS = 0
SIZES = ("i64", "i32")
ORDERS = ("C", "F")


def threads_of(threads: int | None) -> int:
    """A number of threads, `ALL_THREADS` for None."""
    if threads is None:
        return ALL_THREADS
    if type(threads) is not int or threads < 1:  # a bool is an int too
        raise _refused("threads", threads, "an integer of 1 or more, or None for as many as XLA has", "threads=None")
    return threads


def one_of(option: str, value: str, words: Sequence[str]) -> str:
    """A word out of a few."""
    if value not in words:
        raise _refused(option, value, " | ".join(map(repr, words)), f"{option}={words[0]!r}")
    return value


def words_of(option: str, values: Sequence[Any]) -> tuple[str, ...]:
    """A sequence of words; a single word is a sequence of letters, which nobody means."""
    if isinstance(values, str):
        raise _refused(option, values, "a sequence of words", f"{option}=({values!r},)")
    return tuple(map(str, values))


def meanings_of(status: bool | Mapping[int, str]) -> tuple[tuple[int, str], ...]:
    """What the integers mean that a function returns, in order."""
    return () if isinstance(status, bool) else tuple(sorted(status.items()))


def _refused(option: str, value: Any, expected: str, write: str) -> KernelError:
    return KernelError(
        message(
            f"a kernel got {option} that it can't have.",
            got=f"{option}={value!r}",
            expected=expected,
            defined=_origin.place(),
            write=write,
        )
    )
