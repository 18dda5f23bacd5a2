"""Questions about vmap: one batched evaluation = a Python loop over the batch, for the implementation and both rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim.checking import probes
from jaxprim.checking.case import Case
from jaxprim.checking.setting import Answer, NotAskedError
from jaxprim.checking.values import Array, is_scalar, wide

# One axis, or None, for each operand leaf.
Axes = tuple[int | None, ...]


def patterns(case: Case) -> list[Axes]:
    """Which operands are batched, and along which axis: all in front, all at the end, each alone, and one mixture."""
    leaves = case.native.point.leaves
    can = [not is_scalar(leaf) for leaf in leaves]
    front = tuple(0 if c else None for c in can)
    back = tuple(-1 if c and np.ndim(leaf) else f for c, f, leaf in zip(can, front, leaves, strict=True))
    found = [front, back]
    batched = [i for i, c in enumerate(can) if c]
    chosen = batched if len(batched) <= 3 else sorted(case.rng("patterns").choice(batched, 3, replace=False))
    found += [tuple(0 if k == i else None for k in range(len(leaves))) for i in chosen]
    found += [tuple((back, front)[k % 2][k] for k in range(len(leaves)))]
    return list(dict.fromkeys(axes for axes in found if any(axis is not None for axis in axes)))


@dataclass(frozen=True)
class Batch:
    """Several points stacked along the axes of one pattern."""

    case: Case
    axes: Axes

    @cached_property
    def size(self) -> int:
        """Unlike every dimension of the operands, so that mixing up two axes shows."""
        taken = {n for leaf in self.case.native.point.leaves for n in np.shape(leaf)}
        return next(n for n in (3, 2, 4, 5, 6, 7, 8, *range(9, 99)) if n not in taken)

    @cached_property
    def members(self) -> list[list[Any]]:
        """The operands of each member: the example itself, and points near it. What is not batched is the same."""
        view = self.case.native
        spread = min(0.5, max(0.01, 64 * view.eps))
        rows: list[list[Any]] = [list(view.point.leaves)]
        for member in range(1, self.size):
            rng = self.case.rng("member", member)
            near = [probes.nearby(rng, leaf, spread) for leaf in view.point.leaves]
            rows.append([n if a is not None else leaf for n, leaf, a in zip(near, rows[0], self.axes, strict=True)])
        return rows

    @cached_property
    def stacked(self) -> list[Any]:
        """The operands as ``vmap`` takes them."""
        return [_stack([row[i] for row in self.members], axis) for i, axis in enumerate(self.axes)]

    def tangents(self, wrt: Sequence[int], member: int) -> dict[int, Array]:
        """A tangent for each member; the tangent of an operand that is not batched is the same for all."""
        return {i: self.case.relative(i, 10 + (member if self.axes[i] is not None else 0)) for i in wrt}

    def cotangents(self, member: int) -> list[Array]:
        """A cotangent for each member."""
        return self.case.cotangents(10 + member)

    @property
    def label(self) -> str:
        """The pattern as a reader would write it."""
        pairs = zip(self.case.point.names, self.axes, strict=True)
        return "in_axes " + ", ".join(f"{name}={axis}" for name, axis in pairs)


def _stack(rows: Sequence[Any], axis: int | None) -> Any:
    return rows[0] if axis is None else jnp.stack([jnp.asarray(row) for row in rows], axis=axis)


def _stack_numbers(rows: Sequence[Array], axis: int | None, like: Any) -> Any:
    if axis is None:
        return type(like)(rows[0]) if is_scalar(like) else jnp.asarray(rows[0].astype(like.dtype))
    return jnp.asarray(np.stack(rows, axis).astype(like.dtype))


def _batches(case: Case) -> list[Batch]:
    if not case.point.leaves or all(is_scalar(leaf) for leaf in case.point.leaves):
        raise NotAskedError("no operand is an array")
    return case.once("batches", lambda: [Batch(case, axes) for axes in patterns(case)])


def vmap(case: Case) -> Answer:
    """``jax.vmap`` of the implementation against a loop over it."""
    view, (_, noise) = case.native, case.value(case.native)
    for batch in _batches(case):
        found = jax.vmap(view.flat, in_axes=batch.axes)(*batch.stacked)
        rows = [view.value(member) for member in batch.members]
        for k, name in enumerate(view.names):
            expected = np.stack([row[k] for row in rows])
            tolerance = case.closely(view, expected, noise[k])
            yield case.evidence(
                "impl", f"vmap against a loop, {batch.label}", name, wide(found[k]), expected, tolerance
            )


def vmap_jvp(case: Case) -> Answer:
    """``vmap`` of the JVP, and the JVP of ``vmap``, against a loop over the JVP."""
    wrt, view = case.wrt("jvp"), case.native
    _, noise = case.pushed(view, case.directions("jvp")[0])
    for batch in _batches(case):
        tangents = [batch.tangents(wrt, member) for member in range(batch.size)]
        rows = [view.jvp(t, leaves).tangent for t, leaves in zip(tangents, batch.members, strict=True)]
        expected = [np.stack([row[k] for row in rows]) for k in range(len(view.outputs))]
        for against, found in _vmapped_jvps(case, batch, tangents):
            for k, name in enumerate(view.output_names):
                tolerance = case.closely(view, expected[k], noise[k])
                got = wide(found[view.outputs[k]])
                yield case.evidence(
                    "jvp", f"{against}, {batch.label}", f"tangent of {name}", got, expected[k], tolerance
                )
    yield from _tangents_alone(case)


def _vmapped_jvps(case: Case, batch: Batch, tangents: Sequence[dict[int, Array]]) -> list[tuple[str, Sequence[Any]]]:
    view, wrt = case.native, case.wrt("jvp")
    dots = {i: _stack_numbers([t[i] for t in tangents], batch.axes[i], case.point.leaves[i]) for i in wrt}
    dot_axes = {i: batch.axes[i] for i in wrt}
    _, one = jax.vmap(view.raw_jvp, in_axes=(list(batch.axes), dot_axes))(batch.stacked, dots)
    batched = jax.vmap(view.flat, in_axes=batch.axes)

    def function(*some: Any) -> Any:
        return batched(*[dict(zip(wrt, some, strict=True)).get(i, leaf) for i, leaf in enumerate(batch.stacked)])

    _, two = jax.jvp(function, tuple(batch.stacked[i] for i in wrt), tuple(dots[i] for i in wrt))
    return [("vmap of jvp against a loop", one), ("jvp of vmap against a loop", two)]


def _tangents_alone(case: Case) -> Answer:
    """Batched tangents at one point: what ``jacfwd`` does."""
    wrt, view = case.wrt("jvp"), case.native
    _, noise = case.pushed(view, case.directions("jvp")[0])
    tangents = [{i: case.relative(i, 10 + member) for i in wrt} for member in range(2)]
    rows = [view.jvp(t).tangent for t in tangents]
    dots = {i: jnp.stack([jnp.asarray(view.cast(t)[i]) for t in tangents]) for i in wrt}
    _, found = jax.vmap(lambda d: view.raw_jvp(view.point.leaves, d))(dots)
    for k, name in enumerate(view.output_names):
        expected = np.stack([row[k] for row in rows])
        got, tolerance = wide(found[view.outputs[k]]), case.closely(view, expected, noise[k])
        yield case.evidence(
            "jvp", "vmap over tangents alone against a loop", f"tangent of {name}", got, expected, tolerance
        )


def vmap_vjp(case: Case) -> Answer:
    """``vmap`` of the VJP, and the VJP of ``vmap``, against a loop over the VJP; the latter sums unbatched operands."""
    wrt, view = case.wrt("vjp"), case.native
    _, noise = case.pulled(view, 0)
    for batch in _batches(case):
        rows = [view.vjp(batch.cotangents(m), wrt, leaves).cotangent for m, leaves in enumerate(batch.members)]
        for i, one, two in zip(wrt, *_vmapped_vjps(case, batch), strict=True):
            name = f"cotangent of {case.point.names[i]}"
            each, axis = np.stack([row[i] for row in rows]), batch.axes[i]
            against = f"vmap of vjp against a loop, {batch.label}"
            yield case.evidence("vjp", against, name, wide(one), each, case.closely(view, each, noise[i]))
            total = np.sum(each, 0) if axis is None else np.moveaxis(each, 0, axis)
            size = np.sum(np.abs(each), 0) if axis is None else np.abs(total)
            spread = noise[i] if axis is None else np.expand_dims(noise[i], axis)
            against = f"vjp of vmap against a loop, {batch.label}"
            yield case.evidence("vjp", against, name, wide(two), total, case.closely(view, size, batch.size * spread))
    yield from _cotangents_alone(case)


def _vmapped_vjps(case: Case, batch: Batch) -> tuple[Sequence[Any], Sequence[Any]]:
    view, wrt = case.native, case.wrt("vjp")
    drawn = [batch.cotangents(member) for member in range(batch.size)]
    stacks = [np.stack([row[k] for row in drawn]) for k in range(len(view.outputs))]
    seeds = [jnp.asarray(s.astype(view.results[i].dtype)) for s, i in zip(stacks, view.outputs, strict=True)]
    _, one = jax.vmap(lambda leaves, cts: view.raw_vjp(leaves, wrt, cts), in_axes=(list(batch.axes), 0))(
        batch.stacked, seeds
    )
    batched = jax.vmap(view.flat, in_axes=batch.axes)

    def function(*some: Any) -> Any:
        return batched(*[dict(zip(wrt, some, strict=True)).get(i, leaf) for i, leaf in enumerate(batch.stacked)])

    primal, pull = jax.vjp(function, *[batch.stacked[i] for i in wrt])
    return one, pull(view.seeds(primal, seeds))


def _cotangents_alone(case: Case) -> Answer:
    """Batched cotangents at one point: what ``jacrev`` does."""
    wrt, view = case.wrt("vjp"), case.native
    (_, noise), drawn = case.pulled(view, 0), [case.cotangents(10 + member) for member in range(2)]
    rows = [view.vjp(cts, wrt).cotangent for cts in drawn]
    seeds = [jnp.stack(list(leaf)) for leaf in zip(*map(view.cast_out, drawn), strict=True)]
    found = jax.vmap(lambda cts: view.raw_vjp(view.point.leaves, wrt, cts)[1])(seeds)
    for i, got in zip(wrt, found, strict=True):
        each = np.stack([row[i] for row in rows])
        against, name = "vmap over cotangents alone against a loop", f"cotangent of {case.point.names[i]}"
        yield case.evidence("vjp", against, name, wide(got), each, case.closely(view, each, noise[i]))
