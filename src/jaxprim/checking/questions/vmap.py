"""Does a batched evaluation agree with a loop over the batch, for the implementation and both rules?

With operands x_m, tangents t_m and cotangents c_m of the members m, and J_m the Jacobian at x_m,

    vmap f        f(x_m)
    vmap_jvp      J_m t_m
    vmap_vjp      J_m^T c_m;   for an operand that all members share, the VJP of vmap gives sum_m J_m^T c_m

`vmap` of a derivative and the derivative of `vmap` use the batch rules in different ways, so both are checked. In a
last batch, members differ only in their tangents or cotangents, as in `jax.jacfwd` and `jax.jacrev`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim.checking import probes, tolerances
from jaxprim.checking.answers import Answer, Note, collect
from jaxprim.checking.batch import Batch, batches_of, in_precision, stack_cotangents, stack_tangents
from jaxprim.checking.case import Case
from jaxprim.checking.precision import Precision, of_some
from jaxprim.checking.programs import jit_once
from jaxprim.checking.question import question
from jaxprim.checking.reports.findings import Evidence
from jaxprim.checking.tolerances import Tolerance
from jaxprim.checking.values import Array, wide


def _in_each(case: Case, ask: Callable[[Precision], Answer], *modes: str) -> Answer:
    """Ask in the precision of the example. For half precision, where roundings may be a tenth of a sum, also in float64."""
    yield from ask(case.native)
    for double in case.precisions(*modes)[1:] if case.native.eps > tolerances.FLOAT32_EPS else ():
        found, refused = collect(ask(double))
        yield from found if refused is None else [Note(f"not asked in float64: {refused.why}")]


# A function and its arguments.
Evaluation = tuple[Callable[..., Any], tuple[Any, ...]]


def _together(precision: Precision, evaluations: Mapping[Any, Evaluation]) -> dict[Any, Any]:
    """The results of several functions on their arguments, all in one compiled program, which is faster."""
    arguments = [arguments for _, arguments in evaluations.values()]
    functions = [function for function, _ in evaluations.values()]
    compiled = jit_once(lambda rows: [function(*row) for function, row in zip(functions, rows, strict=True)])
    with precision.in_effect():
        return dict(zip(evaluations, compiled(arguments), strict=True))


@question("Does vmap of the implementation give the same as a loop?", group="batching")
def vmap(case: Case) -> Answer:
    """Compare ``jax.vmap`` of the implementation with a loop."""
    yield from _in_each(case, lambda precision: values_against_loop(batches_of(case, precision)))


def values_against_loop(batches: Sequence[Batch]) -> Answer:
    """Compare ``jax.vmap`` of the implementation with a loop, for batches in one precision."""
    case, precision = batches[0].case, batches[0].precision
    _, noise = case.value(precision)
    found: dict[Any, Any] = case.once(("batched values", precision.double), dict)
    new = [batch for batch in batches if batch.axes not in found]
    if new:
        found |= _together(
            precision, {b.axes: (jax.vmap(precision.flat, in_axes=b.axes), tuple(b.stacked)) for b in new}
        )
    for batch in batches:
        rows = [precision.value(member) for member in batch.members]
        for k, name in enumerate(precision.names):
            expected, got = np.stack([row[k] for row in rows]), wide(found[batch.axes][k])
            tolerance = case.roughly(precision, expected, noise[k])
            yield case.evidence("impl", f"vmap against a loop, {batch.label}", name, got, expected, tolerance)


@question("Do vmap of the JVP and the JVP of vmap give the same as a loop?", group="batching")
def vmap_jvp(case: Case) -> Answer:
    """Compare ``vmap`` of the JVP, and the JVP of ``vmap``, with a loop over the JVP."""
    yield from _in_each(case, lambda precision: _jvps_against_loop(case, precision), "jvp")


def _jvps_against_loop(case: Case, precision: Precision) -> Answer:
    wrt, (_, noise) = case.wrt("jvp"), case.jvp(precision, case.directions("jvp")[0])
    rows: dict[Any, list[list[Array]]] = {}
    evaluations: dict[Any, Evaluation] = {}
    for batch in batches_of(case, precision):
        tangents = [batch.tangents(wrt, member) for member in range(batch.size)]
        row = [precision.jvp(t, leaves).tangent for t, leaves in zip(tangents, batch.members, strict=True)]
        for against, evaluation in _batched_jvps(batch, wrt, tangents).items():
            key = f"{against} against a loop, {batch.label}"
            rows[key], evaluations[key] = row, evaluation
    tangents = [{i: case.relative(i, probes.MEMBERS + member) for i in wrt} for member in range(2)]
    key = f"vmap over only the tangents, against a loop{in_precision(precision)}"  # what jacfwd does
    rows[key], evaluations[key] = [precision.jvp(t).tangent for t in tangents], _tangents_alone(precision, tangents)
    for against, found in _together(precision, evaluations).items():
        for k, name in enumerate(precision.output_names):
            expected, got = np.stack([row[k] for row in rows[against]]), wide(found[precision.outputs[k]])
            tolerance = case.roughly(precision, expected, noise[k])
            yield case.evidence("jvp", against, f"tangent of {name}", got, expected, tolerance)


def _batched_jvps(batch: Batch, wrt: Sequence[int], tangents: Sequence[dict[int, Array]]) -> dict[str, Evaluation]:
    precision = batch.precision
    dots = stack_tangents(batch, tangents)
    vmap_of_jvp = jax.vmap(
        lambda leaves, d: precision.raw_jvp(leaves, d)[1], in_axes=(list(batch.axes), {i: batch.axes[i] for i in wrt})
    )

    def jvp_of_vmap(leaves: Sequence[Any], dots: Mapping[int, Any]) -> Any:
        function = of_some(jax.vmap(precision.flat, in_axes=batch.axes), leaves, wrt)
        return jax.jvp(function, tuple(leaves[i] for i in wrt), tuple(dots[i] for i in wrt))[1]

    return {"vmap of jvp": (vmap_of_jvp, (batch.stacked, dots)), "jvp of vmap": (jvp_of_vmap, (batch.stacked, dots))}


def _tangents_alone(precision: Precision, tangents: Sequence[dict[int, Array]]) -> Evaluation:
    push = jax.vmap(lambda leaves, d: precision.raw_jvp(leaves, d)[1], in_axes=(None, 0))

    def stack_and_push(leaves: Sequence[Any], each: Sequence[Mapping[int, Any]]) -> Any:
        return push(leaves, {i: jnp.stack([dots[i] for dots in each]) for i in each[0]})

    with precision.in_effect():
        return stack_and_push, (precision.point.leaves, [precision.cast(t) for t in tangents])


@question("Do vmap of the VJP and the VJP of vmap give the same as a loop?", group="batching")
def vmap_vjp(case: Case) -> Answer:
    """Compare ``vmap`` of the VJP, and the VJP of ``vmap``, with a loop. The latter sums over unbatched operands."""
    yield from _in_each(case, lambda precision: _vjps_against_loop(case, precision), "vjp")


def _vjps_against_loop(case: Case, precision: Precision) -> Answer:
    wrt, batches = case.wrt("vjp"), batches_of(case, precision)
    _, noise = case.vjp(precision, 0)
    drawn = [case.cotangents(probes.MEMBERS + member) for member in range(2)]
    found = _together(
        precision,
        {(b.axes, way): evaluation for b in batches for way, evaluation in _batched_vjps(b, wrt).items()}
        | {"alone": _cotangents_alone(precision, wrt, drawn)},
    )
    for batch in batches:
        rows = [precision.vjp(batch.cotangents(m), wrt, leaves).cotangent for m, leaves in enumerate(batch.members)]
        for i, one, two in zip(wrt, found[batch.axes, "vmap of vjp"], found[batch.axes, "vjp of vmap"], strict=True):
            each = np.stack([row[i] for row in rows])
            against = f"vmap of vjp against a loop, {batch.label}"
            yield _cotangent(case, i, against, one, each, case.roughly(precision, each, noise[i]))
            against = f"vjp of vmap against a loop, {batch.label}"
            yield _cotangent(case, i, against, two, *_as_vjp_of_vmap(batch, i, each, noise[i]))
    rows = [precision.vjp(cts, wrt).cotangent for cts in drawn]
    for i, got in zip(wrt, found["alone"], strict=True):
        each = np.stack([row[i] for row in rows])
        against = f"vmap over only the cotangents, against a loop{in_precision(precision)}"  # what jacrev does
        yield _cotangent(case, i, against, got, each, case.roughly(precision, each, noise[i]))


def _cotangent(case: Case, leaf: int, against: str, got: Any, expected: Array, tolerance: Tolerance) -> Evidence:
    return case.evidence("vjp", against, f"cotangent of {case.point.names[leaf]}", wide(got), expected, tolerance)


def _as_vjp_of_vmap(batch: Batch, leaf: int, each: Array, noise: Array) -> tuple[Array, Tolerance]:
    """The expected cotangent from the VJP of ``vmap``, and its tolerance.

    Cotangents are stacked along the operand's axis. For an unbatched operand, they are summed over the members.
    """
    case, precision, axis = batch.case, batch.precision, batch.axes[leaf]
    if axis is None:
        return np.sum(each, 0), case.roughly(precision, np.sum(np.abs(each), 0), batch.size * noise)
    total = np.moveaxis(each, 0, axis)
    return total, case.roughly(precision, total, np.expand_dims(noise, axis))


def _batched_vjps(batch: Batch, wrt: Sequence[int]) -> dict[str, Evaluation]:
    precision = batch.precision
    drawn = [batch.cotangents(member) for member in range(batch.size)]
    seeds = stack_cotangents(precision, drawn)
    vmap_of_vjp = jax.vmap(lambda leaves, cts: precision.raw_vjp(leaves, wrt, cts)[1], in_axes=(list(batch.axes), 0))

    def vjp_of_vmap(leaves: Sequence[Any], seeds: Sequence[Any]) -> Any:
        batched = jax.vmap(precision.flat, in_axes=batch.axes)
        primal, pull = jax.vjp(of_some(batched, leaves, wrt), *[leaves[i] for i in wrt])
        return pull(precision.seeds(primal, seeds))

    return {"vmap of vjp": (vmap_of_vjp, (batch.stacked, seeds)), "vjp of vmap": (vjp_of_vmap, (batch.stacked, seeds))}


def _cotangents_alone(precision: Precision, wrt: Sequence[int], drawn: Sequence[list[Array]]) -> Evaluation:
    pull = jax.vmap(lambda leaves, cts: precision.raw_vjp(leaves, wrt, cts)[1], in_axes=(None, 0))
    return pull, (precision.point.leaves, stack_cotangents(precision, drawn))
