"""Does vmap work for batches of size one and zero?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim._errors import RuleWrong
from jaxprim.checking import contexts
from jaxprim.checking.against_plain_call import compare_in, derivatives_of
from jaxprim.checking.answers import Answer, Note, Refusal, attempt
from jaxprim.checking.batch import Axes, axes_in_front
from jaxprim.checking.case import Case
from jaxprim.checking.contexts import Flat
from jaxprim.checking.programs import jit_once
from jaxprim.checking.question import question
from jaxprim.checking.reports.findings import Evidence
from jaxprim.checking.values import is_key, to_jax

WHAT = {"impl": "result", "jvp": "tangent", "vjp": "cotangent"}


@question("Does vmap work for batches of size one and zero?", group="batching")
def vmap_sizes(case: Case) -> Answer:
    """Compare value, JVP and VJP for a batch of size one with no batch, and the types for size zero."""
    axes = axes_in_front(case)
    yield from compare_in(case, {"vmap over a batch of one": partial(contexts.vmap, axes=axes)})
    functions = dict(item for item in derivatives_of(case) if not isinstance(item, Note))  # `compare_in` yielded notes
    functions = {rule: transform(case.native.flat) for rule, transform in functions.items()}
    for rule, found in _of_no_members(case, functions, axes):
        if isinstance(found, Refusal):
            yield Note(f"{rule} is not evaluated for an empty batch: {found.why}")
            continue
        expected = jax.eval_shape(functions[rule], *case.native.point.leaves)
        for k, (got, one) in enumerate(zip(found, expected, strict=True)):
            yield _type_of_none(rule, k, got, one)


def _of_no_members(case: Case, functions: Mapping[str, Flat], axes: Axes) -> Iterator[tuple[str, Any]]:
    """The results of each function for an empty batch, or its refusal; all in one program, if none refuses."""
    none = [_of_none(leaf) if a == 0 else leaf for leaf, a in zip(case.native.point.leaves, axes, strict=True)]
    batched = {rule: jax.vmap(function, in_axes=axes) for rule, function in functions.items()}
    found = attempt(partial(jit_once(lambda *leaves: [f(*leaves) for f in batched.values()]), *none))
    if not isinstance(found, Refusal):
        yield from zip(batched, found, strict=True)
        return
    for rule, function in batched.items():
        yield rule, attempt(partial(jax.jit(function), *none), faults=(RuleWrong,))


def _of_none(leaf: Any) -> Any:
    if is_key(leaf):
        return jnp.expand_dims(leaf, 0)[:0]
    return to_jax(np.zeros((0, *np.shape(leaf)), jnp.result_type(leaf)))


def _type_of_none(rule: str, position: int, got: Any, one: Any) -> Evidence:
    found, expected = f"{got.dtype}{list(got.shape)}", f"{one.dtype}{[0, *one.shape]}"
    leaf = f"{WHAT[rule]}[{position}]"
    against = "vmap over an empty batch: the type of the result, with an axis of size 0"
    return Evidence(rule, against, leaf, got=found, expected=expected, ok=found == expected)
