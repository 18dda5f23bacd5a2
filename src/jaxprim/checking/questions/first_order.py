"""Questions about the first derivative: the rules against differences of the implementation, and against each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from jaxprim.checking import compare
from jaxprim.checking.case import Case
from jaxprim.checking.compare import Tolerance, root_sum_square
from jaxprim.checking.numeric import Derivative
from jaxprim.checking.precision import Precision, Tangents
from jaxprim.checking.probes import typical
from jaxprim.checking.setting import Answer, Direction, NotAsked, Note
from jaxprim.checking.values import Array, wide

CANNOT_TELL = "the differences of the implementation do not converge at this point"


def single_first(directions: Sequence[Direction]) -> list[Direction]:
    """The order in which disagreements are told: one operand alone says most."""
    return sorted(directions, key=lambda direction: len(direction.tangents))


def jvp_differences(case: Case) -> Answer:
    """The JVP along random directions, element by element, against differences of the implementation."""
    yield from case.refused("jvp")
    yield from case.precision_note("jvp")
    for place in case.places():
        yield from _jvp_at(place)


def _jvp_at(case: Case) -> Answer:
    directions = single_first(case.directions("jvp"))
    found = [case.differences(direction) for direction in directions]
    _require_judged([d.judged for row in found for d in row])
    for direction, row in zip(directions, found, strict=True):
        yield from _notes(row, direction)
        for precision in case.precisions("jvp"):
            yield from _jvp_against(case, precision, direction, row, sizes(found))


def sizes(found: Sequence[Sequence[Derivative]]) -> list[Array]:
    """The size of each element of a derivative: the largest along any direction, as along one it may cancel out."""
    return [np.max([np.abs(row[k].value) for row in found], axis=0) for k in range(len(found[0]))]


def _require_judged(judged: Sequence[Array]) -> None:
    if not any(map(np.any, judged)) and any(mask.size for mask in judged):
        raise NotAsked(CANNOT_TELL)


def _jvp_against(
    case: Case, precision: Precision, direction: Direction, found: Sequence[Derivative], size: Sequence[Array]
) -> Answer:
    pushed, noise = case.pushed(precision, direction)
    scale = case.tangent_scale(precision, direction.tangents)
    for k, (name, d) in enumerate(zip(precision.output_names, found, strict=True)):
        got = pushed.tangent[k]
        result = precision.results[precision.outputs[k]]
        expected = case.fits(_between(got, d), result)
        own = compare.rounding(np.abs(expected) + scale, case.working_eps(precision), precision.tiny, noise[k])
        tolerance = compare.differences(size[k], d.error, case.truth.eps) + own
        against = f"differences along {direction.label} ({precision.label})"
        yield case.evidence("jvp", against, f"tangent of {name}", got, expected, tolerance, d.judged)


def _between(got: Array, d: Derivative) -> Array:
    """The derivative; at a kink the number between the one-sided slopes that is nearest to ``got``."""
    if not np.any(d.slack) or np.shape(got) != d.value.shape:
        return d.value
    return np.where(np.isnan(got), d.value, np.clip(got, d.value - d.slack, d.value + d.slack))


def _notes(found: Sequence[Derivative], direction: Direction) -> Answer:
    kinks, lost = sum(d.kinks for d in found), sum(int(np.sum(~d.judged)) for d in found)
    if kinks:
        yield Note(f"along {direction.label}: {kinks} elements lie on a kink; any slope between the two sides is right")
    if lost:
        yield Note(f"along {direction.label}: {lost} elements are not compared, as their differences do not converge")


def vjp_differences(case: Case) -> Answer:
    """The VJP of a random cotangent, along random directions, against differences of the implementation."""
    yield from case.refused("vjp")
    yield from case.precision_note("vjp")
    for place in case.places():
        yield from _vjp_at(place)


def _vjp_at(case: Case) -> Answer:
    directions = single_first(case.directions("vjp"))
    found = [case.differences(direction) for direction in directions]
    judged = [np.logical_and.reduce([row[k].judged for row in found]) for k in range(len(found[0]))]
    _require_judged(judged)
    for direction, row in zip(directions, found, strict=True):
        yield from _notes(row, direction)
    cotangents = [np.where(mask, ct, 0) for mask, ct in zip(judged, case.cotangents(0), strict=True)]
    for precision in case.precisions("vjp"):
        pull = _Pullback(case, precision, cotangents, sizes(found), partial=not all(map(np.all, judged)))
        sums = [item for direction, row in zip(directions, found, strict=True) for item in pull.against(direction, row)]
        yield from pull.worst_element()
        yield from sums


class _Pullback:
    """The VJP rule at one cotangent, compared along directions: <x_bar, t> = <ct, J t>, bilinear, as JAX's VJP is."""

    def __init__(
        self, case: Case, precision: Precision, cotangents: list[Array], size: Sequence[Array], *, partial: bool
    ) -> None:
        self.case, self.precision, self.cotangents, self.size, self.partial = case, precision, cotangents, size, partial
        pulled, self.noise = case.pull(precision, cotangents)
        self.cotangent = pulled.cotangent
        exact = np.zeros(())
        self.why = (
            compare.differences(exact, exact, case.truth.eps)
            + compare.rounding(exact, case.working_eps(precision), precision.tiny)
        ).why
        self.off: list[Direction] = []
        self.scale = case.value_scale(precision) * max([float(np.max(np.abs(ct), initial=0.0)) for ct in cotangents])

    def against(self, direction: Direction, found: Sequence[Derivative]) -> Answer:
        against = f"differences along {direction.label} ({self.precision.label})"
        if self.partial:
            direction, found = self._finite(direction, found)
        got, expected, allowed = self._sides(direction.tangents, found, self.size)
        summed = self.case.evidence(
            "vjp", against, f"<x_bar, t> over {self._names(direction)}", np.asarray(got), np.asarray(expected),
            Tolerance(np.asarray(allowed), f"{self.why}; elements count as independent errors"),
        )  # fmt: skip
        yield summed
        if not summed.ok and np.isfinite(got):
            self.off.append(direction)

    def _finite(self, direction: Direction, found: Sequence[Derivative]) -> tuple[Direction, Sequence[Derivative]]:
        """Without the elements of a cotangent that are 0 x inf, where the derivative of a result is infinite."""
        finite = {i: np.isfinite(self.cotangent[i]) for i in direction.tangents}
        if all(map(np.all, finite.values())):
            return direction, found
        kept = Direction(direction.label, {i: np.where(finite[i], t, 0) for i, t in direction.tangents.items()})
        return kept, self.case.differentiate(kept.tangents)

    def _names(self, direction: Direction) -> str:
        return ", ".join(self.case.point.names[i] for i in direction.tangents)

    def _sides(
        self, tangents: Tangents, found: Sequence[Derivative], size: Sequence[Array]
    ) -> tuple[float, float, float]:
        """<x_bar, t>, <ct, J t>, and what they may differ by: each element's tolerance, as independent errors."""
        got = sum(float(np.sum(np.real(_times(self.cotangent[i], t)))) for i, t in tangents.items())
        expected = sum(float(np.sum(np.real(ct * d.value))) for ct, d in zip(self.cotangents, found, strict=True))
        mine = [_times(self._rounding(i), t) for i, t in tangents.items()]
        theirs = [
            np.abs(ct) * compare.differences(s, d.error, self.case.truth.eps).size
            for ct, d, s in zip(self.cotangents, found, size, strict=True)
        ]
        kinks = sum(float(np.sum(np.abs(ct) * d.slack)) for ct, d in zip(self.cotangents, found, strict=True))
        return got, expected, root_sum_square(*mine, *theirs) + kinks

    def _along(self, tangents: Tangents) -> tuple[float, float, float]:
        """The two sides, and what they may differ by, along some tangents by themselves."""
        found = self.case.differentiate(tangents)
        return self._sides(tangents, found, [d.value for d in found])

    def _rounding(self, leaf: int) -> Array:
        scale = self.scale / typical(wide(self.case.point.leaves[leaf]))
        return compare.rounding(
            np.abs(self.cotangent[leaf]) + scale, self.case.working_eps(self.precision), 0.0, self.noise[leaf]
        ).size

    def worst_element(self) -> Answer:
        """The element that a disagreement comes from, found by halving: the breadcrumb of a failure."""
        if not self.off:
            return
        direction = self.off[0]

        def gap(tangents: Tangents) -> float:
            got, expected, allowed = self._along(tangents)
            return abs(got - expected) / (allowed or 1.0)

        leaf, index = halve(direction.tangents, gap)
        value = self.cotangent[leaf]
        expected, allowed = self._element(leaf, index, direction.tangents[leaf][index])
        got = np.where(_at(value.shape, index), value, 0)
        against = f"differences in the element that is off most ({self.precision.label})"
        name = f"cotangent of {self.case.point.names[leaf]}"
        truth = np.where(_at(value.shape, index), expected, 0)
        tolerance = Tolerance(np.full(value.shape, allowed), self.why)
        single = self.case.evidence("vjp", against, name, got, truth, tolerance, _at(value.shape, index))
        if not single.ok:
            yield single

    def _element(self, leaf: int, index: tuple[int, ...], size: complex) -> tuple[complex, float]:
        """The truth about one element of a cotangent: <ct, J e>, and for a complex operand - i <ct, J (i e)>."""
        shape = self.cotangent[leaf].shape
        total: complex = 0.0
        allowed = 0.0
        for unit in (1.0, 1j) if np.iscomplexobj(self.cotangent[leaf]) else (1.0,):
            tangents = {leaf: np.where(_at(shape, index), unit * abs(size), 0.0)}
            _, expected, tolerance = self._along(tangents)
            total += expected / abs(size) * (1.0 if unit == 1.0 else -1j)
            allowed += tolerance / abs(size)
        return total, allowed


