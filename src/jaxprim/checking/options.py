"""The options of a check: which questions to ask, and keywords that could belong to the check or to its target."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Set
from typing import Any, get_args

from jaxprim._errors import BadCall, message
from jaxprim._types import Example
from jaxprim.checking.questions import QUESTIONS, Question, Speed
from jaxprim.checking.subject import Subject

SPEEDS: tuple[Speed, ...] = get_args(Speed)


def questions(
    only: str | Iterable[str] | None = None, skip: str | Iterable[str] | None = None, speed: Speed = "normal"
) -> tuple[Question, ...]:
    """The questions to ask. A question in ``only`` is asked at any speed.

    Raises:
        BadCall: there is no such question, or none is left.
    """
    kept, left = _named(only), _named(skip)
    if speed not in SPEEDS:
        raise BadCall(message("check: no such speed.", got=repr(speed), expected=" | ".join(map(repr, SPEEDS))))
    asked = SPEEDS[: SPEEDS.index(speed) + 1]
    chosen = tuple(q for q in QUESTIONS if (q.name in kept if kept else q.speed in asked) and q.name not in left)
    if not chosen:
        raise BadCall(
            message("check: no question is left to ask.", got=f"only={only!r}, skip={skip!r}, speed={speed!r}")
        )
    return chosen


def _named(names: str | Iterable[str] | None) -> frozenset[str]:
    names = [names] if isinstance(names, str) else list(names or ())
    known = [question.name for question in QUESTIONS]
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise BadCall(
                message(
                    "check: no such question.",
                    got=repr(name),
                    expected=", ".join(known),
                    write=f'only="{close[0]}"' if close else None,
                )
            )
    return frozenset(names)


def refuse_ambiguous(subject: Subject, operands: Collection[Any], given: Set[str]) -> None:
    """Refuse a keyword that both the check and its target take."""
    if any(isinstance(operand, Example) for operand in operands):
        if not all(isinstance(operand, Example) for operand in operands):
            raise BadCall(
                message(
                    f"{subject.name}: got both examples and operands to check.",
                    got=", ".join(type(operand).__name__ for operand in operands),
                    expected="the operands of one example, or only Example objects",
                    write=f"jaxprim.check({subject.name}, Example((x, ...)), Example((y, ...)))",
                )
            )
        return
    for name in sorted(given & subject.keywords()):
        raise BadCall(
            message(
                f"{subject.name}: {name}= is ambiguous.",
                got=f"{name}=, which is an option of check and report, and an argument of {subject.name}",
                expected=f"operands and params of {subject.name} in an Example, options outside it",
                write=f'jaxprim.check({subject.name}, jaxprim.Example((x, ...), {{"{name}": ...}}))',
            )
        )


def refuse_accuracy(subject: Subject, accuracy: float | None) -> None:
    """Refuse an accuracy that is no relative error."""
    if accuracy is not None and not 0 <= accuracy < 1:
        raise BadCall(
            message(
                f"{subject.name}: the accuracy is not a relative error.",
                got=f"accuracy={accuracy!r}",
                expected="a number from 0 to below 1",
                write=f"jaxprim.check({subject.name}, ..., accuracy=1e-6)",
            )
        )


def refuse_params(subject: Subject, params: Mapping[str, Any]) -> None:
    """Refuse params together with examples, which hold their own."""
    for name in params:
        raise BadCall(
            message(
                f"{subject.name}: got a param together with examples.",
                got=f"{name}=",
                expected="each example with its own params",
                write=f'jaxprim.check({subject.name}, jaxprim.Example((x, ...), {{"{name}": ...}}))',
            )
        )
