"""Does compiling an operation, or disabling jit, change its results?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxprim.checking.against_plain_call import compare_with_plain_call, derivatives_of
from jaxprim.checking.answers import Answer, Note
from jaxprim.checking.case import Case
from jaxprim.checking.question import question
from jaxprim.checking.values import wide


@question("Do the implementation and both rules give the same under jax.jit as eagerly?", group="values")
def jit(case: Case) -> Answer:
    """Compare the implementation and both rules under ``jax.jit`` with eager calls."""
    precision, leaves = case.native, case.native.point.leaves
    found = precision.compiled(*leaves)
    values, noise = case.value(precision)
    for name, got, expected, n in zip(precision.names, map(wide, found), values, noise, strict=True):
        yield case.evidence("impl", "jit against eager", name, got, expected, case.roughly(precision, expected, n))
    yield from _rules_in_jit(case, (yield from case.rules()))


def _rules_in_jit(case: Case, modes: Sequence[str]) -> Answer:
    """Compare these rules, in one program, with eager calls."""
    precision, leaves = case.native, case.native.point.leaves
    compiled: dict[str, tuple[Callable[..., Any], Any]] = {}
    if "jvp" in modes:
        along = precision.cast(case.directions("jvp")[0].tangents)
        compiled["jvp"] = lambda leaves, t: [precision.raw_jvp(leaves, t)[1][i] for i in precision.outputs], along
    if "vjp" in modes:
        wrt, seeds = case.wrt("vjp"), precision.cast_out(case.cotangents(0))
        compiled["vjp"] = lambda leaves, cts: precision.raw_vjp(leaves, wrt, cts)[1], seeds
    together = jax.jit(lambda leaves, given: {mode: compiled[mode][0](leaves, given[mode]) for mode in given})
    found = together(leaves, {mode: numbers for mode, (_, numbers) in compiled.items()}) if compiled else {}
    for mode in modes:
        yield from compare_with_plain_call(case, mode, "jit against eager", found[mode])


@question(
    "Do the implementation and both rules give the same under jax.disable_jit()?", group="values", speed="thorough"
)
def disable_jit(case: Case) -> Answer:
    """Compare the implementation and both rules under ``jax.disable_jit()`` with a plain call."""
    for item in derivatives_of(case):
        if isinstance(item, Note):
            yield item
            continue
        rule, transform = item
        with jax.disable_jit():
            found = transform(case.native.flat)(*case.native.point.leaves)
        yield from compare_with_plain_call(case, rule, "jit disabled, against jit as usual", found)
