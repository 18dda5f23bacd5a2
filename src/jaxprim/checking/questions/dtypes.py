"""Are types and values right in every dtype that an operation accepts?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim.checking import tolerances
from jaxprim.checking.answers import Answer, NotAsked, Note, collect, first_line
from jaxprim.checking.case import Case
from jaxprim.checking.precision import Precision
from jaxprim.checking.question import question
from jaxprim.checking.questions.abstract_eval import abstract_eval
from jaxprim.checking.tolerances import is_double
from jaxprim.checking.values import Array, epsilon, has_tangents, is_scalar, peak, wide

# The dtype of real operands, and the dtype of complex ones used with it.
DTYPES = (
    ("float16", None),
    ("bfloat16", None),
    ("float32", "complex64"),
    ("float64", "complex128"),
)


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
    other = case.at(leaves, f"in {real}")
    broken = other.failure()
    if broken is not None:
        yield Note(f"the implementation does not take {real}: {first_line(broken)}")
        return
    yield from abstract_eval(other)
    double = _in_double(case, other)
    if double is None:
        return
    yield from _compare_values(other, double)
    for mode, ask in (("jvp", _compare_tangents), ("vjp", _compare_cotangents)):
        found, refused = collect(ask(other, double))
        yield from found if refused is None else [Note(f"the {mode} rule is not evaluated in {real}: {refused.why}")]


def _in_double(case: Case, other: Case) -> Precision | None:
    """The same numbers in float64, if the function is known to be the same there; else None."""
    if is_double(other.native.eps) or not (case.truth.double or is_double(case.native.eps)):
        return None  # in float64, differences cover this
    return Precision.in_double(case.subject, other.point)


def _cast_to(leaf: Any, real: str, imaginary: str | None) -> Any:
    if is_scalar(leaf) or not has_tangents(leaf):
        return leaf
    wanted = imaginary if jnp.issubdtype(leaf.dtype, jnp.complexfloating) else real
    return jnp.asarray(wide(leaf), wanted)


def _compare_values(case: Case, double: Precision) -> Answer:
    native, noise = case.value(case.native)
    rows = zip(case.native.names, native, double.value(), noise, case.native.results, strict=True)
    yield from _compare(case, "impl", "the values in float64", rows)


def _compare_tangents(case: Case, double: Precision) -> Answer:
    precision, direction = case.native, case.directions("jvp")[0]
    (got, noise), (truth, _) = case.jvp(precision, direction), case.jvp(double, direction)
    names, likes = (
        [f"tangent of {name}" for name in precision.output_names],
        [precision.results[i] for i in precision.outputs],
    )
    # The tolerance multiplies noise by HALF_PRECISION_ROUNDINGS, but the cancelling terms get fewer roundings.
    roundings = tolerances.CANCELLING_TERMS / tolerances.HALF_PRECISION_ROUNDINGS
    terms = roundings * precision.eps * case.tangent_scale(precision, direction.tangents)
    rows = zip(names, got.tangent, truth.tangent, [n + terms for n in noise], likes, strict=True)
    yield from _compare(case, "jvp", "the rule in float64", rows)


def _compare_cotangents(case: Case, double: Precision) -> Answer:
    (got, noise), (truth, _) = case.vjp(case.native, 0), case.vjp(double, 0)
    rows = [
        (f"cotangent of {case.point.names[i]}", got.cotangent[i], truth.cotangent[i], noise[i], case.point.leaves[i])
        for i in case.wrt("vjp")
    ]
    yield from _compare(case, "vjp", "the rule in float64", rows)


def _compare(case: Case, rule: str, against: str, rows: Iterable[tuple[str, Array, Array, Array, Any]]) -> Answer:
    """Compare with double precision. Only gross errors are bad, since a formula may be inaccurate in a small dtype.

    Each row: the name of a leaf, the value, the truth and the noise (all in the leaf's shape), and the leaf.
    """
    for name, got, truth, noise, leaf in rows:
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
        yield case.evidence(rule, against, name, got, expected, tolerance, judged)
