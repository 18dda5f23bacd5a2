"""Several points as one batch: the axes, the members, and how tangents and cotangents are stacked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxprim.checking import probes
from jaxprim.checking.answers import NotAsked
from jaxprim.checking.case import Case
from jaxprim.checking.precision import Precision
from jaxprim.checking.values import Array, is_key, is_scalar, to_jax

# One axis, or None, for each operand leaf.
Axes = tuple[int | None, ...]
# With many operands, only this many are batched one at a time.
ALONE = 3
# The distance of members from the example, relative to each element. 1 % stays in the domain and on the same branch. In a
# small dtype, 64 spacings make the members differ. It is never more than half.
SPREAD = 0.01
SPACINGS = 64
LARGEST_SPREAD = 0.5


def patterns(case: Case) -> list[Axes]:
    """Choices of axes: all operands in front, all at the end, one operand at a time, and one mixture."""
    leaves = case.native.point.leaves
    arrays = [i for i, leaf in enumerate(leaves) if not is_scalar(leaf)]
    front = dict.fromkeys(arrays, 0)
    back = {i: -1 if np.ndim(leaves[i]) else 0 for i in arrays}
    some = arrays if len(arrays) <= ALONE else sorted(case.rng("patterns").choice(arrays, ALONE, replace=False))
    alone = [{i: 0} for i in some]
    mixed = {i: back[i] if i % 2 == 0 else front[i] for i in arrays}
    found = [tuple(axes.get(i) for i in range(len(leaves))) for axes in (front, back, *alone, mixed)]
    return list(dict.fromkeys(axes for axes in found if any(axis is not None for axis in axes)))


@dataclass(frozen=True)
class Batch:
    """Several points stacked along the axes of one pattern, in one precision."""

    case: Case
    precision: Precision
    axes: Axes

    @cached_property
    def size(self) -> int:
        """Different from every dimension of the operands, so mixing up two axes shows."""
        taken = {n for leaf in self.case.native.point.leaves for n in np.shape(leaf)}
        return next(n for n in (3, 2, 4, 5, 6, 7, 8, *range(9, 99)) if n not in taken)

    @cached_property
    def members(self) -> list[list[Any]]:
        """The operands of each member: the example itself, and points near it. All members share unbatched operands.

        Integers are those of the example, because other indices may be out of range, or all from another example.
        """
        spread = min(LARGEST_SPREAD, max(SPREAD, SPACINGS * self.precision.eps))
        rows: list[list[Any]] = [list(self.precision.point.leaves)]
        integers = [rows[0], *self._other_integers]
        for member in range(1, self.size):
            rng = self.case.rng("member", member)
            with self.precision.in_effect():
                near = [probes.nearby(rng, leaf, spread) for leaf in rows[0]]
            for i in self.precision.point.integers:
                near[i] = integers[member % len(integers)][i]
            rows.append([n if a is not None else leaf for n, leaf, a in zip(near, rows[0], self.axes, strict=True)])
        return rows

    @property
    def _other_integers(self) -> list[Sequence[Any]]:
        """The leaves of other examples that have the same unbatched integers as this one."""
        point = self.precision.point
        same = [i for i in point.integers if self.axes[i] is None]
        return [
            other.leaves
            for other in self.case.others
            if all(np.array_equal(other.leaves[i], point.leaves[i]) for i in same)
        ]

    @cached_property
    def stacked(self) -> list[Any]:
        """The operands as ``vmap`` takes them."""
        with self.precision.in_effect():
            return [_stack([row[i] for row in self.members], axis) for i, axis in enumerate(self.axes)]

    def tangents(self, wrt: Sequence[int], member: int) -> dict[int, Array]:
        """The tangents of one member; all members share the tangent of an unbatched operand."""
        return {i: self.case.relative(i, probes.MEMBERS + (member if self.axes[i] is not None else 0)) for i in wrt}

    def cotangents(self, member: int) -> list[Array]:
        """The cotangents of one member."""
        return self.case.cotangents(probes.MEMBERS + member)

    @property
    def label(self) -> str:
        """The pattern as an ``in_axes`` argument."""
        pairs = zip(self.case.point.names, self.axes, strict=True)
        return "in_axes " + ", ".join(f"{name}={axis}" for name, axis in pairs) + in_precision(self.precision)


def _stack(rows: Sequence[Any], axis: int | None) -> Any:
    if axis is None:
        return rows[0]
    if any(map(is_key, rows)):
        return jnp.stack(rows, axis=axis)
    return to_jax(np.stack([_array(row) for row in rows], axis))  # in NumPy, as JAX would compile this


def _array(row: Any) -> Array:
    """The numbers of an operand; those of a Python number in the dtype that JAX gives it."""
    return np.asarray(row, jnp.result_type(row))


def stack_tangents(batch: Batch, each: Sequence[dict[int, Array]]) -> dict[int, Any]:
    """The tangents of all members, stacked along the axes of the operands, as ``vmap`` takes them."""
    leaves = batch.precision.point.leaves
    with batch.precision.in_effect():
        return {i: _stack_numbers([t[i] for t in each], batch.axes[i], leaves[i]) for i in each[0]}


def stack_cotangents(precision: Precision, each: Sequence[list[Array]]) -> list[Any]:
    """The cotangents of all members for each differentiable result, stacked in front."""
    with precision.in_effect():
        return [
            _stack_numbers(rows, 0, precision.results[i])
            for i, rows in zip(precision.outputs, zip(*each, strict=True), strict=True)
        ]


def _stack_numbers(rows: Sequence[Array], axis: int | None, like: Any) -> Any:
    if axis is None:
        return jnp.asarray(type(like)(rows[0])) if is_scalar(like) else to_jax(rows[0].astype(like.dtype))
    return to_jax(np.stack(rows, axis).astype(jnp.result_type(like)))


def batches_of(case: Case, precision: Precision) -> list[Batch]:
    """A batch for each pattern, made once; raises NotAsked if there is nothing to batch."""
    if not case.point.leaves or all(is_scalar(leaf) for leaf in case.point.leaves):
        raise NotAsked("no operand is an array")
    return case.once(("batches", precision.double), lambda: [Batch(case, precision, axes) for axes in patterns(case)])


def in_precision(precision: Precision) -> str:
    """The label of evidence in float64; evidence in the example's own dtypes has none."""
    return f" ({precision.label})" if precision.double else ""


def axes_in_front(case: Case) -> Axes:
    """All arrays batched along the first axis; raises NotAsked if there is none."""
    axes = tuple(None if is_scalar(leaf) else 0 for leaf in case.point.leaves)
    if all(axis is None for axis in axes):
        raise NotAsked("no operand is an array")
    return axes
