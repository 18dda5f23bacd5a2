"""The options that several makers of kernels share. A wrong value is refused when the kernel is made, not when it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from jaxprim import _origin
from jaxprim._errors import KernelError, message

ALL_THREADS = 0
SIZES = ("i64", "i32")
ORDERS = ("C", "F")


def threads_of(threads: int | None) -> int:
    """The number of threads; `ALL_THREADS` for None."""
    if threads is None:
        return ALL_THREADS
    if type(threads) is not int or threads < 1:  # a bool is an int too
        raise _refused("threads", threads, "an integer of 1 or more, or None for all of XLA's threads", "threads=None")
    return threads


def one_of(option: str, value: str, words: Sequence[str]) -> str:
    """One of a few words."""
    if value not in words:
        raise _refused(option, value, " | ".join(map(repr, words)), f"{option}={words[0]!r}")
    return value


def words_of(option: str, values: Sequence[Any]) -> tuple[str, ...]:
    """A sequence of words. A single string is refused, because as a sequence it would be its letters."""
    if not isinstance(values, list | tuple):
        raise _refused(option, values, "a sequence of words", f"{option}=({str(values)!r},)")
    words = tuple(str(value) for value in values if isinstance(value, str | PurePath))
    if len(words) != len(values) or any("\0" in word for word in words):
        raise _refused(option, values, "strings or paths, without a byte 0", f"{option}=('a word',)")
    return words


def meanings_of(status: Any) -> tuple[tuple[int, str], ...]:
    """The meanings of the integers that a function returns, sorted by integer."""
    if isinstance(status, bool):
        return ()
    are_meanings = isinstance(status, Mapping) and all(
        isinstance(code, int) and -(2**63) <= code < 2**63 and isinstance(words, str) for code, words in status.items()
    )
    if not are_meanings:
        expected = "what each integer means, or True if the function returns an integer that is 0 on success"
        raise _refused("status", status, expected, "status={1: 'the matrix is singular'}")
    return tuple(sorted((int(code), words) for code, words in status.items()))


def _refused(option: str, value: Any, expected: str, write: str) -> KernelError:
    return KernelError(
        message(
            f"invalid value for `{option}`.",
            got=f"{option}={value!r}",
            expected=expected,
            defined=_origin.place(),
            write=write,
        )
    )
