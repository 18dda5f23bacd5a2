"""Are both rules linear? For each rule J: J 0 = 0, J (s + t) = J s + J t, and J (a t) = a J t.

In rounded numbers the second holds up to roundings of the largest of J s, J t and J (s + t). Powers of two are exact, so
the third holds up to the rule's own roundings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from jaxprim.checking import probes, tolerances
from jaxprim.checking.answers import Answer
from jaxprim.checking.case import Case
from jaxprim.checking.precision import Precision
from jaxprim.checking.question import question
from jaxprim.checking.values import Array

# Powers of two are exact, so only the rule itself rounds. A large and a small one find clipping.
MULTIPLES = (-4.0, 2.0**-10)
# The numbers of several leaves, by name.
Leaves = Mapping[str, Array]


@question("Is the JVP rule linear in the tangent?", group="first order", speed="fast", departs="jvp")
def jvp_linear(case: Case) -> Answer:
    """Check the JVP of zero, of a sum and of multiples of tangents."""
    first, second = case.directions("jvp")[:2]
    for precision in case.precisions("jvp"):
        noises = zip(case.jvp(precision, first)[1], case.jvp(precision, second)[1], strict=True)
        noise = {name: np.maximum(*pair) for name, pair in zip(_tangent_names(precision), noises, strict=True)}

        def push(numbers: Sequence[Array], precision: Precision = precision) -> Leaves:
            pushed = precision.jvp(dict(zip(first.tangents, numbers, strict=True)))
            return dict(zip(_tangent_names(precision), pushed.tangent, strict=True))

        one, two = list(first.tangents.values()), list(second.tangents.values())
        likes = [precision.point.leaves[i] for i in first.tangents]
        yield from _linear(case, precision, "jvp", push, one, two, noise, likes)


@question("Is the VJP rule linear in the cotangent?", group="first order", speed="fast", departs="vjp")
def vjp_linear(case: Case) -> Answer:
    """Check the VJP of zero, of a sum and of multiples of cotangents."""
    wrt = case.wrt("vjp")
    for precision in case.precisions("vjp"):
        noises = [case.vjp(precision, draw)[1] for draw in range(2)]
        noise = {f"cotangent of {case.point.names[i]}": np.maximum(noises[0][i], noises[1][i]) for i in wrt}

        def pull(numbers: Sequence[Array], precision: Precision = precision) -> Leaves:
            pulled = precision.vjp(numbers, wrt)
            return {f"cotangent of {case.point.names[i]}": ct for i, ct in pulled.cotangent.items()}

        likes = [precision.results[i] for i in precision.outputs]
        yield from _linear(case, precision, "vjp", pull, case.cotangents(0), case.cotangents(1), noise, likes)


def _tangent_names(precision: Precision) -> list[str]:
    return [f"tangent of {name}" for name in precision.output_names]


def _linear(
    case: Case,
    precision: Precision,
    rule: str,
    apply: Callable[[Sequence[Array]], Leaves],
    one: list[Array],
    two: list[Array],
    noise: Leaves,
    likes: Sequence[object],
) -> Answer:
    """Compare zero, one sum, two multiples. The tolerance of an element is for its largest size in any of them."""

    def rounded(numbers: Sequence[Array]) -> list[Array]:
        with precision.in_effect():
            return [probes.round_to(number, like) for number, like in zip(numbers, likes, strict=True)]

    total = rounded([a + b for a, b in zip(one, two, strict=True)])
    at_one, at_two, at_sum = apply(one), apply(two), apply(total)
    zero = {name: np.zeros_like(leaf) for name, leaf in at_one.items()}
    size = {name: np.abs(at_one[name]) + np.abs(at_two[name]) + np.abs(at_sum[name]) for name in at_one}
    what = "tangent" if rule == "jvp" else "cotangent"
    rows = [(f"a {what} of zeros gives zeros", apply([np.zeros_like(a) for a in one]), zero, 1.0)]
    rows += [(f"a sum of two {what}s", at_sum, _sum(at_one, at_two), 1.0)]
    for c in MULTIPLES:
        multiple = rounded([c * a for a in one])
        rows += [(f"{c:g} times a {what}", apply(multiple), {n: c * at_one[n] for n in at_one}, abs(c))]
    for against, found, expected, factor in rows:
        for name, got in found.items():
            finite = np.isfinite(size[name]) & (
                np.maximum(1.0, factor) * size[name] < tolerances.IN_RANGE * precision.largest
            )
            tolerance = case.closely(precision, factor * size[name], factor * noise[name])
            yield case.evidence(rule, f"{against} ({precision.label})", name, got, expected[name], tolerance, finite)


def _sum(one: Leaves, two: Leaves) -> Leaves:
    with np.errstate(invalid="ignore"):  # inf - inf, where the derivative is infinite
        return {name: one[name] + two[name] for name in one}
