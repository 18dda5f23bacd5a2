"""Does vmap of vmap give the same as a call on one element?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxprim.checking.against_plain_call import compare_in
from jaxprim.checking.answers import Answer
from jaxprim.checking.batch import Axes, axes_in_front
from jaxprim.checking.case import Case
from jaxprim.checking.contexts import Transform
from jaxprim.checking.question import question
from jaxprim.checking.values import has_tangents

# Members of the outer and of the inner batch. The last member is the example. The k-th other one differs by k/64 of itself:
# at least two spacings of bfloat16 (2^-7), so that it differs in any dtype.
SIZES = (2, 3)
STEP = 2.0**-6


@question(
    "Does vmap of vmap, each over a different axis, give the same as a call on one element?",
    group="batching",
    speed="thorough",
)
def vmap_nested(case: Case) -> Answer:
    """Compare value, JVP and VJP under ``vmap`` of ``vmap``, over different axes, with a plain call."""
    axes = axes_in_front(case)
    places: dict[str, Transform] = {}
    for outer, inner in ((0, 0), (-1, 0), (0, -1)):
        places[f"vmap(in_axes={outer}) of vmap(in_axes={inner})"] = _vmap_of_vmap(axes, outer, inner)
    arrays = [i for i, axis in enumerate(axes) if axis is not None]
    if len(arrays) > 1:
        first = tuple(0 if i == arrays[0] else None for i in range(len(axes)))
        others = tuple(0 if axis is not None and i != arrays[0] else None for i, axis in enumerate(axes))
        name = case.point.names[arrays[0]]
        places[f"vmap over {name} of vmap over the others"] = _levels(first, others)
        places[f"vmap over the others of vmap over {name}"] = _levels(others, first)
    yield from compare_in(case, places)


def _vmap_of_vmap(axes: Axes, outer: int, inner: int) -> Transform:
    return _levels(
        tuple(None if axis is None else outer for axis in axes), tuple(None if axis is None else inner for axis in axes)
    )


def _levels(outer: Axes, inner: Axes) -> Transform:
    """The function under two vmaps; returns the results of the last member, which is the example."""

    def transform(function: Callable[..., Sequence[Any]]) -> Callable[..., Sequence[Any]]:
        both = jax.vmap(jax.vmap(lambda *leaves: list(function(*leaves)), inner), outer)

        def call(*leaves: Any) -> list[Any]:
            some = [
                _among_others(_among_others(leaf, i, SIZES[1]), o, SIZES[0])
                for leaf, o, i in zip(leaves, outer, inner, strict=True)
            ]
            return [leaf[-1, -1] for leaf in both(*some)]

        return call

    return transform


def _among_others(leaf: Any, axis: int | None, size: int) -> Any:
    """A batch of nearby members with the leaf last. If axes are mixed up, another member is found."""
    if axis is None:
        return leaf
    last = jnp.asarray(leaf)
    others = [last * (1 + k * STEP) if has_tangents(leaf) else last for k in range(1, size)]
    return jnp.stack([*(other.astype(last.dtype) for other in others), last], axis=axis)
