"""Does compiling an operation, or disabling jit, change its results?"""

from __future__ import annotations

import jax

from jaxprim.checking.against_plain_call import compare_with_plain_call, derivatives_of
from jaxprim.checking.answers import Answer, NotAsked, Note
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
    for rule in (_jit_jvp, _jit_vjp):
        try:
            yield from rule(case)
        except NotAsked as error:
            yield Note(f"asked only of the implementation: {error}")


def _jit_jvp(case: Case) -> Answer:
    precision, direction = case.native, case.directions("jvp")[0]
    _, found = jax.jit(precision.raw_jvp)(precision.point.leaves, precision.cast(direction.tangents))
    pushed, noise = case.jvp(precision, direction)
    for name, i, expected, n in zip(precision.output_names, precision.outputs, pushed.tangent, noise, strict=True):
        tolerance = case.roughly(precision, expected, n)
        yield case.evidence("jvp", "jit against eager", f"tangent of {name}", wide(found[i]), expected, tolerance)


def _jit_vjp(case: Case) -> Answer:
    precision, wrt = case.native, case.wrt("vjp")
    pulled, noise = case.vjp(precision, 0)
    _, found = jax.jit(lambda leaves, cts: precision.raw_vjp(leaves, wrt, cts))(
        precision.point.leaves, precision.cast_out(case.cotangents(0))
    )
    for i, got in zip(wrt, map(wide, found), strict=True):
        expected = pulled.cotangent[i]
        name = f"cotangent of {case.point.names[i]}"
        yield case.evidence(
            "vjp", "jit against eager", name, got, expected, case.roughly(precision, expected, noise[i])
        )


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
