"""Does abstract eval promise the types that the implementation returns?"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax

from jaxprim.checking.answers import Answer
from jaxprim.checking.case import Case
from jaxprim.checking.question import question
from jaxprim.checking.reports.findings import Evidence
from jaxprim.checking.values import describe, is_scalar, leaf_names


@question(
    "Does abstract eval promise the tree, shape, dtype and weak type that the implementation returns?",
    group="values",
    speed="fast",
)
def abstract_eval(case: Case) -> Answer:
    """Compare tree, shape, dtype and weak type from abstract eval with those of the results."""
    precision, point = case.native, case.point
    shapes = jax.eval_shape(
        lambda *operands: case.subject.call(*operands, **point.params), *point.tree.unflatten(point.leaves)
    )
    promised, tree = jax.tree_util.tree_flatten(shapes)
    if tree != precision.result_tree:
        yield _evidence(case, "result", str(tree), str(precision.result_tree))
        return
    rows = zip(leaf_names(["result"], [shapes]), promised, precision.results, _weak_types(case), strict=True)
    for name, aval, leaf, weak in rows:
        yield _evidence(case, name, _type(aval, aval.weak_type), _type(leaf, weak))


def _weak_types(case: Case) -> list[bool]:
    """Whether the implementation itself gives weak types. (The results of a primitive have the promised type.)"""
    subject, point = case.subject, case.point
    own = [bool(getattr(leaf, "weak_type", False)) for leaf in case.native.results]
    if not subject.is_given("abstract_eval"):
        return own
    if subject.impl is not None:
        shapes = jax.eval_shape(partial(subject.impl, **point.params), *point.tree.unflatten(point.leaves))
        return [leaf.weak_type for leaf in jax.tree_util.tree_leaves(shapes)]
    # A kernel writes arrays. With a weakly typed operand, both promises make sense.
    weak = any(is_scalar(leaf) or leaf.weak_type for leaf in point.leaves)
    return own if weak else [False] * len(own)


def _type(leaf: Any, weak: bool) -> str:
    return describe(leaf) + (" (weakly typed)" if weak else "")


def _evidence(case: Case, leaf: str, got: str, expected: str) -> Evidence:
    against = f"the type that the implementation returns{case.place}"
    return Evidence("abstract eval", against, leaf, got=got, expected=expected, ok=got == expected)
