"""Do tangents and cotangents have the types of their primals?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim.checking.answers import Answer
from jaxprim.checking.case import Case
from jaxprim.checking.question import question
from jaxprim.checking.reports.findings import Evidence
from jaxprim.checking.values import has_tangents, is_key, is_scalar, wide


@question(
    "Does each tangent and cotangent have the type of its primal, or float0 for integers?",
    group="first order",
    speed="fast",
)
def tangent_types(case: Case) -> Answer:
    """Check the type of each tangent and cotangent: float0 for integers, booleans and keys, else the type of the primal."""
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
        yield _evidence(case, "jvp", f"tangent of {name}", tangent, result)
    if exact:
        pushed, noise = case.jvp(precision, case.directions("jvp")[0])
        for name, i, expected, n in zip(precision.output_names, precision.outputs, pushed.tangent, noise, strict=True):
            against = "float0 for the operands without tangents, against leaving them out"
            tolerance = case.closely(precision, expected, n)
            yield case.evidence("jvp", against, f"tangent of {name}", wide(found[i]), expected, tolerance)


def _cotangents(case: Case, wrt: tuple[int, ...]) -> Answer:
    precision, leaves = case.native, case.native.point.leaves
    every = tuple(sorted({*wrt, *_exact_leaves(case)}))
    _, found = precision.raw_vjp(leaves, every, precision.cast_out(case.cotangents(0)))
    for i, cotangent in zip(every, found, strict=True):
        yield _evidence(case, "vjp", f"cotangent of {case.point.names[i]}", cotangent, leaves[i])


def _evidence(case: Case, rule: str, name: str, got: Any, belongs_to: Any) -> Evidence:
    dtype = jnp.result_type(belongs_to) if not is_key(belongs_to) else None
    if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
        dtype = np.dtype(jax.dtypes.float0)
    expected = _type(np.shape(belongs_to), dtype)
    found = _type(np.shape(got), got.dtype if hasattr(got, "dtype") else jnp.result_type(got))
    against = f"the type of its primal{case.place}"
    return Evidence(rule, against, name, got=found, expected=expected, ok=found == expected)


def _type(shape: Sequence[int], dtype: Any) -> str:
    name = "float0" if dtype == jax.dtypes.float0 else str(dtype)
    return f"{name}[{','.join(map(str, shape))}]"
