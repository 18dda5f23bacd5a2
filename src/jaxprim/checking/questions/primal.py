"""Do both rules also return the value?"""

from __future__ import annotations

from jaxprim.checking.answers import Answer
from jaxprim.checking.case import Case
from jaxprim.checking.question import question


@question("Do both rules also return the implementation's value?", group="values", speed="fast")
def primal(case: Case) -> Answer:
    """Compare the primal output of each rule with the implementation."""
    for mode in (yield from case.rules()):
        yield from _primal(case, mode)


def _primal(case: Case, mode: str) -> Answer:
    for precision in case.precisions(mode):
        values, noise = case.value(precision)
        found = (case.jvp(precision, case.directions(mode)[0]) if mode == "jvp" else case.vjp(precision, 0))[0].primal
        for name, got, expected, n in zip(precision.names, found, values, noise, strict=True):
            against = f"primal output against the implementation ({precision.label})"
            yield case.evidence(mode, against, name, got, expected, case.roughly(precision, expected, n))
