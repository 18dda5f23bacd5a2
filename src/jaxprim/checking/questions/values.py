"""Questions about values: one operation, however it is evaluated, gives one answer of the type that it declares."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np

from jaxprim._rules import rules_of
from jaxprim.checking import compare
from jaxprim.checking.case import Case
from jaxprim.checking.questions.usual import modes, same
from jaxprim.checking.reports.report import Evidence
from jaxprim.checking.setting import Answer, NotAsked, Note
from jaxprim.checking.values import describe, is_key, is_scalar, leaf_names, wide


def abstract_eval(case: Case) -> Answer:
    """Tree, shape, dtype and weak type of what abstract eval promises, against what the implementation returns."""
    precision, point = case.native, case.point
    shapes = jax.eval_shape(
        lambda *operands: case.subject.call(*operands, **point.params), *point.tree.unflatten(point.leaves)
    )
    promised, tree = jax.tree_util.tree_flatten(shapes)
    if tree != precision.result_tree:
        yield _type_evidence("result", str(tree), str(precision.result_tree))
        return
    rows = zip(leaf_names(["result"], [shapes]), promised, precision.results, _weak_types(case), strict=True)
    for name, aval, leaf, weak in rows:
        yield _type_evidence(name, _type(aval, aval.weak_type), _type(leaf, weak))


def _weak_types(case: Case) -> list[bool]:
    """Whether the implementation itself gives weakly typed results; a primitive's have the type that it promised."""
    primitive, point = case.subject.primitive, case.point
    own = [bool(getattr(leaf, "weak_type", False)) for leaf in case.native.results]
    if primitive is None or not rules_of(primitive).has("abstract_eval"):
        return own
    impl = rules_of(primitive).given.get("impl")
    if impl is not None:
        shapes = jax.eval_shape(partial(impl.author, **point.params), *point.tree.unflatten(point.leaves))
        return [leaf.weak_type for leaf in jax.tree_util.tree_leaves(shapes)]
    # What a kernel writes is an array. Beside a weakly typed operand either promise makes sense.
    weak = any(is_scalar(leaf) or leaf.weak_type for leaf in point.leaves)
    return own if weak else [False] * len(own)


def _type(leaf: Any, weak: bool) -> str:
    return describe(leaf) + (" (weakly typed)" if weak else "")


def _type_evidence(leaf: str, got: str, expected: str) -> Evidence:
    against = "the type that the implementation returns"
    return Evidence("abstract eval", against, leaf, got=got, expected=expected, ok=got == expected)


def jit(case: Case) -> Answer:
    """The implementation and both rules under ``jax.jit``, against the same called eagerly."""
    precision, leaves = case.native, case.native.point.leaves
    found = jax.jit(precision.flat)(*leaves)
    values, noise = case.value(precision)
    for name, got, expected, n in zip(precision.names, map(wide, found), values, noise, strict=True):
        yield case.evidence("impl", "jit against eager", name, got, expected, case.roughly(precision, expected, n))
    for rule in (_jit_jvp, _jit_vjp):
        try:
            yield from rule(case)
        except NotAsked as error:
            yield Note(f"asked of the implementation alone: {error}")


def _jit_jvp(case: Case) -> Answer:
    precision, direction = case.native, case.directions("jvp")[0]
    _, found = jax.jit(precision.raw_jvp)(precision.point.leaves, precision.cast(direction.tangents))
    pushed, noise = case.pushed(precision, direction)
    for name, i, expected, n in zip(precision.output_names, precision.outputs, pushed.tangent, noise, strict=True):
        tolerance = case.roughly(precision, expected, n)
        yield case.evidence("jvp", "jit against eager", f"tangent of {name}", wide(found[i]), expected, tolerance)


def _jit_vjp(case: Case) -> Answer:
    precision, wrt = case.native, case.wrt("vjp")
    pulled, noise = case.pulled(precision, 0)
    _, found = jax.jit(lambda leaves, cts: precision.raw_vjp(leaves, wrt, cts))(
        precision.point.leaves, precision.cast_out(case.cotangents(0))
    )
    for i, got in zip(wrt, map(wide, found), strict=True):
        expected = pulled.cotangent[i]
        name = f"cotangent of {case.point.names[i]}"
        yield case.evidence(
            "vjp", "jit against eager", name, got, expected, case.roughly(precision, expected, noise[i])
        )


def primal(case: Case) -> Answer:
    """The primal output that each rule returns beside the derivative, against the implementation."""
    for mode in (yield from case.rules()):
        yield from _primal(case, mode)


def _primal(case: Case, mode: str) -> Answer:
    for precision in case.precisions(mode):
        values, noise = case.value(precision)
        found = (case.pushed(precision, case.directions(mode)[0]) if mode == "jvp" else case.pulled(precision, 0))[
            0
        ].primal
        for name, got, expected, n in zip(precision.names, found, values, noise, strict=True):
            against = f"its primal output against the implementation ({precision.label})"
            yield case.evidence(mode, against, name, got, expected, case.roughly(precision, expected, n))


def disable_jit(case: Case) -> Answer:
    """The implementation and both rules under ``jax.disable_jit()``, against the same as usual."""
    for item in modes(case):
        if isinstance(item, Note):
            yield item
            continue
        rule, transform = item
        with jax.disable_jit():
            found = transform(case.native.flat)(*case.native.point.leaves)
        yield from same(case, rule, "jit disabled, against jit as usual", found)


def reference(case: Case) -> Answer:
    """The implementation against another function of the same operands, which is believed."""
    truth = [wide(leaf) for leaf in believed(case)]
    for precision in case.precisions():
        values, noise = case.value(precision)
        if len(truth) != len(values):
            message = f"{len(values)} results, and the reference gives {len(truth)}"
            yield Evidence("impl", "the reference", "result", message=message, ok=False)
            return
        for name, got, expected, n, leaf in zip(precision.names, values, truth, noise, precision.results, strict=True):
            tolerance = case.roughly(precision, expected, n) + compare.relative(expected, precision.eps)
            yield case.evidence(
                "impl", f"the reference ({precision.label})", name, got, case.fits(expected, leaf), tolerance
            )


def believed(case: Case) -> list[Any]:
    """The leaves of what the reference gives at the very numbers of the example, in double precision.

    A function of numbers alone, such as one of mpmath, is applied to each element.
    """
    point, function = case.point, case.subject.reference
    if function is None:
        raise NotAsked("no reference is given")
    operands = point.tree.unflatten([leaf if is_key(leaf) or is_scalar(leaf) else wide(leaf) for leaf in point.leaves])
    with jax.enable_x64(True):
        try:
            found = function(*operands, **point.params)
        except TypeError:
            found = np.vectorize(partial(function, **point.params), otypes=[object])(*operands)
        return [_number(leaf) for leaf in jax.tree_util.tree_leaves(found)]


def _number(leaf: Any) -> Any:
    """An array of numbers that NumPy knows; those of mpmath are objects to it."""
    if is_key(leaf) or np.asarray(leaf).dtype != object:
        return leaf
    numbers = np.asarray(leaf)
    return numbers.astype(complex if any(complex(x).imag for x in numbers.ravel()) else float)
