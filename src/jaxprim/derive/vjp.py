"""Reverse mode: JAX's linearization rule of the main primitive.

Where reverse mode has a rule of its own, its forward half runs, its residuals are kept, and a linear equation is staged
whose transpose is its backward half. Everything else is JAX's own linearization of the JVP rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxprim import _jax
from jaxprim._calls import Call
from jaxprim._levels import Level, Levels, axes_of
from jaxprim._linear import LinearMap, apply
from jaxprim._masks import Mask, expand, select
from jaxprim.derive.jvp import has_own_vjp
from jaxprim.derive.kept import KeptPullback
from jaxprim.derive.loop import refuse_opaque_tangent
from jaxprim.derive.pullback import reverse_rule, run_rule
from jaxprim.derive.reverse import reverse, run_forward
from jaxprim.derive.table import choose, missing

Values = Sequence[Any]


def linearize(is_vjp: bool, perturbed: Sequence[bool], *primals: Any, call: Call) -> tuple[Any, ...]:
    """JAX's linearization rule."""
    choice = choose(call.rules, "vjp")
    if is_vjp and choice.status == "missing":
        raise missing(call.rules, "vjp")
    if not is_vjp or not has_own_vjp(call):
        if is_vjp and choice.source == "jvp":
            avals, mask = call.element_avals([_jax.typeof(x) for x in primals]), tuple(perturbed)
            key = ("transposable", call.base, tuple(avals), mask)
            call.rules.cache.get(key, lambda: refuse_opaque_tangent(call, avals, mask) or True)
        return _jax.linearize_by_jvp(call.rules.primitive, is_vjp, perturbed, *primals, call=call)
    mask = tuple(perturbed)
    call.rules.record("vjp forward", reverse_rule(call).origin)
    if not call.levels and _jax.is_eager() and _jax.is_concrete(primals):
        return _linearize_eagerly(call, primals, mask)
    avals = call.element_avals([_jax.typeof(x) for x in primals])
    with axes_of(call.levels):
        found = reverse(call, avals, mask)
        outs, residuals, residual_levels = run_forward(found, call, primals)
    levels = _levels(call, residual_levels, mask, [_jax.has_tangent(aval) for aval in found.results.avals])
    return _staged(outs, residuals, found.pushforward, levels, mask)


def _levels(call: Call, residuals: Levels, perturbed: Mask, has_tangent: Sequence[bool]) -> Levels:
    return tuple(
        Level(
            level.axis,
            (*kept.in_dims, *select(level.in_dims, perturbed)),
            tuple(select(level.out_dims, has_tangent)),
        )
        for level, kept in zip(call.levels, residuals, strict=True)
    )


def _staged(outs: Values, residuals: Values, linear_map: LinearMap, levels: Levels, perturbed: Mask) -> tuple[Any, ...]:
    has_tangent = [_jax.has_tangent(_jax.typeof(out)) for out in outs]
    zeros = [_jax.zero_tangent(out) for out in outs]

    def linear(kept: Values, *tangents: Any) -> list[Any]:
        inputs = select(tangents, perturbed)
        return expand(apply(linear_map, kept, inputs, levels), has_tangent, zeros.__getitem__)

    return _jax.linearization(outs, has_tangent, residuals, linear)


def _linearize_eagerly(call: Call, primals: Values, perturbed: Mask) -> tuple[Any, ...]:
    outs, pullback = run_rule(call, primals, perturbed)
    return _staged(outs, (), KeptPullback(pullback, primals), (), perturbed)
