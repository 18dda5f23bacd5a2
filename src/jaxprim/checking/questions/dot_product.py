"""Are the two rules each other's transpose?

With a cotangent c of the results and a tangent t of the operands,

    <c, J t> = <J^T c, t>,      <a, b> = Re sum_i a_i b_i

without conjugation, because JAX's transpose has none. Neither side needs differences, so the comparison is as sharp as the
dtype: J t is the JVP rule's, J^T c the VJP rule's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from jaxprim.checking import tolerances
from jaxprim.checking.answers import Answer, NotAsked, Note
from jaxprim.checking.case import Case
from jaxprim.checking.compare import root_sum_square
from jaxprim.checking.domain import off_the_real_axis
from jaxprim.checking.precision import Precision
from jaxprim.checking.probes import Direction, typical
from jaxprim.checking.question import question
from jaxprim.checking.questions.jvp_differences import fewest_operands_first
from jaxprim.checking.reports.findings import Evidence
from jaxprim.checking.tolerances import Tolerance
from jaxprim.checking.values import Array, wide


@question(
    "Are the two rules each other's transpose: <ct, J t> = <J^T ct, t>, without conjugation?",
    group="first order",
    speed="fast",
    departs="vjp",
)
def dot_product(case: Case) -> Answer:
    """Compare <ct, J t> by the JVP rule with <J^T ct, t> by the VJP rule."""
    for place in off_the_real_axis(case):
        both = set(place.wrt("jvp")) & set(place.wrt("vjp"))
        directions = [d for d in fewest_operands_first(place.directions("jvp")) if set(d.tangents) <= both]
        if not directions:
            raise NotAsked("the two rules differentiate different operands")
        for precision in place.precisions("jvp", "vjp"):
            for draw in range(2):
                for direction in directions:
                    yield _compare(place, precision, direction, draw)


def _compare(case: Case, precision: Precision, direction: Direction, draw: int) -> Evidence | Note:
    tangents, cotangents = direction.tangents, case.cotangents(draw)
    pushed, push_noise = case.jvp(precision, direction)
    pulled, pull_noise = case.vjp(precision, draw)
    left = _dot(zip(cotangents, pushed.tangent, strict=True))
    right = _dot((pulled.cotangent[i], t) for i, t in tangents.items())
    against = f"<J^T ct, t> by the VJP rule along {direction.label} ({precision.label})"
    if not (np.isfinite(left) and np.isfinite(right)):
        return Note(f"{against}: not finite at this point")
    forward = [
        ct * _rounding(case, precision, out, case.tangent_scale(precision, tangents), n)
        for ct, out, n in zip(cotangents, pushed.tangent, push_noise, strict=True)
    ]
    backward = [
        t
        * _rounding(
            case, precision, pulled.cotangent[i], _cotangent_scale(case, precision, i, cotangents), pull_noise[i]
        )
        for i, t in tangents.items()
    ]
    allowed = np.asarray(root_sum_square(*forward, *backward))
    eps = case.working_eps(precision)
    why = f"{tolerances.ROUNDINGS:g} roundings of {eps:.1e} in each element, as independent errors"
    leaf = f"<ct, J t> over {', '.join(case.point.names[i] for i in tangents)}"
    return case.evidence("jvp and vjp", against, leaf, np.asarray(left), np.asarray(right), Tolerance(allowed, why))


def _dot(pairs: Iterable[tuple[Array, Array]]) -> float:
    """<a, b> over several leaves: bilinear, and its real part."""
    return sum(float(np.sum(np.real(a * b))) for a, b in pairs)


def _rounding(case: Case, precision: Precision, numbers: Array, scale: float, noise: Array) -> Array:
    """The allowed error of each number, if terms of this scale may have cancelled in it."""
    return case.rounding(precision, np.abs(numbers) + scale, noise, numbers).size


def _cotangent_scale(case: Case, precision: Precision, leaf: int, cotangents: Sequence[Array]) -> float:
    """The size of a cotangent x_bar if the operation is of degree one, y ~ x: |x_bar| = |c| |y| / |x|."""
    largest = max(float(np.max(np.abs(ct), initial=0)) for ct in cotangents)
    return largest * case.value_scale(precision) / typical(wide(case.point.leaves[leaf]))