def _times(numbers: Array, tangent: Array) -> Array:
    """The product, which is 0 where the tangent is, whatever the number."""
    return np.where(tangent == 0, 0, numbers) * tangent


def _at(shape: tuple[int, ...], index: tuple[int, ...]) -> Array:
    mask = np.zeros(shape, bool)
    mask[index] = True
    return mask


def halve(tangents: Tangents, gap: Callable[[Tangents], float]) -> tuple[int, tuple[int, ...]]:
    """The one element that a gap, linear in the tangents, comes from most: of two halves, follow the worse."""
    places = [(leaf, k) for leaf, t in tangents.items() for k in range(t.size)]
    while len(places) > 1:
        half = len(places) // 2
        places = max(places[:half], places[half:], key=lambda part: gap(_restricted(tangents, part)))
    leaf, k = places[0]
    return leaf, tuple(int(i) for i in np.unravel_index(k, tangents[leaf].shape))


def _restricted(tangents: Tangents, places: Sequence[tuple[int, int]]) -> Tangents:
    """The tangents with only these elements kept."""
    kept: dict[int, Array] = {}
    for leaf in sorted({leaf for leaf, _ in places}):
        flat = np.zeros(tangents[leaf].size, tangents[leaf].dtype)
        use = [k for other, k in places if other == leaf]
        flat[use] = tangents[leaf].ravel()[use]
        kept[leaf] = flat.reshape(tangents[leaf].shape)
    return kept


