"""The options that several makers of kernels share. A wrong value is refused when the kernel is made, not when it runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from jaxprim import _origin
from jaxprim._errors import KernelError, message
from jaxprim.kernels.signature import KernelSignature

ALL_THREADS = 0
SIZES = ("i64", "i32")
ORDERS = ("C", "F")


def threads_of(threads: int | None) -> int:
    """The number of threads; `ALL_THREADS` for None."""
    if threads is None:
        return ALL_THREADS
    if type(threads) is not int or threads < 1:  # a bool is an int too
        raise _refused("threads", threads, "an integer of 1 or more, or None for all of XLA's threads", "threads=None")
    return min(threads, 2**31 - 1)  # more than any pool has, and still an integer of C


def one_of(option: str, value: str, words: Sequence[str]) -> str:
    """One of a few words."""
    if value not in words:
        raise _refused(option, value, " | ".join(map(repr, words)), f"{option}={words[0]!r}")
    return value


def words_of(option: str, values: Any) -> tuple[str, ...]:
    """A sequence of words. A single string is refused, because as a sequence it would be its letters."""
    words = list(values) if isinstance(values, Iterable) and not isinstance(values, str | bytes | Mapping) else None
    if words is None:
        raise _refused(option, values, "a sequence of words", f"{option}=({str(values)!r},)")
    if not all(isinstance(word, str | PurePath) and "\0" not in str(word) for word in words):
        raise _refused(option, values, "strings or paths, without a byte 0", f"{option}=('a word',)")
    return tuple(map(str, words))


def truth_of(option: str, value: Any) -> bool:
    """True or False, and nothing that is like one of them."""
    if not isinstance(value, bool):
        raise _refused(option, value, "True or False", f"{option}=True")
    return value


def text_of(option: str, value: Any) -> str | None:
    """A text, or None."""
    if value is not None and not isinstance(value, str):
        raise _refused(option, value, "a string", f"{option}={str(value)!r}")
    return value


def meanings_of(status: Any) -> tuple[tuple[int, str], ...]:
    """The meanings of the integers that a function returns, sorted by integer."""
    if isinstance(status, bool):
        return ()
    are_meanings = isinstance(status, Mapping) and all(
        _is_integer(code) and -(2**63) <= code < 2**63 and isinstance(words, str) for code, words in status.items()
    )
    if not are_meanings:
        expected = "what each integer means, or True if the function returns an integer that is 0 on success"
        raise _refused("status", status, expected, "status={1: 'the matrix is singular'}")
    return tuple(sorted((int(code), words) for code, words in status.items()))


def _is_integer(code: Any) -> bool:
    return isinstance(code, int) and not isinstance(code, bool)


def has_status(arguments: str | None) -> bool:
    """Whether the function gets a pointer to its status."""
    return isinstance(arguments, str) and re.search(r"&\s*status\b", arguments) is not None


def refuse_ignored(handler: str, **options: Any) -> None:
    """Refuse options that say how to call a function, for a handler that XLA calls itself."""
    defaults = {"function": None, "arguments": None, "sizes": "i64", "status": None, "threads": 1, "keep": None}
    for option, value in options.items():
        if value != defaults[option]:
            raise KernelError(
                message(
                    f"`{option}` has no meaning for a handler of your own.",
                    got=f"handler={handler!r}, {option}={value!r}",
                    expected=f"handler= alone, or a plain function and {option}=",
                    why="XLA calls the handler directly",
                    defined=_origin.place(),
                )
            )


def refuse_keep(maker: str, keep: Any, why: str, write: str) -> None:
    """Refuse ``keep=`` for a kernel whose set-ups could not be made or freed."""
    if keep is not None:
        raise KernelError(
            message(
                f"kernels.{maker} has no keep=.",
                got=f"keep={keep!r}",
                expected="kernels.cpp with keep=, or def_host with keep=",
                why=why,
                defined=_origin.place(),
                write=write,
            )
        )


def refuse_lost_status(signature: KernelSignature, *, status: object) -> None:
    """Refuse a status for a function that returns its result in the place of one."""
    if status and signature.results[0].by_value:
        raise KernelError(
            message(
                "the function returns its result, so it returns no status.",
                got=f"status= for {signature}",
                expected=f"a result by pointer, {signature.results[0].dtype}[], or no status=",
                defined=_origin.place(),
                write='arguments="..., &status"  # if the function writes its status',
            )
        )


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
