"""Are values the same when jax_enable_x64 is switched?"""

from __future__ import annotations

import jax

from jaxprim.checking.answers import Answer, NotAsked, Note
from jaxprim.checking.case import Case
from jaxprim.checking.question import question
from jaxprim.checking.questions.abstract_eval import abstract_eval
from jaxprim.checking.values import describe, is_key


@question("Are its values the same when jax_enable_x64 is switched?", group="types", speed="thorough")
def x64(case: Case) -> Answer:
    """Compare types and values of the same operands with jax_enable_x64 switched."""
    on = not jax.config.jax_enable_x64
    if any(leaf.dtype.itemsize >= (16 if leaf.dtype.kind == "c" else 8) for leaf in case.point.arrays):
        raise NotAsked("the example already has 64-bit types")
    if any(map(is_key, case.point.leaves)):
        raise NotAsked("random numbers differ with 64-bit types")
    word = "on" if on else "off"
    values_here, noise = case.value(case.native)
    with jax.enable_x64(on):
        other = case.at(case.point.leaves, f"with jax_enable_x64 {word}")
        broken = other.failure()
        if broken is not None:
            raise broken
        yield from abstract_eval(other)
        found = other.native
        for name, here, there in zip(found.names, case.native.results, found.results, strict=True):
            if describe(here) != describe(there):
                yield Note(f"{name} is {describe(there)} with jax_enable_x64 {word}, otherwise {describe(here)}")
        for name, got, expected, n in zip(found.names, found.value(), values_here, noise, strict=True):
            against = f"jax_enable_x64 {word}, against {'off' if on else 'on'}"
            # Not `case.roughly`, whose tolerance includes the inaccuracy of the implementation in the other setting.
            yield case.evidence("impl", against, name, got, expected, case.strictly(expected, n))