def dot_product(case: Case) -> Answer:
    """<ct, J t> by the JVP rule against <J^T ct, t> by the VJP rule, without conjugation, as JAX's transpose has none."""
    for place in case.places():
        both = set(place.wrt("jvp")) & set(place.wrt("vjp"))
        directions = [d for d in single_first(place.directions("jvp")) if set(d.tangents) <= both]
        if not directions:
            raise NotAsked("the two rules differentiate different operands")
        for precision in place.precisions("jvp", "vjp"):
            for draw in range(2):
                for direction in directions:
                    yield from _dot(place, precision, direction, draw)


def _dot(case: Case, precision: Precision, direction: Direction, draw: int) -> Answer:
    cotangents = case.cotangents(draw)
    pushed, push_noise = case.pushed(precision, direction)
    pulled, pull_noise = case.pulled(precision, draw)
    tangents = direction.tangents
    left = sum(float(np.sum(np.real(ct * out))) for ct, out in zip(cotangents, pushed.tangent, strict=True))
    right = sum(float(np.sum(np.real(pulled.cotangent[i] * t))) for i, t in tangents.items())
    against = f"<J^T ct, t> by the VJP rule along {direction.label} ({precision.label})"
    if not (np.isfinite(left) and np.isfinite(right)):
        yield Note(f"{against}: not finite at this point")
        return
    scale, ct_scale = (
        case.tangent_scale(precision, tangents),
        max(float(np.max(np.abs(c), initial=0)) for c in cotangents),
    )
    value = case.value_scale(precision)
    forward = [
        ct * compare.rounding(np.abs(out) + scale, case.working_eps(precision), precision.tiny, n).size
        for ct, out, n in zip(cotangents, pushed.tangent, push_noise, strict=True)
    ]
    backward = [
        t * compare.rounding(np.abs(pulled.cotangent[i]) + _slope(case, i, ct_scale * value), case.working_eps(precision), precision.tiny, pull_noise[i]).size
        for i, t in tangents.items()
    ]  # fmt: skip
    allowed = root_sum_square(*forward, *backward)
    names = ", ".join(case.point.names[i] for i in tangents)
    why = f"{compare.ROUNDINGS:g} roundings of {case.working_eps(precision):.1e} in each element, as independent errors"
    leaf = f"<ct, J t> over {names}"
    yield case.evidence(
        "jvp and vjp", against, leaf, np.asarray(left), np.asarray(right), Tolerance(np.asarray(allowed), why)
    )


def _slope(case: Case, leaf: int, value: float) -> float:
    """The size of a cotangent if the operation is of degree one: that of the results over that of the operand."""
    return value / typical(wide(case.point.leaves[leaf]))
