"""How accurate is an implementation, in units in the last place, at ordinary and at extreme numbers?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxprim import _jax
from jaxprim.checking import probes, tolerances
from jaxprim.checking.answers import Answer, NotAsked, Note, Refusal, attempt
from jaxprim.checking.case import Case
from jaxprim.checking.domain import ask_inside
from jaxprim.checking.question import question
from jaxprim.checking.questions.reference import reference_values
from jaxprim.checking.values import Array, doubled, epsilon, has_tangents, is_scalar, spacing, tiny, to_jax, wide

# The number of points: the example and points around it. Each element changes by up to half of itself.
POINTS = 3
SPREAD = 0.5
# tiny^0.45 is small, and tiny^-0.45 is large, but their squares are still in range.
EXTREMES = {"tiny numbers": 0.45, "huge numbers": -0.45}
SPECIAL = {"-0.0": -0.0, "inf": np.inf, "-inf": -np.inf, "nan": np.nan}


@question(
    "How large is the error in units in the last place, at random, tiny, huge and special numbers?",
    group="numerics",
    speed="thorough",
)
def accuracy(case: Case) -> Answer:
    """Compare the implementation with the reference, or else with its own values in float64."""
    if not case.point.differentiable or not case.native.outputs:
        raise NotAsked("it does not map real or complex numbers to real or complex numbers")
    known = case.subject.reference is not None
    if not known and not case.truth.double:
        raise NotAsked(
            "there is nothing to compare with: no reference is given, and float64 is the example's own dtype or does not run"
        )
    for place, leaves in _points(case).items():
        yield from _keep_to_domain(case, leaves, f"at {place} numbers", partial(_compare, known=known))
    if _may_not_end(case):
        yield Note("not asked at tiny, huge and special numbers: it contains a while loop, which may not end there")
        return
    for place, leaves in (*_extremes(case).items(), *_specials(case).items()):
        yield from _keep_to_domain(case, leaves, f"at {place}", partial(_note_extreme, known=known))


def _keep_to_domain(case: Case, leaves: Sequence[Any], place: str, ask: Callable[[Case], Answer]) -> Answer:
    """Ask at other operands, if they are inside the domain; if something is off there, say what they are."""
    invented = any(new is not old for new, old in zip(leaves, case.point.leaves, strict=True))
    return ask_inside(case, leaves, place, ask, names=lambda _, is_off: is_off and invented)


def _points(case: Case) -> Mapping[str, list[Any]]:
    found = {"the example's": list(case.point.leaves)}
    for k in range(1, POINTS):
        rng = case.rng("accuracy", k)
        found[f"random ({k})"] = [probes.nearby(rng, leaf, SPREAD) for leaf in case.point.leaves]
    return found


def _extremes(case: Case) -> Mapping[str, list[Any]]:
    """The operands scaled to be tiny or huge, with squares still in range."""
    return {
        word: [_scale(leaf, power) if has_tangents(leaf) else leaf for leaf in case.point.leaves]
        for word, power in EXTREMES.items()
    }


def _may_not_end(case: Case) -> bool:
    """Whether the implementation contains a while loop that JAX can see."""
    author, point = case.subject.author, case.point
    trace = jax.make_jaxpr(lambda *leaves: author(*point.tree.unflatten(leaves), **point.params))
    program = attempt(lambda: trace(*point.leaves))
    return not isinstance(program, Refusal) and _jax.uses(
        program, _jax.words.WHILE
    )  # a host function does not accept tracers


def _scale(leaf: Any, power: float) -> Any:
    if is_scalar(leaf):
        return leaf
    value = wide(leaf)
    return to_jax((value / probes.typical(value) * tiny(leaf) ** power).astype(leaf.dtype))


def _specials(case: Case) -> Mapping[str, list[Any]]:
    """A special number in the first element of each operand."""
    return {
        word: [_with_first(leaf, number) if has_tangents(leaf) else leaf for leaf in case.point.leaves]
        for word, number in SPECIAL.items()
    }


def _with_first(leaf: Any, number: float) -> Any:
    return leaf if is_scalar(leaf) or not leaf.size else leaf.at[(0,) * leaf.ndim].set(number)


def _truth(case: Case, *, known: bool) -> list[Array]:
    if known:
        return [wide(leaf) for leaf in reference_values(case)]
    with jax.enable_x64(True):
        return [wide(leaf) for leaf in case.native.flat(*[doubled(leaf) for leaf in case.point.leaves])]


def _compare(case: Case, *, known: bool) -> Answer:
    """At ordinary numbers: without a reference, only gross errors are bad; with one, all errors are."""
    precision, truth = case.native, _truth(case, known=known)
    values, noise = case.value(precision)
    against = "the reference in float64" if known else "the implementation in float64"
    for i in precision.outputs:
        leaf = precision.results[i]
        expected = case.round_to(truth[i], leaf)
        # A formula may overflow in an intermediate step, but not if the author gave a reference.
        judged = np.isfinite(values[i]) | ~np.isfinite(expected) | known
        tolerance = case.grossly(values[i], noise[i], leaf)
        if known:
            tolerance = case.roughly(precision, expected, noise[i]) + tolerances.relative(expected, precision.eps)
        yield case.evidence("impl", against, precision.names[i], values[i], expected, tolerance, judged)
        yield Note(f"{precision.names[i]}{case.place}: {_in_ulp(values[i], expected, leaf)}")


def _note_extreme(case: Case, *, known: bool) -> Answer:
    """At extreme numbers, a correct formula may overflow or cancel: this is reported, and is not a failure."""
    found = attempt(lambda: (_truth(case, known=known), [wide(leaf) for leaf in case.native.results]))
    if isinstance(found, Refusal):
        yield Note(f"not asked{case.place}: {found.why}")
        return
    truth, values = found
    for i in case.native.outputs:
        name, leaf = case.native.names[i], case.native.results[i]
        yield Note(f"{name}{case.place}: {_in_ulp(values[i], case.round_to(truth[i], leaf), leaf)}")
        if known and np.any(np.isnan(truth[i])):  # a lost NaN is an error that goes unnoticed
            lost = np.where(np.isnan(truth[i]), values[i], np.nan)
            yield case.evidence(
                "impl", "the NaNs of the reference", name, lost, lost + np.nan, tolerances.exact(lost.shape)
            )


def _in_ulp(got: Array, expected: Array, leaf: Any) -> str:
    """The largest and the median error in ulp, and how many elements are finite on only one side."""
    if got.shape != expected.shape:
        return f"shape {got.shape}, and {expected.shape} in float64"
    both = np.isfinite(got) & np.isfinite(expected)
    other = ~both & ~((got == expected) | (np.isnan(got) & np.isnan(expected)))
    said = []
    if np.any(both):
        with np.errstate(invalid="ignore"):  # inf - inf
            errors = np.where(both, np.abs(got - expected) / unit_in_the_last_place(expected, leaf), -1.0)
        index = ",".join(map(str, np.unravel_index(int(np.argmax(errors)), errors.shape)))
        where = f" at [{index}]" if index else ""
        said.append(f"max error {np.max(errors):.2g} ulp{where}, median {np.median(errors[both]):.2g} ulp")
    if np.any(other):
        k = np.unravel_index(int(np.argmax(other)), got.shape)
        said.append(f"{int(np.sum(other))} elements differ from float64: got {got[k]:g}, expected {expected[k]:g}")
    return "; ".join(said) or "the same infinities and NaNs as in float64"


def unit_in_the_last_place(value: Array, leaf: Any) -> Array:
    """The distance from a number to the next one in the dtype of ``leaf``."""
    return spacing(value, epsilon(leaf), tiny(leaf))
