"""The protocol of questions: what they yield and raise, and how they call code that may fail.

A question yields `Evidence` (what was compared with what) and `Note` (other facts for the reader), and
raises `NotAsked` where it does not apply. Any other exception is a bad answer. Where an exception says nothing about the
rule in question, the call goes through `attempt` or `attempt_rule`, which return it as a `Refusal`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from jaxprim._errors import RuleMissing
from jaxprim._jax import words
from jaxprim.checking.reports.findings import Evidence

_REFUSAL = re.compile("|".join(words.REFUSALS))

T = TypeVar("T")


class NotAsked(Exception):
    """The question does not apply to this subject; the text is the reason."""


@dataclass(frozen=True)
class Note:
    """A fact for the reader that is not a comparison."""

    text: str


Answer = Iterator[Evidence | Note]


def failed(items: Iterable[Evidence | Note]) -> list[Evidence]:
    """The comparisons that are off."""
    return [item for item in items if isinstance(item, Evidence) and not item.ok]


@dataclass(frozen=True)
class Refusal:
    """An exception that is not a fault of the rule in question.

    Attributes:
        error: the exception.
        why: the reason in one line.
    """

    error: Exception
    why: str


def attempt(function: Callable[[], T], *, faults: tuple[type[Exception], ...] = ()) -> T | Refusal:
    """Call an author's function that may fail. An exception is a refusal, except for ``faults``, which are raised.

    An implementation need not run at every point and in every dtype at which a question may try it. It may refuse with
    any exception and any text: a kernel for float32 raises at float64, a host function outside its domain,
    a solver where it does not converge. Only a question that knows that this is allowed may use it.
    """
    try:
        return function()
    except faults:
        raise
    except Exception as error:  # noqa: BLE001 - the reason is above
        return Refusal(error, first_line(error))


def collect(
    answer: Answer, *, faults: tuple[type[Exception], ...] = ()
) -> tuple[list[Evidence | Note], Refusal | None]:
    """What an answer yields, and the refusal if it ends in one; see `attempt`."""
    found: list[Evidence | Note] = []
    ended = attempt(lambda: found.extend(answer), faults=faults)
    return found, ended


def attempt_rule(function: Callable[[], T]) -> T | Refusal:
    """Call a rule. It is a refusal if a rule is missing, or JAX lacks the mode; any other exception is raised.

    Such an exception is a fault of the rule, and so a bad answer to the question.
    """
    try:
        return function()
    except Exception as error:
        why = why_refused(error)
        if why is None:
            raise
        return Refusal(error, why)


def why_refused(error: BaseException) -> str | None:
    """The reason, if the error says that a rule is missing or that JAX lacks the mode; else None."""
    if isinstance(error, RuleMissing):
        return first_line(error)
    found = isinstance(error, TypeError | ValueError | NotImplementedError | RuntimeError) and _REFUSAL.search(
        str(error)
    )
    return f"JAX has no such rule for it: {first_line(error)}" if found else None


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type if the message is empty."""
    return next((line for line in without_frames(str(error).strip()) if line), type(error).__name__)


def without_frames(message: str) -> Iterator[str]:
    """The lines of a message, without a traceback inside it (from a host function, say). The error comes last."""
    lead, inside = "", False
    for line in message.splitlines():
        if inside and line.startswith("  "):
            continue  # a frame
        inside = line.endswith(words.TRACEBACK)
        if inside:
            lead += line.removesuffix(words.TRACEBACK)
        else:
            yield (lead + line).rstrip()
            lead = ""
    if lead:
        yield lead.rstrip()
