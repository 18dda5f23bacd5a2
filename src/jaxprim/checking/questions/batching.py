"""Questions about vmap: one batched evaluation = a Python loop over the batch, for the implementation and both rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim.checking import probes
from jaxprim.checking.case import SINGLE, Case
from jaxprim.checking.compare import Tolerance
from jaxprim.checking.precision import Precision
from jaxprim.checking.setting import Answer, NotAsked, Note
from jaxprim.checking.subject import first_line
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
    """Several points stacked along the axes of one pattern, in one precision."""

    case: Case
    precision: Precision
    axes: Axes

    @cached_property
    def size(self) -> int:
        """Unlike every dimension of the operands, so that mixing up two axes shows."""
        taken = {n for leaf in self.case.native.point.leaves for n in np.shape(leaf)}
        return next(n for n in (3, 2, 4, 5, 6, 7, 8, *range(9, 99)) if n not in taken)

    @cached_property
    def members(self) -> list[list[Any]]:
        """The operands of each member: the example itself, and points near it. What is not batched is the same.

        Integers are the example's, as others may point to where there is nothing; or all are those of another example.
        """
        spread = min(0.5, max(0.01, 64 * self.precision.eps))
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
        """The leaves of other examples whose integers agree with those of the example that are not batched."""
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
        """A tangent for each member; the tangent of an operand that is not batched is the same for all."""
        return {i: self.case.relative(i, 10 + (member if self.axes[i] is not None else 0)) for i in wrt}

    def cotangents(self, member: int) -> list[Array]:
        """A cotangent for each member."""
        return self.case.cotangents(10 + member)

    @property
    def label(self) -> str:
        """The pattern as a reader would write it."""
        pairs = zip(self.case.point.names, self.axes, strict=True)
        return "in_axes " + ", ".join(f"{name}={axis}" for name, axis in pairs) + _in(self.precision)


def _stack(rows: Sequence[Any], axis: int | None) -> Any:
    return rows[0] if axis is None else jnp.stack([jnp.asarray(row) for row in rows], axis=axis)


def stacked_tangents(batch: Batch, each: Sequence[dict[int, Array]]) -> dict[int, Any]:
    """A tangent for each member, as ``vmap`` takes them: along the axes of the operands."""
    leaves = batch.precision.point.leaves
    with batch.precision.in_effect():
        return {i: _stack_numbers([t[i] for t in each], batch.axes[i], leaves[i]) for i in each[0]}


def stacked_cotangents(precision: Precision, each: Sequence[list[Array]]) -> list[Any]:
    """A cotangent of each differentiable result for each member, stacked in front."""
    with precision.in_effect():
        return [
            _stack_numbers(rows, 0, precision.results[i])
            for i, rows in zip(precision.outputs, zip(*each, strict=True), strict=True)
        ]


def _stack_numbers(rows: Sequence[Array], axis: int | None, like: Any) -> Any:
    if axis is None:
        return jnp.asarray(type(like)(rows[0]) if is_scalar(like) else rows[0].astype(like.dtype))
    return jnp.asarray(np.stack(rows, axis).astype(like.dtype))


def _batches(case: Case, precision: Precision) -> list[Batch]:
    if not case.point.leaves or all(is_scalar(leaf) for leaf in case.point.leaves):
        raise NotAsked("no operand is an array")
    return case.once(("batches", precision.double), lambda: [Batch(case, precision, axes) for axes in patterns(case)])


def _in_each(case: Case, ask: Callable[[Precision], Answer], *modes: str) -> Answer:
    """Asks in the precision of the example; if that is half precision, where roundings alone may be a tenth of a sum, also
    in float64.
    """
    yield from ask(case.native)
    for double in case.precisions(*modes)[1:] if case.native.eps > SINGLE else ():
        try:
            yield from list(ask(double))
        except Exception as error:  # noqa: BLE001 - a batch rule for half precision alone may fail in any way it likes
            yield Note(f"not asked in float64: {first_line(error)}")


def _in(precision: Precision) -> str:
    return f" ({precision.label})" if precision.double else ""


Evaluation = tuple[Callable[..., Any], tuple[Any, ...]]


def _together(precision: Precision, evaluations: Mapping[Any, Evaluation]) -> dict[Any, Any]:
    """The results of several functions on their arguments. One program is compiled for all of them: that is faster."""
    arguments = [arguments for _, arguments in evaluations.values()]
    functions = [function for function, _ in evaluations.values()]
    compiled = jax.jit(lambda rows: [function(*row) for function, row in zip(functions, rows, strict=True)])
    with precision.in_effect():
        return dict(zip(evaluations, compiled(arguments), strict=True))


def vmap(case: Case) -> Answer:
    """``jax.vmap`` of the implementation against a loop over it."""
    yield from _in_each(case, lambda precision: values_against_loop(_batches(case, precision)))


def values_against_loop(batches: Sequence[Batch]) -> Answer:
    """``jax.vmap`` of the implementation over some batches of one precision, each against a loop."""
    case, precision = batches[0].case, batches[0].precision
    _, noise = case.value(precision)
    found = _together(
        precision, {b.axes: (jax.vmap(precision.flat, in_axes=b.axes), tuple(b.stacked)) for b in batches}
    )
    for batch in batches:
        rows = [precision.value(member) for member in batch.members]
        for k, name in enumerate(precision.names):
            expected, got = np.stack([row[k] for row in rows]), wide(found[batch.axes][k])
            tolerance = case.roughly(precision, expected, noise[k])
            yield case.evidence("impl", f"vmap against a loop, {batch.label}", name, got, expected, tolerance)


def vmap_jvp(case: Case) -> Answer:
    """``vmap`` of the JVP, and the JVP of ``vmap``, against a loop over the JVP."""
    yield from _in_each(case, lambda precision: _jvps_against_loop(case, precision), "jvp")


def _jvps_against_loop(case: Case, precision: Precision) -> Answer:
    wrt, (_, noise) = case.wrt("jvp"), case.pushed(precision, case.directions("jvp")[0])
    rows: dict[Any, list[list[Array]]] = {}
    evaluations: dict[Any, Evaluation] = {}
    for batch in _batches(case, precision):
        tangents = [batch.tangents(wrt, member) for member in range(batch.size)]
        row = [precision.jvp(t, leaves).tangent for t, leaves in zip(tangents, batch.members, strict=True)]
        for against, evaluation in _batched_jvps(batch, wrt, tangents).items():
            key = f"{against} against a loop, {batch.label}"
            rows[key], evaluations[key] = row, evaluation
    tangents = [{i: case.relative(i, 10 + member) for i in wrt} for member in range(2)]
    key = f"vmap over tangents alone against a loop{_in(precision)}"  # what jacfwd does
    rows[key], evaluations[key] = [precision.jvp(t).tangent for t in tangents], _tangents_alone(precision, tangents)
    for against, found in _together(precision, evaluations).items():
        for k, name in enumerate(precision.output_names):
            expected, got = np.stack([row[k] for row in rows[against]]), wide(found[precision.outputs[k]])
            tolerance = case.roughly(precision, expected, noise[k])
            yield case.evidence("jvp", against, f"tangent of {name}", got, expected, tolerance)


def _batched_jvps(batch: Batch, wrt: Sequence[int], tangents: Sequence[dict[int, Array]]) -> dict[str, Evaluation]:
    precision = batch.precision
    dots = stacked_tangents(batch, tangents)
    one = jax.vmap(
        lambda leaves, d: precision.raw_jvp(leaves, d)[1], in_axes=(list(batch.axes), {i: batch.axes[i] for i in wrt})
    )

    def two(leaves: Sequence[Any], dots: Mapping[int, Any]) -> Any:
        function = _batched(precision.flat, batch, leaves, wrt)
        return jax.jvp(function, tuple(leaves[i] for i in wrt), tuple(dots[i] for i in wrt))[1]

    return {"vmap of jvp": (one, (batch.stacked, dots)), "jvp of vmap": (two, (batch.stacked, dots))}


def _batched(flat: Callable[..., Any], batch: Batch, leaves: Sequence[Any], wrt: Sequence[int]) -> Callable[..., Any]:
    """``vmap`` of the operation as a function of some of its leaves."""
    batched = jax.vmap(flat, in_axes=batch.axes)

    def function(*some: Any) -> Any:
        given = dict(zip(wrt, some, strict=True))
        return batched(*[given.get(i, leaf) for i, leaf in enumerate(leaves)])

    return function


def _tangents_alone(precision: Precision, tangents: Sequence[dict[int, Array]]) -> Evaluation:
    with precision.in_effect():
        dots = {i: jnp.stack([jnp.asarray(precision.cast(t)[i]) for t in tangents]) for i in tangents[0]}
    return jax.vmap(lambda leaves, d: precision.raw_jvp(leaves, d)[1], in_axes=(None, 0)), (
        precision.point.leaves,
        dots,
    )


def vmap_vjp(case: Case) -> Answer:
    """``vmap`` of the VJP, and the VJP of ``vmap``, against a loop over the VJP; the latter sums unbatched operands."""
    yield from _in_each(case, lambda precision: _vjps_against_loop(case, precision), "vjp")


def _vjps_against_loop(case: Case, precision: Precision) -> Answer:
    wrt, batches = case.wrt("vjp"), _batches(case, precision)
    _, noise = case.pulled(precision, 0)
    evaluations: dict[Any, Evaluation] = {
        (batch.axes, way): evaluation for batch in batches for way, evaluation in _batched_vjps(batch, wrt).items()
    }
    drawn = [case.cotangents(10 + member) for member in range(2)]
    evaluations["alone"] = _cotangents_alone(precision, wrt, drawn)
    found = _together(precision, evaluations)
    for batch in batches:
        rows = [precision.vjp(batch.cotangents(m), wrt, leaves).cotangent for m, leaves in enumerate(batch.members)]
        for i, one, two in zip(wrt, found[batch.axes, "vmap of vjp"], found[batch.axes, "vjp of vmap"], strict=True):
            each, name = np.stack([row[i] for row in rows]), f"cotangent of {case.point.names[i]}"
            against = f"vmap of vjp against a loop, {batch.label}"
            yield case.evidence("vjp", against, name, wide(one), each, case.roughly(precision, each, noise[i]))
            against = f"vjp of vmap against a loop, {batch.label}"
            yield case.evidence("vjp", against, name, wide(two), *_as_vjp_of_vmap(batch, i, each, noise[i]))
    rows = [precision.vjp(cts, wrt).cotangent for cts in drawn]
    for i, got in zip(wrt, found["alone"], strict=True):
        each, name = np.stack([row[i] for row in rows]), f"cotangent of {case.point.names[i]}"
        against = f"vmap over cotangents alone against a loop{_in(precision)}"  # what jacrev does
        yield case.evidence("vjp", against, name, wide(got), each, case.roughly(precision, each, noise[i]))


def _as_vjp_of_vmap(batch: Batch, leaf: int, each: Array, noise: Array) -> tuple[Array, Tolerance]:
    """The cotangents of the members as the VJP of ``vmap`` gives them: stacked, or summed for an unbatched operand."""
    case, precision, axis = batch.case, batch.precision, batch.axes[leaf]
    if axis is None:
        return np.sum(each, 0), case.roughly(precision, np.sum(np.abs(each), 0), batch.size * noise)
    total = np.moveaxis(each, 0, axis)
    return total, case.roughly(precision, total, np.expand_dims(noise, axis))


def _batched_vjps(batch: Batch, wrt: Sequence[int]) -> dict[str, Evaluation]:
    precision = batch.precision
    drawn = [batch.cotangents(member) for member in range(batch.size)]
    seeds = stacked_cotangents(precision, drawn)
    one = jax.vmap(lambda leaves, cts: precision.raw_vjp(leaves, wrt, cts)[1], in_axes=(list(batch.axes), 0))

    def two(leaves: Sequence[Any], seeds: Sequence[Any]) -> Any:
        primal, pull = jax.vjp(_batched(precision.flat, batch, leaves, wrt), *[leaves[i] for i in wrt])
        return pull(precision.seeds(primal, seeds))

    return {"vmap of vjp": (one, (batch.stacked, seeds)), "vjp of vmap": (two, (batch.stacked, seeds))}


def _cotangents_alone(precision: Precision, wrt: Sequence[int], drawn: Sequence[list[Array]]) -> Evaluation:
    one = jax.vmap(lambda leaves, cts: precision.raw_vjp(leaves, wrt, cts)[1], in_axes=(None, 0))
    return one, (precision.point.leaves, stacked_cotangents(precision, drawn))
