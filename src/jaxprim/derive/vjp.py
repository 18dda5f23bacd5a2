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
from jaxprim._linear import LinearMap, Prelude, apply
from jaxprim._masks import Mask, expand, select
from jaxprim.derive import reverse as reverse_rule
from jaxprim.derive.jvp import has_own_vjp
from jaxprim.derive.reverse import Pullback
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
            call.rules.cache.get(key, lambda: reverse_rule.refuse_opaque_tangent(call, avals, mask) or True)
        return _jax.linearize_by_jvp(call.rules.primitive, is_vjp, perturbed, *primals, call=call)
    mask = tuple(perturbed)
    call.rules.record("vjp forward", reverse_rule.reverse_rule(call).origin)
    if not call.levels and _jax.is_eager() and _jax.is_concrete(primals):
        return _linearize_eagerly(call, primals, mask)
    avals = call.element_avals([_jax.typeof(x) for x in primals])
    with axes_of(call.levels):
        found = reverse_rule.reverse(call, avals, mask)
        outs, residuals, residual_levels = reverse_rule.run_forward(found, call, primals)
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


# ------------------------------------------------------------------------------------------------------- plain eager
class KeptPullback(LinearMap):
    """The pushforward of an eager ``grad``: it keeps the author's Python pullback, to call it as it is.

    Whatever else is asked of it (a batch of cotangents, another derivative) traces the pullback; what it closes over are the
    residuals then.
    """

    def __init__(self, pullback: Pullback, primals: Values) -> None:
        self.kept = pullback
        avals, results = pullback.avals, pullback.results
        tangents = [_jax.strip(_jax.tangent_aval(a)) for a, p in zip(avals, pullback.perturbed, strict=True) if p]
        dots = [_jax.strip(_jax.tangent_aval(a)) for a in results.avals if _jax.has_tangent(a)]
        # Only an opaque pullback needs the operands, for the JVP rule; nothing else holds them here.
        operands = tuple(primals) if pullback.call.rules.has("jvp") else ()
        rules = pullback.call.rules

        def explicit() -> reverse_rule.Explicit:
            return reverse_rule.make_explicit(pullback, operands)

        def transposed(_: LinearMap) -> tuple[Prelude, LinearMap]:
            found = explicit()
            return (lambda residuals, levels: found.residuals(levels)), found.pullback

        super().__init__(rules, "pushforward", 0, tangents, dots, lambda: explicit().program(), transposed)

    def pull_back(self, residuals: Values, cts: Values, nonzero: Mask, wanted: Mask, levels: Levels) -> list[Any]:
        if levels or not _jax.is_eager():
            return super().pull_back(residuals, cts, nonzero, wanted, levels)
        results, perturbed = self.kept.results, self.kept.perturbed
        self.owner.record("vjp", self.kept.rule.origin)
        mask = [_jax.has_tangent(aval) for aval in results.avals]
        zeros = [_jax.JaxZero(_jax.cotangent_aval(aval)) for aval in results.avals]
        some = expand(cts, nonzero, lambda i: _jax.JaxZero(self.out_avals[i]))
        found = self.kept(expand(some, mask, zeros.__getitem__))
        cts_of = [(ct, aval) for ct, aval, p in zip(found, self.kept.avals, perturbed, strict=True) if p]
        return [
            _jax.JaxZero(_jax.cotangent_aval(aval)) if ct is None else ct
            for (ct, aval), want in zip(cts_of, wanted, strict=True)
            if want
        ]


def _linearize_eagerly(call: Call, primals: Values, perturbed: Mask) -> tuple[Any, ...]:
    outs, pullback = reverse_rule.run_rule(call, primals, perturbed)
    return _staged(outs, (), KeptPullback(pullback, primals), (), perturbed)
