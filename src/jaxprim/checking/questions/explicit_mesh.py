"""Are values and shardings right on an explicit mesh, where the sharding of an array is part of its type?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
from jax.sharding import AxisType, Mesh

from jaxprim import _jax
from jaxprim._errors import BadCall
from jaxprim.checking.against_plain_call import compare_with_plain_call
from jaxprim.checking.answers import Answer, NotAsked, Note, first_line
from jaxprim.checking.case import Case
from jaxprim.checking.question import question
from jaxprim.checking.questions.devices import AXIS, shared_by_all, spread, two_devices
from jaxprim.checking.reports.findings import Evidence
from jaxprim.checking.values import is_scalar

AGAINST = "on an explicit mesh of two devices, against one device"


@question("Are values and shardings right on a mesh with explicit axes?", group="scale", speed="thorough")
def explicit_mesh(case: Case) -> Answer:
    """Compare value, JVP and VJP on an explicit mesh of two devices with one device, and shardings with their types."""
    mesh = jax.make_mesh((2,), (AXIS,), (AxisType.Explicit,), devices=two_devices())
    leaves = spread(case, mesh)
    yield from shared_by_all(leaves)
    try:
        promised, found = _on(mesh, lambda: (jax.eval_shape(case.native.flat, *leaves), case.native.flat(*leaves)))
    except (_jax.ShardingTypeError, BadCall) as error:
        raise NotAsked(
            f"the implementation does not accept operands with explicit shardings: {first_line(error)}"
        ) from error
    for name, aval, leaf in zip(case.native.names, promised, found, strict=True):
        got, expected = _spec(aval), _spec(leaf)
        against = "the sharding of the result on an explicit mesh"
        yield Evidence("abstract eval", against, name, got=got, expected=expected, ok=got == expected)
    yield from compare_with_plain_call(case, "impl", AGAINST, found)
    ask = {"jvp": _jvp, "vjp": _vjp}
    for mode in (yield from case.rules()):
        try:
            found = _on(mesh, partial(ask[mode], case, leaves))
        except (_jax.ShardingTypeError, BadCall) as error:
            yield Note(f"the {mode} rule does not accept operands with explicit shardings: {first_line(error)}")
        else:
            yield from compare_with_plain_call(case, mode, AGAINST, found)


def _on(mesh: Mesh, evaluate: Callable[[], Any]) -> Any:
    """Evaluate on the mesh. The other side of the comparison runs off it, where a host call for one device works."""
    with jax.set_mesh(mesh):
        return jax.block_until_ready(evaluate())


def _spec(typed: Any) -> str:
    """How each axis is sharded, without trailing unsharded axes."""
    spec = list(typed.sharding.spec)
    while spec and spec[-1] is None:
        spec.pop()
    return f"({', '.join(map(str, spec))})"


def _jvp(case: Case, leaves: Sequence[Any]) -> Sequence[Any]:
    precision, tangents = case.native, case.native.cast(case.directions("jvp")[0].tangents)
    found = precision.raw_jvp(leaves, {i: _like(tangent, leaves[i]) for i, tangent in tangents.items()})[1]
    return [found[i] for i in precision.outputs]


def _vjp(case: Case, leaves: Sequence[Any]) -> Sequence[Any]:
    precision, wrt = case.native, case.wrt("vjp")
    primal, pull = jax.vjp(precision.of(leaves, wrt), *[leaves[i] for i in wrt])
    given = zip(precision.outputs, precision.cast_out(case.cotangents(0)), strict=True)
    return pull(precision.seeds(primal, [_like(ct, primal[i]) for i, ct in given]))


def _like(value: Any, other: Any) -> Any:
    """A value with the sharding of another one."""
    return value if is_scalar(other) else jax.device_put(value, other.sharding)
