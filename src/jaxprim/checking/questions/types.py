"""Questions about types: the same operation in other dtypes, with 64-bit types on or off, and in the smallest shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim._errors import RuleWrong
from jaxprim.checking import compare, numeric
from jaxprim.checking.case import GROSS, Case
from jaxprim.checking.compare import Tolerance
from jaxprim.checking.precision import Precision
from jaxprim.checking.questions import modes, values
from jaxprim.checking.setting import Answer, NotAsked, Note
from jaxprim.checking.subject import first_line
from jaxprim.checking.values import Array, describe, epsilon, has_tangents, is_key, is_scalar, peak, wide

FEW = 8.0

# The dtype of real operands, and that of complex ones beside them.
DTYPES = (
    ("float16", None),
    ("bfloat16", None),
    ("float32", "complex64"),
    ("float64", "complex128"),
)


# ------------------------------------------------------------------------------------------------------------- dtypes
def dtypes(case: Case) -> Answer:
    """Types and values in each dtype that the implementation takes, against the same numbers in double precision."""
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
        leaves = [_cast(leaf, real, imaginary) for leaf in case.point.leaves]
    other = case.elsewhere(leaves, f"in {real}")
    broken = other.failure()
    if broken is not None:
        yield Note(f"the implementation does not take {real}: {first_line(broken)}")
        return
    yield from _placed(other, values.abstract_eval(other))
    double = _in_double(case, other)
    if double is None:
        return
    yield from _right_values(other, double)
    for mode, ask in (("jvp", _right_tangents), ("vjp", _right_cotangents)):
        try:
            other.wrt(mode)
            found = list(ask(other, double))
        except Exception as error:  # noqa: BLE001 - a rule for float32 alone may fail in any way it likes
            found = [Note(f"the {mode} rule is not asked in {real}: {first_line(error)}")]
        yield from found


def _in_double(case: Case, other: Case) -> Precision | None:
    """The very numbers of another dtype in float64, where that is known to be the same function; None where it is not."""
    if other.native.eps < numeric.DOUBLE or not (case.truth.double or case.native.eps < numeric.DOUBLE):
        return None  # in float64 itself, differences ask
    return Precision.in_double(case.subject, other.point)


def _cast(leaf: Any, real: str, imaginary: str | None) -> Any:
    if is_scalar(leaf) or not has_tangents(leaf):
        return leaf
    wanted = imaginary if jnp.issubdtype(leaf.dtype, jnp.complexfloating) else real
    return jnp.asarray(wide(leaf), wanted)


def _placed(case: Case, answer: Answer) -> Answer:
    """Evidence about types says where it was asked, as that about numbers does."""
    for item in answer:
        yield item if isinstance(item, Note) else replace(item, against=item.against + case.place)


def _right_values(case: Case, double: Precision) -> Answer:
    native, noise = case.value(case.native)
    rows = zip(case.native.names, native, double.value(), noise, case.native.results, strict=True)
    yield from _as_in_double(case, "impl", "the values in float64", rows)


def _right_tangents(case: Case, double: Precision) -> Answer:
    precision, direction = case.native, case.directions("jvp")[0]
    (got, noise), (truth, _) = case.pushed(precision, direction), case.pushed(double, direction)
    names, likes = (
        [f"tangent of {name}" for name in precision.output_names],
        [precision.results[i] for i in precision.outputs],
    )
    # The terms of a tangent may cancel, and each is rounded by itself: two roundings of their size.
    terms = 2 / FEW * precision.eps * case.tangent_scale(precision, direction.tangents)
    rows = zip(names, got.tangent, truth.tangent, [n + terms for n in noise], likes, strict=True)
    yield from _as_in_double(case, "jvp", "the rule in float64", rows)


def _right_cotangents(case: Case, double: Precision) -> Answer:
    (got, noise), (truth, _) = case.pulled(case.native, 0), case.pulled(double, 0)
    rows = [
        (f"cotangent of {case.point.names[i]}", got.cotangent[i], truth.cotangent[i], noise[i], case.point.leaves[i])
        for i in case.wrt("vjp")
    ]
    yield from _as_in_double(case, "vjp", "the rule in float64", rows)


def _as_in_double(case: Case, rule: str, against: str, rows: Iterable[tuple[str, Array, Array, Array, Any]]) -> Answer:
    """Numbers against those in double precision: only what is grossly off, as a formula may be bad in a small dtype."""
    for name, got, truth, noise, leaf in rows:
        expected = case.fits(truth, leaf)
        judged = np.isfinite(got) & np.isfinite(expected)
        if not np.all(judged == np.isfinite(expected)):
            yield Note(f"{name}{case.place}: {int(np.sum(~np.isfinite(got)))} elements overflow on the way")
        yield case.evidence(rule, against, name, got, expected, _coarse(case, got, noise, leaf), judged)


def _coarse(case: Case, size: Array, noise: Array, leaf: Any) -> Tolerance:
    """A few roundings, and what is known to be uncertain: 32 roundings of bfloat16 would excuse a quarter."""
    if not epsilon(leaf):
        return compare.exact(size.shape)
    allowed = (GROSS + FEW * case.native.eps) * (np.abs(size) + peak(size) / 4) + FEW * (noise + case.native.tiny)
    return Tolerance(allowed, f"{GROSS:g} of the value, and {FEW:g} roundings of {case.native.eps:.1e}")


# ---------------------------------------------------------------------------------------------------------------- x64
def x64(case: Case) -> Answer:
    """Types and values of the same operands with 64-bit types switched the other way."""
    on = not jax.config.jax_enable_x64
    if any(leaf.dtype.itemsize >= (16 if leaf.dtype.kind == "c" else 8) for leaf in _arrays(case)):
        raise NotAsked("the example has 64-bit types itself")
    if any(map(is_key, case.point.leaves)):
        raise NotAsked("random numbers are others with 64-bit types")
    word = "on" if on else "off"
    values_here, noise = case.value(case.native)
    with jax.enable_x64(on):
        other = case.elsewhere(case.point.leaves, f"with jax_enable_x64 {word}")
        broken = other.failure()
        if broken is not None:
            raise broken
        yield from _placed(other, values.abstract_eval(other))
        found = other.native
        for name, here, there in zip(found.names, case.native.results, found.results, strict=True):
            if describe(here) != describe(there):
                yield Note(f"{name} is {describe(there)} with jax_enable_x64 {word}, and {describe(here)} otherwise")
        for name, got, expected, n in zip(found.names, found.value(), values_here, noise, strict=True):
            against = f"jax_enable_x64 {word}, against the values without"
            # Not `case.roughly`: it allows for what the implementation is off in the other setting.
            yield case.evidence("impl", against, name, got, expected, case.strictly(expected, n))


def _arrays(case: Case) -> list[Any]:
    return [leaf for leaf in case.point.leaves if not is_scalar(leaf) and not is_key(leaf)]


# ------------------------------------------------------------------------------------------------------------- shapes
def shapes(case: Case) -> Answer:
    """Types of the operation and its derivatives for operands without elements, and for single numbers.

    An operation need not take them; what it takes, it must not answer with another type.
    """
    ways = {"no elements": lambda leaf: leaf[:0], "single numbers": lambda leaf: leaf[(0,) * leaf.ndim]}
    if not any(leaf.ndim for leaf in _arrays(case)):
        raise NotAsked("no operand has axes")
    if any(0 in leaf.shape for leaf in _arrays(case)):
        raise NotAsked("the example has no elements itself")
    for place, cut in ways.items():
        smaller = case.elsewhere([_cut(leaf, cut) for leaf in case.point.leaves], place)
        for ask in (values.abstract_eval, modes.tangent_types):
            try:
                yield from _placed(smaller, ask(smaller))
            except RuleWrong:
                raise
            except Exception as error:  # noqa: BLE001 - whatever takes no such operands may say so in any way it likes
                yield Note(f"not asked of {place}: {first_line(error)}")
                break


def _cut(leaf: Any, cut: Callable[[Any], Any]) -> Any:
    return cut(leaf) if hasattr(leaf, "ndim") and leaf.ndim else leaf
