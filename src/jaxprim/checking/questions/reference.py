"""Does the implementation agree with a function that is known to be right?"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np

from jaxprim.checking import tolerances
from jaxprim.checking.answers import Answer, NotAsked
from jaxprim.checking.case import Case
from jaxprim.checking.question import question
from jaxprim.checking.reports.findings import Evidence
from jaxprim.checking.values import is_key, is_scalar, wide


@question("Does the implementation agree with the reference?", group="values", speed="fast")
def reference(case: Case) -> Answer:
    """Compare the implementation with the reference at the same operands."""
    truth = [wide(leaf) for leaf in reference_values(case)]
    for precision in case.precisions():
        values, noise = case.value(precision)
        if len(truth) != len(values):
            message = f"{len(values)} results, but the reference gives {len(truth)}"
            yield Evidence("impl", "the reference", "result", message=message, ok=False)
            return
        for name, got, expected, n, leaf in zip(precision.names, values, truth, noise, precision.results, strict=True):
            tolerance = case.roughly(precision, expected, n) + tolerances.relative(expected, precision.eps)
            yield case.evidence(
                "impl", f"the reference ({precision.label})", name, got, case.round_to(expected, leaf), tolerance
            )


def reference_values(case: Case) -> list[Any]:
    """The result leaves of the reference at the example's numbers, in double precision.

    A function of only numbers, such as one of mpmath, is applied to each element.
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
        return [_as_numbers(leaf) for leaf in jax.tree_util.tree_leaves(found)]


def _as_numbers(leaf: Any) -> Any:
    """An array of NumPy numbers. NumPy sees mpmath numbers as objects."""
    if is_key(leaf) or np.asarray(leaf).dtype != object:
        return leaf
    numbers = np.asarray(leaf)
    return numbers.astype(complex if any(complex(x).imag for x in numbers.ravel()) else float)
