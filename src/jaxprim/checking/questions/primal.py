"""Do both rules also return the value?"""

from __future__ import annotations

from collections.abc import Sequence

from jaxprim.checking.answers import Answer
from jaxprim.checking.case import Case
from jaxprim.checking.precision import Precision
from jaxprim.checking.question import question


@question("Do both rules also return the implementation's value?", group="values", speed="fast")
def primal(case: Case) -> Answer:
    """Compare the primal output of each rule with the implementation."""
    for mode in (yield from case.rules()):
        yield from primal_of(case, mode, case.precisions(mode))


def primal_of(case: Case, mode: str, precisions: Sequence[Precision]) -> Answer:
    """Compare the primal output of one rule, in these precisions, with the implementation."""
    for precision in precisions:
        values, noise = case.value(precision)
        found = (case.jvp(precision, case.directions(mode)[0]) if mode == "jvp" else case.vjp(precision, 0))[0].primal
        for name, got, expected, n in zip(precision.names, found, values, noise, strict=True):
            against = f"primal output against the implementation ({precision.label})"
            yield case.evidence(mode, against, name, got, expected, case.roughly(precision, expected, n))
