"""Questions about how a derivative is asked for: by ``linearize``, in complex directions, and in which types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim.checking import compare
from jaxprim.checking.case import Case
from jaxprim.checking.questions.first_order import CANNOT_TELL
from jaxprim.checking.reports.report import Evidence
from jaxprim.checking.setting import Answer, Direction, NotAsked, Note
from jaxprim.checking.values import has_tangents, is_key, is_scalar, wide

# Two derivatives in complex directions that differ by more than this of their size are not i times each other.
HOLOMORPHIC = 1e-3


def linearize(case: Case) -> Answer:
    """``jax.linearize``: its value against the implementation, and its linear function against ``jax.jvp``."""
    wrt, precision = case.wrt("jvp"), case.native
    results, linear = jax.linearize(
        precision.of(precision.point.leaves, wrt), *[precision.point.leaves[i] for i in wrt]
    )
    values, noise = case.value(precision)
    for name, got, expected, n in zip(precision.names, map(wide, results), values, noise, strict=True):
        against = "the value that linearize gives, against the implementation"
        yield case.evidence("jvp", against, name, got, expected, case.roughly(precision, expected, n))
    for direction in case.directions("jvp")[:2]:
        found = linear(*precision.cast(direction.tangents).values())
        pushed, noise = case.pushed(precision, direction)
        for name, i, expected, n in zip(precision.output_names, precision.outputs, pushed.tangent, noise, strict=True):
            tolerance, against = case.roughly(precision, expected, n), f"linearize against jvp along {direction.label}"
            yield case.evidence("jvp", against, f"tangent of {name}", wide(found[i]), expected, tolerance)


def holomorphic(case: Case) -> Answer:
    """The JVP along t and along i t against differences, and whether one is i times the other."""
    wrt = [i for i in case.wrt("jvp") if np.iscomplexobj(wide(case.point.leaves[i]))]
    outputs = [k for k, i in enumerate(case.native.outputs) if np.iscomplexobj(wide(case.native.results[i]))]
    if not wrt or not outputs:
        raise NotAsked("it does not map complex numbers to complex numbers")
    base = {i: case.relative(i, 30) for i in wrt}
    turned = {i: 1j * t for i, t in base.items()}
    rows = [case.differentiate(tangents) for tangents in (base, turned)]
    judged = [rows[0][k].judged & rows[1][k].judged for k in outputs]
    if not any(map(np.any, judged)):
        raise NotAsked(CANNOT_TELL)
    for label, tangents, row in (("a tangent", base, rows[0]), ("i times that tangent", turned, rows[1])):
        yield from _complex_direction(case, Direction(f"{label}", tangents), row, outputs)
    yield Note(_kind(rows, outputs, judged))


def _complex_direction(case: Case, direction: Direction, row: Sequence[Any], outputs: Sequence[int]) -> Answer:
    for precision in case.precisions("jvp"):
        pushed, noise = case.pushed(precision, direction)
        scale = case.tangent_scale(precision, direction.tangents)
        for k in outputs:
            d, name = row[k], precision.output_names[k]
            own = compare.rounding(np.abs(d.value) + scale, case.working_eps(precision), precision.tiny, noise[k])
            tolerance = compare.differences(np.abs(d.value) + scale, d.error, case.truth.eps) + own
            against = f"differences along {direction.label} ({precision.label})"
            yield case.evidence("jvp", against, f"tangent of {name}", pushed.tangent[k], d.value, tolerance, d.judged)


def _kind(rows: Sequence[Sequence[Any]], outputs: Sequence[int], judged: Sequence[Any]) -> str:
    for k, mask in zip(outputs, judged, strict=True):
        one, two = rows[0][k].value[mask], rows[1][k].value[mask]
        if np.any(np.abs(two - 1j * one) > HOLOMORPHIC * (np.abs(one) + np.abs(two))):
            return "not holomorphic here: its derivative depends on the conjugate, so that jax.grad(holomorphic=True) is wrong"
    return "holomorphic here: the derivative along i t is i times that along t"


def tangent_types(case: Case) -> Answer:
    """The type of each tangent and cotangent: float0 for integers, booleans and keys, else that of the number itself."""
    ask = {"jvp": _tangents, "vjp": _cotangents}
    for mode in (yield from case.rules()):
        yield from ask[mode](case, case.wrt(mode))


def _exact_leaves(case: Case) -> tuple[int, ...]:
    """The operands that have no tangents, such as indices: JAX may hand each of them a float0."""
    leaves = case.point.leaves
    return tuple(i for i, leaf in enumerate(leaves) if not is_scalar(leaf) and not has_tangents(leaf))


def _tangents(case: Case, wrt: tuple[int, ...]) -> Answer:
    precision, leaves = case.native, case.native.point.leaves
    tangents = precision.cast(case.directions("jvp")[0].tangents)
    exact = {i: np.zeros(np.shape(leaves[i]), jax.dtypes.float0) for i in _exact_leaves(case)}
    results, found = precision.raw_jvp(leaves, tangents | exact)
    for name, result, tangent in zip(precision.names, results, found, strict=True):
        yield _typed("jvp", f"tangent of {name}", tangent, result)
    if exact:
        pushed, noise = case.pushed(precision, case.directions("jvp")[0])
        for name, i, expected, n in zip(precision.output_names, precision.outputs, pushed.tangent, noise, strict=True):
            against = "float0 for the operands without tangents, against leaving them out"
            tolerance = case.closely(precision, expected, n)
            yield case.evidence("jvp", against, f"tangent of {name}", wide(found[i]), expected, tolerance)


def _cotangents(case: Case, wrt: tuple[int, ...]) -> Answer:
    precision, leaves = case.native, case.native.point.leaves
    every = tuple(sorted({*wrt, *_exact_leaves(case)}))
    _, found = precision.raw_vjp(leaves, every, precision.cast_out(case.cotangents(0)))
    for i, cotangent in zip(every, found, strict=True):
        yield _typed("vjp", f"cotangent of {case.point.names[i]}", cotangent, leaves[i])


def _typed(rule: str, name: str, got: Any, belongs_to: Any) -> Evidence:
    dtype = jnp.result_type(belongs_to) if not is_key(belongs_to) else None
    if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
        dtype = np.dtype(jax.dtypes.float0)
    expected = _words(np.shape(belongs_to), dtype)
    found = _words(np.shape(got), got.dtype if hasattr(got, "dtype") else jnp.result_type(got))
    return Evidence(rule, "the type of what it belongs to", name, got=found, expected=expected, ok=found == expected)


def _words(shape: Sequence[int], dtype: Any) -> str:
    name = "float0" if dtype == jax.dtypes.float0 else str(dtype)
    return f"{name}[{','.join(map(str, shape))}]"
