"""Questions about unusual batches: of one or no member, of a batch, and along every choice of axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim._errors import RuleWrong
from jaxprim.checking.case import Case
from jaxprim.checking.questions.batching import Axes, Batch, patterns, values_against_loop
from jaxprim.checking.questions.usual import Transform, everywhere, modes
from jaxprim.checking.reports.report import Evidence
from jaxprim.checking.setting import Answer, NotAsked, Note
from jaxprim.checking.subject import first_line
from jaxprim.checking.values import has_tangents, is_scalar

# So many choices of axes are asked at most, all in one program. Of more, those of axes inside are left out first.
MOST = 32
WHAT = {"impl": "result", "jvp": "tangent", "vjp": "cotangent"}


def vmap_sizes(case: Case) -> Answer:
    """``vmap`` of value, JVP and VJP over a batch of one, against no batch; over a batch of none, their types."""
    axes = _all_in_front(case)
    yield from everywhere(case, {"vmap over a batch of one": lambda function: _of_size_one(function, axes)})
    for item in modes(case):
        if isinstance(item, Note):
            continue  # `everywhere` has told it
        rule, transform = item
        function = transform(case.native.flat)
        none = [_of_none(leaf) if a == 0 else leaf for leaf, a in zip(case.native.point.leaves, axes, strict=True)]
        try:
            found = jax.jit(jax.vmap(function, in_axes=axes))(*none)
        except RuleWrong:
            raise
        except Exception as error:  # noqa: BLE001 - whatever takes no empty batch may say so in any way it likes
            yield Note(f"{rule} is not asked of a batch of none: {first_line(error)}")
            continue
        expected = jax.eval_shape(function, *case.native.point.leaves)
        for k, (got, one) in enumerate(zip(found, expected, strict=True)):
            yield _type_of_none(rule, k, got, one)


def _all_in_front(case: Case) -> Axes:
    axes = tuple(None if is_scalar(leaf) else 0 for leaf in case.point.leaves)
    if all(axis is None for axis in axes):
        raise NotAsked("no operand is an array")
    return axes


def _of_size_one(function: Any, axes: Axes) -> Any:
    batched = jax.vmap(function, in_axes=axes)

    def call(*leaves: Any) -> list[Any]:
        some = [leaf if axis is None else jnp.expand_dims(leaf, 0) for leaf, axis in zip(leaves, axes, strict=True)]
        return [leaf[0] for leaf in batched(*some)]

    return call


def _of_none(leaf: Any) -> Any:
    return jnp.expand_dims(leaf, 0)[:0]


def _type_of_none(rule: str, position: int, got: Any, one: Any) -> Evidence:
    found, expected = f"{got.dtype}{list(got.shape)}", f"{one.dtype}{[0, *one.shape]}"
    leaf = f"{WHAT[rule]}[{position}]"
    against = "vmap over a batch of none: the type of a result, with an axis of size 0"
    return Evidence(rule, against, leaf, got=found, expected=expected, ok=found == expected)


def vmap_nested(case: Case) -> Answer:
    """``vmap`` of ``vmap`` of value, JVP and VJP, each over another axis, against no batch at every member."""
    axes = _all_in_front(case)
    places: dict[str, Transform] = {}
    for outer, inner in ((0, 0), (-1, 0), (0, -1)):
        places[f"vmap(in_axes={outer}) of vmap(in_axes={inner})"] = _nested(axes, outer, inner)
    arrays = [i for i, axis in enumerate(axes) if axis is not None]
    if len(arrays) > 1:
        first = tuple(0 if i == arrays[0] else None for i in range(len(axes)))
        others = tuple(0 if axis is not None and i != arrays[0] else None for i, axis in enumerate(axes))
        name = case.point.names[arrays[0]]
        places[f"vmap over {name} of vmap over the others"] = _levels(first, others)
        places[f"vmap over the others of vmap over {name}"] = _levels(others, first)
    yield from everywhere(case, places)


def _nested(axes: Axes, outer: int, inner: int) -> Transform:
    return _levels(
        tuple(None if axis is None else outer for axis in axes), tuple(None if axis is None else inner for axis in axes)
    )


# Members of the outer and of the inner batch. The last is the example, the others differ from it.
SIZES = (2, 3)
STEP = 2.0**-6


def _levels(outer: Axes, inner: Axes) -> Transform:
    """The function under two vmaps; the results of the last member, which has the operands of the example."""

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
    """The last of some members that are near it: a mixture of two axes takes another one."""
    if axis is None:
        return leaf
    last = jnp.asarray(leaf)
    others = [last * (1 + k * STEP) if has_tangents(leaf) else last for k in range(1, size)]
    return jnp.stack([*(other.astype(last.dtype) for other in others), last], axis=axis)


def vmap_patterns(case: Case) -> Answer:
    """``vmap`` of the implementation along every choice of axes, against a loop."""
    arrays = [i for i, axis in enumerate(_all_in_front(case)) if axis is not None]
    chosen = _every(case, arrays, inside=True) or _every(case, arrays, inside=False) or patterns(case)
    count = prod(np.ndim(case.point.leaves[i]) + 2 for i in arrays) - 1
    if len(chosen) < count:
        yield Note(f"{len(chosen)} of {count} choices of axes are asked")
    yield from values_against_loop([Batch(case, case.native, axes) for axes in chosen])


def _every(case: Case, arrays: Sequence[int], *, inside: bool) -> list[Axes]:
    """Each operand not batched, or along each of its axes, the last of which is -1; not all of them not batched.

    Without those inside, only along the first and the last. Empty if these are too many.
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
