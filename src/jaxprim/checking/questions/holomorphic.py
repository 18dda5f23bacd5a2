"""Is the JVP rule right along complex tangents, and is the operation holomorphic?

The derivative of any function of complex numbers along t is J t = f_z t + f_conj(z) conj(t), so

    J (i t) = i (f_z t - f_conj(z) conj(t)),      i J t = i (f_z t + f_conj(z) conj(t))

They agree only if f_conj(z) conj(t) = 0: where f is holomorphic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxprim.checking import probes, tolerances
from jaxprim.checking.answers import Answer, NotAsked, Note
from jaxprim.checking.case import Case
from jaxprim.checking.probes import Direction
from jaxprim.checking.question import question
from jaxprim.checking.questions.jvp_differences import CANNOT_TELL
from jaxprim.checking.values import wide


@question("Is the JVP rule right along t and along i t, for a complex t?", group="first order", departs="jvp")
def holomorphic(case: Case) -> Answer:
    """Compare the JVP along t and along i t with differences, and note whether one is i times the other."""
    wrt = [i for i in case.wrt("jvp") if np.iscomplexobj(wide(case.point.leaves[i]))]
    outputs = [k for k, i in enumerate(case.native.outputs) if np.iscomplexobj(wide(case.native.results[i]))]
    if not wrt or not outputs:
        raise NotAsked("it does not map complex numbers to complex numbers")
    base = {i: case.relative(i, probes.HOLOMORPHIC) for i in wrt}
    turned = {i: 1j * t for i, t in base.items()}
    rows = [case.differentiate(tangents) for tangents in (base, turned)]
    judged = [rows[0][k].judged & rows[1][k].judged for k in outputs]
    if not any(map(np.any, judged)):
        raise NotAsked(CANNOT_TELL)
    for label, tangents, row in (("a tangent", base, rows[0]), ("i times that tangent", turned, rows[1])):
        yield from _along(case, Direction(f"{label}", tangents), row, outputs)
    yield Note(_kind(rows, outputs, judged))


def _along(case: Case, direction: Direction, row: Sequence[Any], outputs: Sequence[int]) -> Answer:
    for precision in case.precisions("jvp"):
        pushed, noise = case.jvp(precision, direction)
        scale = case.tangent_scale(precision, direction.tangents)
        for k in outputs:
            d, name = row[k], precision.output_names[k]
            own = case.rounding(precision, np.abs(d.value) + scale, noise[k], d.value)
            tolerance = tolerances.differences(np.abs(d.value) + scale, d.error, case.truth.eps) + own
            against = f"differences along {direction.label} ({precision.label})"
            yield case.evidence("jvp", against, f"tangent of {name}", pushed.tangent[k], d.value, tolerance, d.judged)


def _kind(rows: Sequence[Sequence[Any]], outputs: Sequence[int], judged: Sequence[Any]) -> str:
    for k, mask in zip(outputs, judged, strict=True):
        one, two = rows[0][k].value[mask], rows[1][k].value[mask]
        if np.any(np.abs(two - 1j * one) > tolerances.HOLOMORPHIC * (np.abs(one) + np.abs(two))):
            return (
                "not holomorphic here: its derivative depends on the conjugate, so jax.grad(holomorphic=True) is wrong"
            )
    return "holomorphic here: the derivative along i t is i times the derivative along t"
