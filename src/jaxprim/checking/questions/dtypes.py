"""Are types and values right in every dtype that an operation accepts?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim.checking import probes, tolerances
from jaxprim.checking.answers import Answer, NotAsked, Note, collect, first_line
from jaxprim.checking.case import Case
from jaxprim.checking.domain import ask_inside
from jaxprim.checking.precision import Precision
from jaxprim.checking.question import question
from jaxprim.checking.questions.abstract_eval import abstract_eval
from jaxprim.checking.tolerances import is_double
from jaxprim.checking.values import Array, epsilon, has_tangents, is_scalar, peak, to_jax, wide

# The dtype of real operands, and the dtype of complex ones used with it.
DTYPES = (
    ("float16", None),
    ("bfloat16", None),
    ("float32", "complex64"),
    ("float64", "complex128"),
)

# Evaluates results in double precision at other operands.
Again = Callable[[Sequence[Any]], list[Array]]
# How often the operands are rounded anew: one draw may happen to move an element very little.
ROUNDED_ANEW = 3


@question("Are its types and values right in every dtype that it accepts?", group="types")
def dtypes(case: Case) -> Answer:
    """Compare types and values in each accepted dtype with the same numbers in double precision."""
    own = {
        jnp.result_type(case.point.leaves[i]) for i in case.point.differentiable if not is_scalar(case.point.leaves[i])
    }
    if not own:
        raise NotAsked("no operand is an array of real or complex numbers")
    complex_ = any(jnp.issubdtype(dtype, jnp.complexfloating) for dtype in own)
    for real, imaginary in DTYPES:
        if own <= {jnp.dtype(real), jnp.dtype(imaginary or real)} or (complex_ and imaginary is None):
            continue
        with jax.enable_x64(real == "float64" or jax.config.jax_enable_x64):
            yield from _in_dtype(case, real, imaginary)


def _in_dtype(case: Case, real: str, imaginary: str | None) -> Answer:
    with np.errstate(over="ignore", under="ignore"):
        leaves = [_cast_to(leaf, real, imaginary) for leaf in case.point.leaves]
    names = lambda other, is_off: is_off or not _same(other.point.leaves, leaves)
    return ask_inside(case, leaves, f"in {real}", lambda other: _at(other, case, real), names=names)


def _same(these: Sequence[Any], those: Sequence[Any]) -> bool:
    return all(a is b or np.array_equal(wide(a), wide(b), equal_nan=True) for a, b in zip(these, those, strict=True))


def _at(other: Case, case: Case, real: str) -> Answer:
    broken = other.failure()
    if broken is not None:
        yield Note(f"the implementation does not take {real}: {first_line(broken)}")
        return
    yield from abstract_eval(other)
    double = _in_double(case, other)
    if double is None:
        return
    yield from _compare_values(other, double)
    why = _no_range(other, double)
    if why is not None:
        yield Note(f"the rules are not compared in {real}: {why}")
        return
    for mode, ask in (("jvp", _compare_tangents), ("vjp", _compare_cotangents)):
        found, refused = collect(ask(other, double))
        yield from found if refused is None else [Note(f"the {mode} rule is not evaluated in {real}: {refused.why}")]


def _in_double(case: Case, other: Case) -> Precision | None:
    """The same numbers in float64, if the function is known to be the same there; else None."""
    if is_double(other.native.eps) or not (case.truth.double or is_double(case.native.eps)):
        return None  # in float64, differences cover this
    return Precision.in_double(case.subject, other.point)


def _no_range(case: Case, double: Precision) -> str | None:
    """Why rules need not be right in this dtype: its range is too short for the value, or for the number of elements."""
    for got, truth, leaf in zip(case.value(case.native)[0], double.value(), case.native.results, strict=True):
        if np.any(~np.isfinite(got) & np.isfinite(case.round_to(truth, leaf))):
            return "the value overflows in an intermediate step"
    if max((np.size(leaf) for leaf in (*case.point.leaves, *case.native.results)), default=0) > case.native.largest:
        return f"it has more elements than {case.native.largest:g}, the largest number"
    return None


def _cast_to(leaf: Any, real: str, imaginary: str | None) -> Any:
    if is_scalar(leaf) or not has_tangents(leaf):
        return leaf
    wanted = imaginary if jnp.issubdtype(leaf.dtype, jnp.complexfloating) else real
    return to_jax(wide(leaf).astype(jnp.dtype(wanted)))


def _compare_values(case: Case, double: Precision) -> Answer:
    native, noise = case.value(case.native)
    rows = zip(case.native.names, native, double.value(), noise, case.native.results, strict=True)
    yield from _compare(case, double, "impl", "the values in float64", rows, double.value)


def _compare_tangents(case: Case, double: Precision) -> Answer:
    precision, direction = case.native, case.directions("jvp")[0]
    (got, noise), (truth, _) = case.jvp(precision, direction), case.jvp(double, direction)
    names = [f"tangent of {name}" for name in precision.output_names]
    likes = [precision.results[i] for i in precision.outputs]
    # The tolerance multiplies noise by HALF_PRECISION_ROUNDINGS, but the cancelling terms get fewer roundings.
    roundings = tolerances.CANCELLING_TERMS / tolerances.HALF_PRECISION_ROUNDINGS
    terms = roundings * precision.eps * case.tangent_scale(precision, direction.tangents)
    rows = zip(names, got.tangent, truth.tangent, [n + terms for n in noise], likes, strict=True)
    again = lambda leaves: double.jvp(direction.tangents, leaves).tangent
    yield from _compare(case, double, "jvp", "the rule in float64", rows, again)


def _compare_cotangents(case: Case, double: Precision) -> Answer:
    wrt = case.wrt("vjp")
    (got, noise), (truth, _) = case.vjp(case.native, 0), case.vjp(double, 0)
    rows = [
        (f"cotangent of {case.point.names[i]}", got.cotangent[i], truth.cotangent[i], noise[i], case.point.leaves[i])
        for i in wrt
    ]
    again = lambda leaves: list(double.vjp(case.cotangents(0), wrt, leaves).cotangent.values())
    yield from _compare(case, double, "vjp", "the rule in float64", rows, again)


def _compare(
    case: Case, double: Precision, rule: str, against: str, rows: Iterable[tuple[str, Array, Array, Array, Any]], again: Again,
) -> Answer:  # fmt: skip
    """Compare with double precision. Only gross errors are bad, since a formula may be inaccurate in a small dtype.

    Each row: the name of a leaf, the value, the truth and the noise (all in the leaf's shape), and the leaf. ``again``
    evaluates all rows in double precision at other operands.
    """
    for k, (name, got, truth, noise, leaf) in enumerate(rows):
        expected = case.round_to(truth, leaf)
        judged = np.isfinite(got) & np.isfinite(expected)
        if not np.all(judged == np.isfinite(expected)):
            yield Note(
                f"{name}{case.place}: {int(np.sum(~np.isfinite(got)))} elements overflow in an intermediate step"
            )
        tolerance = tolerances.exact(got.shape)
        if epsilon(leaf):
            precision = case.native
            tolerance = tolerances.in_half_precision(got, peak(got), noise, precision.eps, precision.tiny)
        found = case.evidence(rule, against, name, got, expected, tolerance, judged)
        if not found.ok and not found.message and epsilon(leaf):
            change = tolerances.conditioned(_change(case, double, again)[k], peak(truth))
            held = case.evidence(rule, against, name, got, expected, tolerance + change, judged)
            found = held if held.ok else found
        yield found


def _change(case: Case, double: Precision, again: Again) -> list[Array]:
    """How far results move in double precision if each operand moves by a rounding of the small dtype.

    No formula is more accurate in that dtype: it rounds numbers that are as sensitive as the operands. For a solve with
    condition 1e10, float32 has no right digit.
    """
    moved: list[list[Array]] = []
    for draw in range(ROUNDED_ANEW):
        rng = case.rng("rounded", draw)
        with double.in_effect():
            leaves = list(double.point.leaves)
            for i in double.point.differentiable:
                value = wide(leaves[i])
                leaves[i] = probes.move(leaves[i], case.native.eps * probes.unit(rng, value) * np.abs(value))
        moved.append(again(leaves))
    base = again(double.point.leaves)
    return [np.max([np.abs(row[k] - base[k]) for row in moved], axis=0) for k in range(len(base))]
