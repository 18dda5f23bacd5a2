"""Are types right for empty operands and for scalars?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxprim._errors import RuleWrong
from jaxprim.checking.answers import Answer, NotAsked, Note, collect
from jaxprim.checking.case import Case
from jaxprim.checking.question import question
from jaxprim.checking.questions.abstract_eval import abstract_eval
from jaxprim.checking.questions.tangent_types import tangent_types


@question("Are its types right for empty operands and for scalars?", group="types", speed="thorough")
def shapes(case: Case) -> Answer:
    """Check the types of the operation and its derivatives for empty operands and for scalars.

    An operation may refuse them. If it accepts them, the types must be right.
    """
    ways = {"empty operands": lambda leaf: leaf[:0], "scalars": lambda leaf: leaf[(0,) * leaf.ndim]}
    if not any(leaf.ndim for leaf in case.point.arrays):
        raise NotAsked("no operand has axes")
    if any(0 in leaf.shape for leaf in case.point.arrays):
        raise NotAsked("an operand of the example is empty")
    for place, cut in ways.items():
        smaller = case.at([_cut(leaf, cut) for leaf in case.point.leaves], f"for {place}")
        for ask in (abstract_eval, tangent_types):
            found, refused = collect(ask(smaller), faults=(RuleWrong,))
            yield from found
            if refused is not None:
                yield Note(f"not asked for {place}: {refused.why}")
                break


def _cut(leaf: Any, cut: Callable[[Any], Any]) -> Any:
    return cut(leaf) if hasattr(leaf, "ndim") and leaf.ndim else leaf
