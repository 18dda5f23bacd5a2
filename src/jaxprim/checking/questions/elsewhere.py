"""Are both rules right far from the example, where it is not symmetric, has other signs, and is a hundred times as large?

`redraw` draws three points. At each, the primal output of a rule is compared with the implementation, and its derivative
with differences along one random direction in all operands: that finds an error in any element of it. If one is found,
the directions in single operands tell whose derivative is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jaxprim.checking.answers import Answer, NotAsked, Note, collect, failed
from jaxprim.checking.case import Case
from jaxprim.checking.domain import IF_OUTSIDE, shown
from jaxprim.checking.precision import Precision
from jaxprim.checking.probes import Direction
from jaxprim.checking.question import question
from jaxprim.checking.questions.jvp_differences import jvp_at
from jaxprim.checking.questions.primal import primal_of
from jaxprim.checking.questions.reference import reference
from jaxprim.checking.questions.vjp_differences import vjp_at
from jaxprim.checking.redraw import redrawn

AskAt = Callable[[Case, Sequence[Direction], Sequence[Precision]], Answer]
ASK: dict[str, AskAt] = {"jvp": jvp_at, "vjp": vjp_at}


@question(
    "Are both rules right at other sizes and signs, and without the symmetries of the example?",
    group="first order",
    departs="vjp",
    invents=True,
)
def elsewhere(case: Case) -> Answer:
    """Compare both rules with differences at points that are far from the example."""
    if not case.point.differentiable or not case.native.outputs:
        raise NotAsked("it does not map real or complex numbers to real or complex numbers")
    places = list(redrawn(case))
    if not places:
        raise NotAsked("all other points that were tried are outside the domain of the implementation")
    for place in places:
        yield Note(f"asked{place.place}: {shown(place)}; {IF_OUTSIDE}")
        if case.subject.reference is not None:
            yield from reference(place)
        for mode in (yield from case.rules()):
            found, refused = collect(_ask_of(mode, place))
            yield from found
            if refused is not None:
                yield Note(f"the {mode} rule is not compared{place.place}: {refused.why}")


def _ask_of(mode: str, case: Case) -> Answer:
    """Along one direction; if that fails, along all."""
    found, refused = collect(_compare(mode, case, case.directions(mode)[:1]))
    if failed(found):
        yield from _compare(mode, case, case.directions(mode))
        return
    yield from found
    if refused is not None:
        raise refused.error


def _compare(mode: str, case: Case, directions: Sequence[Direction]) -> Answer:
    """In the highest precision, the rule's primal output with the implementation, and its derivative with differences."""
    precisions = case.precisions(mode)[-1:]
    yield from primal_of(case, mode, precisions)
    yield from ASK[mode](case, directions, precisions)
