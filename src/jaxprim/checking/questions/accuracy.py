"""How accurate an implementation is, in units in the last place, where numbers are ordinary and where they are not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim import _jax
from jaxprim._rules import rules_of
from jaxprim.checking import compare, probes
from jaxprim.checking.case import Case
from jaxprim.checking.questions.values import believed
from jaxprim.checking.setting import Answer, NotAsked, Note
from jaxprim.checking.subject import first_line
from jaxprim.checking.values import Array, doubled, epsilon, has_tangents, is_scalar, spacing, tiny, wide

POINTS = 3
SPREAD = 0.5
SPECIAL = {"-0.0": -0.0, "inf": np.inf, "-inf": -np.inf, "nan": np.nan}


def accuracy(case: Case) -> Answer:
    """The implementation against a float64 truth: that of the reference, or else its own in double precision."""
    if not case.point.differentiable or not case.native.outputs:
        raise NotAsked("it does not map real or complex numbers to such numbers")
    known = case.subject.reference is not None
    if not known and not case.truth.double:
        raise NotAsked(
            "there is no truth: no reference is given, and float64 is the example's own dtype or does not run"
        )
    for place, leaves in _points(case).items():
        yield from _at(case.elsewhere(leaves, f"at {place} numbers"), known=known)
    if _may_not_end(case):
        yield Note("not asked at tiny, huge and special numbers: it holds a while loop, which may not end there")
        return
    for place, leaves in (*_extremes(case).items(), *_specials(case).items()):
        yield from _beyond(case.elsewhere(leaves, f"at {place}"), known=known)


# ------------------------------------------------------------------------------------------------------------- points
def _points(case: Case) -> Mapping[str, list[Any]]:
    found = {"the example's": list(case.point.leaves)}
    for k in range(1, POINTS):
        rng = case.rng("accuracy", k)
        found[f"random ({k})"] = [probes.nearby(rng, leaf, SPREAD) for leaf in case.point.leaves]
    return found


def _extremes(case: Case) -> Mapping[str, list[Any]]:
    """All numbers so small, or so large, that their squares are still in range."""
    return {
        word: [_scaled(leaf, power) if has_tangents(leaf) else leaf for leaf in case.point.leaves]
        for word, power in (("tiny numbers", 0.45), ("huge numbers", -0.45))
    }


def _may_not_end(case: Case) -> bool:
    """Whether the implementation goes on until it has converged, as far as JAX can look into it."""
    primitive, point = case.subject.primitive, case.point
    call = (rules_of(primitive).implementation_author if primitive is not None else None) or case.subject.call
    try:
        program = jax.make_jaxpr(lambda *leaves: call(*point.tree.unflatten(leaves), **point.params))(*point.leaves)
    except Exception:  # noqa: BLE001 - a host function takes no tracers, and refuses them in any way it likes
        return False
    return _jax.uses(program, _jax.words.WHILE)


def _scaled(leaf: Any, power: float) -> Any:
    if is_scalar(leaf):
        return leaf
    value = wide(leaf)
    return jnp.asarray(value / probes.typical(value) * tiny(leaf) ** power, leaf.dtype)


def _specials(case: Case) -> Mapping[str, list[Any]]:
    """A special number in the first element of each operand."""
    return {
        word: [_with_first(leaf, number) if has_tangents(leaf) else leaf for leaf in case.point.leaves]
        for word, number in SPECIAL.items()
    }


def _with_first(leaf: Any, number: float) -> Any:
    return leaf if is_scalar(leaf) or not leaf.size else leaf.at[(0,) * leaf.ndim].set(number)


# -------------------------------------------------------------------------------------------------------- comparisons
def _truth(case: Case, *, known: bool) -> list[Array]:
    if known:
        return [wide(leaf) for leaf in believed(case)]
    with jax.enable_x64(True):
        return [wide(leaf) for leaf in case.native.flat(*[doubled(leaf) for leaf in case.point.leaves])]


def _at(case: Case, *, known: bool) -> Answer:
    """Where numbers are ordinary, an implementation that is grossly off is wrong; with a reference, any that is off."""
    view, truth = case.native, _truth(case, known=known)
    values, noise = case.value(view)
    against = "the reference in float64" if known else "the implementation in float64"
    for i in view.outputs:
        leaf = view.results[i]
        expected = case.fits(truth[i], leaf)
        # A formula may overflow on the way, but not where its author says what it should give.
        judged = np.isfinite(values[i]) | ~np.isfinite(expected) | known
        tolerance = case.grossly(values[i], noise[i], leaf)
        if known:
            tolerance = case.roughly(view, expected, noise[i]) + compare.relative(expected, view.eps)
        yield case.evidence("impl", against, view.names[i], values[i], expected, tolerance, judged)
        yield Note(f"{view.names[i]}{case.place}: {_in_ulp(values[i], expected, leaf)}")


def _beyond(case: Case, *, known: bool) -> Answer:
    """Far from ordinary numbers a right formula may overflow or cancel: that is told, and is no failure."""
    try:
        truth, values = _truth(case, known=known), [wide(leaf) for leaf in case.native.results]
    except Exception as error:  # noqa: BLE001 - a host function or a reference may refuse such numbers in any way it likes
        yield Note(f"not asked{case.place}: {first_line(error)}")
        return
    for i in case.native.outputs:
        name, leaf = case.native.names[i], case.native.results[i]
        yield Note(f"{name}{case.place}: {_in_ulp(values[i], case.fits(truth[i], leaf), leaf)}")
        if known and np.any(np.isnan(truth[i])):  # a NaN that is lost is an error that nobody sees
            lost = np.where(np.isnan(truth[i]), values[i], np.nan)
            yield case.evidence(
                "impl", "the NaNs of the reference", name, lost, lost + np.nan, compare.exact(lost.shape)
            )


def _in_ulp(got: Array, expected: Array, leaf: Any) -> str:
    """The worst error in units in the last place, and how many elements are finite on one side alone."""
    if got.shape != expected.shape:
        return f"shape {got.shape}, and {expected.shape} in float64"
    both = np.isfinite(got) & np.isfinite(expected)
    other = ~both & ~((got == expected) | (np.isnan(got) & np.isnan(expected)))
    said = []
    if np.any(both):
        with np.errstate(invalid="ignore"):  # inf - inf
            errors = np.where(both, np.abs(got - expected) / unit_in_the_last_place(expected, leaf), -1.0)
        worst = ",".join(map(str, np.unravel_index(int(np.argmax(errors)), errors.shape)))
        said.append(
            f"off by {np.max(errors):.2g} ulp at worst, at [{worst}]; {np.median(errors[both]):.2g} in the middle"
        )
    if np.any(other):
        k = np.unravel_index(int(np.argmax(other)), got.shape)
        said.append(f"{int(np.sum(other))} elements are not what float64 gives: {got[k]:g} for {expected[k]:g}")
    return "; ".join(said) or "the same infinities and NaNs as in float64"


def unit_in_the_last_place(value: Array, leaf: Any) -> Array:
    """The distance from a number to the next one in the dtype of ``leaf``."""
    return spacing(value, epsilon(leaf), tiny(leaf))
