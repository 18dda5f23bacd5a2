"""Does ``jax.linearize`` agree with the JVP rule?"""

from __future__ import annotations

import jax

from jaxprim.checking.answers import Answer
from jaxprim.checking.case import Case
from jaxprim.checking.question import question
from jaxprim.checking.values import wide


@question("Does jax.linearize give the value and the tangents of the JVP rule?", group="first order")
def linearize(case: Case) -> Answer:
    """Compare the value of ``jax.linearize`` with the implementation, and its linear function with ``jax.jvp``."""
    wrt, precision = case.wrt("jvp"), case.native
    results, linear = jax.linearize(
        precision.of(precision.point.leaves, wrt), *[precision.point.leaves[i] for i in wrt]
    )
    values, noise = case.value(precision)
    for name, got, expected, n in zip(precision.names, map(wide, results), values, noise, strict=True):
        against = "the value of linearize against the implementation"
        yield case.evidence("jvp", against, name, got, expected, case.roughly(precision, expected, n))
    for direction in case.directions("jvp")[:2]:
        found = linear(*precision.cast(direction.tangents).values())
        pushed, noise = case.jvp(precision, direction)
        for name, i, expected, n in zip(precision.output_names, precision.outputs, pushed.tangent, noise, strict=True):
            tolerance, against = case.roughly(precision, expected, n), f"linearize against jvp along {direction.label}"
            yield case.evidence("jvp", against, f"tangent of {name}", wide(found[i]), expected, tolerance)
