"""The class of questions, and the decorator that makes a question from a function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jaxprim.checking.answers import Answer
from jaxprim.checking.case import Case

Speed = Literal["fast", "normal", "thorough"]


@dataclass(frozen=True)
class Question:
    """A question about a subject at one point; it is called with a case.

    Attributes:
        name: its stable name.
        sentence: the question in words.
        ask: yields evidence; raises NotAsked with the reason if it does not apply.
        departs: the rule that may depart from the derivative if the author declares it (a surrogate VJP), or None.
        speed: the fastest check that asks it.
        group: the kind of question; reports and pages list the questions of a group together.
        invents: whether it is asked at operands of its own, so that a failure is no failure at the example.
    """

    name: str
    sentence: str
    ask: Callable[[Case], Answer]
    departs: str | None = None
    speed: Speed = "normal"
    group: str = ""
    invents: bool = False

    def __call__(self, case: Case) -> Answer:
        """Ask the question about a case."""
        return self.ask(case)


def question(
    sentence: str, *, group: str, speed: Speed = "normal", departs: str | None = None, invents: bool = False
) -> Callable[[Callable[[Case], Answer]], Question]:
    """Make a question from a function. Its name is the function's, with hyphens: ``vmap_jvp`` answers ``vmap-jvp``."""
    return lambda ask: Question(ask.__name__.replace("_", "-"), sentence, ask, departs, speed, group, invents)
