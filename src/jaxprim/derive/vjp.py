"""Reverse mode: JAX's linearization rule of the main primitive.

If reverse mode has a rule of its own, its forward half runs, we keep its residuals, and stage one linear equation.
The transpose of that equation is the backward half. Everything else is JAX's own linearization of the JVP rule:

    the VJP comes from           and the JVP from       reverse mode is
    vjp (given)                  anything               the rule's two halves
    jvp                          jvp                    the transpose of the JVP rule
    transpose or impl            the same               the transpose of forward mode
    transpose or impl            something else         a rule made from it, in two halves

Functions under ``@derives("vjp", ...)``: (call) -> the VJP `Rule`, in canonical form.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

from jaxprim import _jax
from jaxprim._avals import instantiate
from jaxprim._calls import Call
from jaxprim._levels import Level, Levels, axes_of
from jaxprim._linear import LinearMap, apply
from jaxprim._masks import Mask, expand, select
from jaxprim._rules import Rule, RuleSet
from jaxprim.derive.eager_pullback import EagerPullback
from jaxprim.derive.site import Site, site_of
from jaxprim.derive.table import choose, derives, has_own_vjp, missing, not_linear
from jaxprim.derive.traced_vjp import run_forward, run_vjp_rule, traced_vjp, vjp_rule_of

Values = Sequence[Any]


def linearization_rule(is_vjp: bool, perturbed: Sequence[bool], *primals: Any, call: Call, **_: Any) -> tuple[Any, ...]:
    """JAX's linearization rule. ``is_vjp`` says whether the linear function will be transposed."""
    # JAX calls what is read from a ref perturbed, also an integer.
    perturbed = [each and _jax.has_tangent(_jax.typeof(x)) for each, x in zip(perturbed, primals, strict=True)]
    if not any(perturbed):
        outs = call.rules.primitive.bind(*primals, call=call)
        return _jax.linearization(outs, [False] * len(outs), (), lambda *_: list(map(_jax.zero_tangent, outs)))
    if not is_vjp:
        return _jax.linearize_by_jvp(call.rules.primitive, is_vjp, perturbed, *primals, call=call)
    choice = choose(call.rules, "vjp")
    if choice.row is None:
        raise missing(call.rules, "vjp")
    if not has_own_vjp(call.rules):
        return _jax.linearize_by_jvp(call.rules.primitive, is_vjp, perturbed, *primals, call=call)
    call.rules.record("vjp forward", vjp_rule_of(call))
    site = site_of(call, primals, perturbed)
    if not call.levels and not call.runs_once and _jax.is_eager() and _jax.is_concrete(primals):
        return _linearize_eagerly(site, primals)
    return _linearize(call, site, primals)


def _linearize(call: Call, site: Site, primals: Values) -> tuple[Any, ...]:
    found = traced_vjp(call, site)
    with axes_of(call.levels):
        outs, residuals, residual_levels = run_forward(found, call, primals)
    levels = _levels(call, residual_levels, site.perturbed, site.has_tangent)
    return _stage(site, outs, residuals, found.pushforward, levels)


def _linearize_eagerly(site: Site, primals: Values) -> tuple[Any, ...]:
    """In a plain ``grad`` the author's Python pullback is kept, and called at backward time."""
    outs, pullback = run_vjp_rule(site, primals)
    return _stage(site, outs, (), EagerPullback(pullback, primals), ())


def _levels(call: Call, residuals: Levels, perturbed: Mask, has_tangent: Sequence[bool]) -> Levels:
    """The levels of the pushforward: its inputs are the residuals and the tangents, its outputs tangents."""
    return tuple(
        Level(
            level.axis,
            (*kept.in_dims, *select(level.in_dims, perturbed)),
            tuple(select(level.out_dims, has_tangent)),
        )
        for level, kept in zip(call.levels, residuals, strict=True)
    )


def _stage(site: Site, outs: Values, residuals: Values, pushforward: LinearMap, levels: Levels) -> tuple[Any, ...]:
    """What JAX's linearization rule returns, with the pushforward as the linear function."""

    def linear(kept: Values, *tangents: Any) -> list[Any]:
        dots = apply(pushforward, kept, select(tangents, site.perturbed), levels)
        return expand(dots, site.has_tangent, lambda i: _jax.zero_tangent(outs[i]))

    return _jax.linearization(outs, list(site.has_tangent), residuals, linear)


# ------------------------------------------------------------------------------------------- sources of the VJP rule
@derives("vjp", "vjp")
def given(call: Call) -> Rule:
    return call.rules.given["vjp"]


@derives("vjp", "jvp")
def by_jvp(call: Call) -> Rule:
    """The JVP rule, which JAX linearizes and transposes. No VJP rule runs."""
    return call.rules.given["jvp"]


@derives("vjp", "impl")
def by_impl(call: Call) -> Rule:
    """A VJP rule that lets JAX differentiate the impl."""
    impl = call.rules.given["impl"]

    def fn(primals: Any, perturbed: Any, params: Any) -> Any:
        return jax.vjp(lambda *xs: impl.author(*xs, **params), *primals)

    return Rule("vjp", impl.author, fn)


@derives("vjp", "transpose")
def by_transpose(call: Call) -> Rule:
    """The transpose rule for the operands in which the primitive is linear; the others need the impl.

    For y = A(z) x the transpose rule gives x_bar = A(z)^T y_bar, and JAX's derivative of the impl gives
    z_bar = (dA(z)/dz x)^T y_bar.
    """
    rules, rule = call.rules, call.rules.given["transpose"]

    def fn(primals: Any, perturbed: Any, params: Any) -> Any:
        names = rules.signature.names(len(primals))
        linear = [name in rules.linear for name in names]
        needed = [p and not is_linear for p, is_linear in zip(perturbed.each, linear, strict=True)]
        if any(needed) and not rules.has("impl"):
            raise not_linear(rules, "vjp", select(names, needed))

        def pullback(y_bar: Any) -> tuple[Any, ...]:
            others = [x for x, is_linear in zip(primals, linear, strict=True) if not is_linear]
            cts = rule.fn(y_bar, others, lambda: _types_of(select(primals, linear)), params)
            whole = expand(cts if sum(linear) > 1 else [cts], linear, lambda _: None)
            return tuple(expand(_by_impl(rules, primals, needed, params, y_bar), needed, whole.__getitem__))

        return rules.apply(primals, params), pullback

    return Rule("vjp", rule.author, fn)


def _types_of(operands: Sequence[Any]) -> Any:
    """The types of operands, in a tuple of their trees."""
    return jax.tree.map(lambda leaf: _jax.strip(_jax.typeof(leaf)), tuple(operands))


def _by_impl(rules: RuleSet, primals: Any, needed: Sequence[bool], params: Any, y_bar: Any) -> tuple[Any, ...]:
    """The cotangents of the needed operands, by JAX's derivative of the impl."""
    if not any(needed):
        return ()
    impl = rules.given["impl"]
    moved = lambda *xs: impl.author(*expand(xs, needed, primals.__getitem__), **params)
    leaves, tree = jax.tree.flatten(y_bar, is_leaf=lambda ct: isinstance(ct, _jax.JaxZero))
    return jax.vjp(moved, *select(primals, needed))[1](tree.unflatten(instantiate(leaves)))
