"""The possible answers to a question, in pytest's words, with their marks and meanings."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

Status = Literal["fail", "xpass", "xfail", "surrogate", "pass", "skipped"]
WORST_FIRST: tuple[Status, ...] = get_args(Status)
BAD: tuple[Status, ...] = ("fail", "xpass")


class Sign(NamedTuple):
    """How an answer is shown.

    Attributes:
        mark: one character, for tables.
        plain: the same for a terminal that is not UTF-8.
        meaning: the meaning of the answer.
    """

    mark: str
    plain: str
    meaning: str


# In the order of a legend.
SIGNS: dict[Status, Sign] = {
    "pass": Sign("✓", "+", "every comparison agrees"),
    "fail": Sign("✗", "x", "off by more than its tolerance, or an exception was raised"),
    "xfail": Sign("≈", "~", "fails as recorded in pyproject.toml"),
    "xpass": Sign("!", "!", "passes, though pyproject.toml records a failure"),
    "surrogate": Sign("≠", "#", "not the derivative, as def_vjp(surrogate=...) declares"),
    "skipped": Sign("-", "-", "does not apply, for the reason given"),
}
