"""Does vmap agree with a loop for every choice of axes?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

import numpy as np

from jaxprim.checking.answers import Answer, Note
from jaxprim.checking.batch import Axes, Batch, axes_in_front, patterns
from jaxprim.checking.case import Case
from jaxprim.checking.question import question
from jaxprim.checking.questions.vmap import values_against_loop

# At most this many choices of axes are tried, all in one program. If there are more, inner axes are left out first.
MOST = 32


@question("Does vmap give the same as a loop for every choice of axes?", group="batching")
def vmap_patterns(case: Case) -> Answer:
    """Compare ``vmap`` of the implementation along every choice of axes with a loop."""
    arrays = [i for i, axis in enumerate(axes_in_front(case)) if axis is not None]
    chosen = _every_choice(case, arrays, inside=True) or _every_choice(case, arrays, inside=False) or patterns(case)
    count = prod(np.ndim(case.point.leaves[i]) + 2 for i in arrays) - 1
    if len(chosen) < count:
        yield Note(f"{len(chosen)} of {count} choices of axes are tried")
    yield from values_against_loop([Batch(case, case.native, axes) for axes in chosen])


def _every_choice(case: Case, arrays: Sequence[int], *, inside: bool) -> list[Axes]:
    """Every choice in which each operand is unbatched or batched along one of its axes, and at least one is batched.

    The last axis is -1. Without ``inside``, only the first and last axes are used. Empty if there are too many choices.
    """
    choices = [_axes(np.ndim(case.point.leaves[i]), inside=inside) for i in arrays]
    if prod(map(len, choices)) > MOST:
        return []
    found: list[Axes] = []
    for some in product(*choices):
        given = dict(zip(arrays, some, strict=True))
        if any(axis is not None for axis in some):
            found.append(tuple(given.get(i) for i in range(len(case.point.leaves))))
    return found


def _axes(ndim: int, *, inside: bool) -> Axes:
    return (None, 0, *(range(1, ndim) if inside else ()), *((-1,) if ndim else ()))
