"""Forward mode: JAX's JVP rule of the main primitive.

given            the author's rule. If reverse mode has a rule of its own, one linear equation
                 (``NAME_pushforward``) is emitted, and its transpose is that VJP rule. If an operation of the
                 JVP rule may have no transpose as it stands, the equation's transpose is that of one element's
                 program, after its known part is evaluated. Otherwise the operations are emitted, and JAX
                 transposes them
from transpose   linear operands: the primitive applied to the tangent
from vjp         the transpose of the pullback
from impl        JAX differentiates the impl

Functions under ``@derives("jvp", ...)``: (call, n primals, n tangents) -> m results, m tangents. Zero tangents
are JAX's zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jaxprim import _jax
from jaxprim._avals import instantiate, nonzero
from jaxprim._calls import Call
from jaxprim._levels import Level, Levels, axes_of
from jaxprim._linear import LinearMap, ResidualsForTranspose, apply, same_residuals
from jaxprim._masks import Mask, expand, select
from jaxprim.derive.named import by_named, by_named_vjp, named_residuals
from jaxprim.derive.programs import impl_program, impl_runs
from jaxprim.derive.rule_values import bind_value
from jaxprim.derive.site import Site, site_of, tangent_avals
from jaxprim.derive.table import choose, derives, has_own_vjp, missing, not_linear
from jaxprim.derive.traced_jvp import run_jvp_rule, traced_jvp
from jaxprim.derive.traced_vjp import TracedVjp, only_residuals, traced_vjp, vjp_rule_of
from jaxprim.derive.transposed_pair import transposed_tangent

Values = Sequence[Any]
Pushed = tuple[list[Any], list[Any]]  # results, tangents


def jvp_rule(primals: Values, tangents: Values, *, call: Call, **_: Any) -> Pushed:
    """JAX's JVP rule: result leaves and tangent leaves. Zero tangents are JAX's zeros."""
    # JAX gives what is read from a ref a tangent that is no symbolic zero, also an integer.
    tangents = [
        t if isinstance(t, _jax.JaxZero) or _jax.has_tangent(_jax.typeof(x)) else _jax.zero_tangent(x)
        for x, t in zip(primals, tangents, strict=True)
    ]
    if not any(nonzero(tangents)):
        outs = call.rules.primitive.bind(*primals, call=call)
        return outs, list(map(_jax.zero_tangent, outs))
    choice = choose(call.rules, "jvp")
    if choice.row is None:
        raise missing(call.rules, "jvp")
    with axes_of(call.levels):
        return choice.derive(call, primals, tangents)


# -------------------------------------------------------------------------------------------------- the author's rule
@derives("jvp", "jvp")
def by_rule(call: Call, primals: Values, tangents: Values) -> Pushed:
    """The JVP rule. It is called with values if nothing is traced; otherwise it runs as a traced program."""
    if not call.levels and _jax.is_eager() and _jax.is_concrete([*primals, *tangents]):
        call.rules.record("jvp")
        outs, dots = run_jvp_rule(call, primals, tangents)
        return outs, [_jax.zero_tangent(out) if dot is None else dot for out, dot in zip(outs, dots, strict=True)]
    site = site_of(call, primals, nonzero(tangents))
    found = traced_jvp(call, site)
    inputs = select(tangents, site.perturbed)
    if (named := named_residuals(call, site)) is not None:
        outs, dots = by_named(call, site, named, primals, inputs, found.program, found.nonzero, found.uses_results)
        return outs, _with_zeros(outs, dots, found.nonzero)
    outs = bind_value(call, site, found.values, primals)
    linear_map = _tangent_map(site)
    residuals = [*primals, *(outs if found.uses_results else ())]
    levels = _levels(call, site.perturbed, found.nonzero, with_results=found.uses_results)
    if found.may_lack_transpose or has_own_vjp(call.rules):
        dots = apply(linear_map, residuals, inputs, levels)
    else:
        call.rules.record("jvp")
        dots = _jax.evaluate(linear_map.under(levels), *residuals, *inputs)
    return outs, _with_zeros(outs, dots, found.nonzero)


def _tangent_map(site: Site) -> LinearMap:
    """The traced JVP rule as a linear map of the tangents."""
    found = traced_jvp(site.call, site)

    def make() -> LinearMap:
        effects = _jax.effects_of(found.program)
        return _pushforward(site, found.nonzero, found.uses_results, lambda: found.program, effects)

    return site.call.rules.cache.get(("pushforward", site), make)


def _levels(call: Call, perturbed: Mask, nonzero: Mask, *, with_results: bool) -> Levels:
    """The levels of a pushforward: (operands, results if it uses them, tangents) -> tangents."""

    def inputs(level: Level) -> tuple[int | None, ...]:
        results = level.out_dims if with_results else ()
        return (*level.in_dims, *results, *select(level.in_dims, perturbed))

    return tuple(Level(level.axis, inputs(level), tuple(select(level.out_dims, nonzero))) for level in call.levels)


def _pushforward(
    site: Site, nonzero: Mask, uses_results: bool, build: Callable[[], Any], effects: frozenset[Any]
) -> LinearMap:
    """The map (n operands, m results if used, tangents) -> tangents, whose transpose is the VJP rule."""
    return LinearMap(
        site.call.rules,
        "pushforward",
        residuals=len(site.avals) + (len(site.results.avals) if uses_results else 0),
        in_avals=site.tangent_avals,
        out_avals=tangent_avals(select(site.results.avals, nonzero)),
        build=build,
        transposed=lambda: _transposed(site, nonzero, uses_results),
        effects=effects,
    )


def _transposed(site: Site, nonzero: Mask, uses_results: bool) -> tuple[ResidualsForTranspose, LinearMap]:
    """The pullback of the VJP rule, and the forward half, which makes its residuals from operands (and results).

    J is the Jacobian at the operands x. The pushforward has residuals (x, y); its transpose has the rule's residuals r:

        (x, y), x_dot -> J(x) x_dot        r = forward(x, y)        r, y_bar -> J(x)^T y_bar
    """
    call, count = site.call, len(site.avals)
    if not has_own_vjp(call.rules):
        return same_residuals, transposed_tangent(site, _tangent_map(site))
    found = traced_vjp(call, site)

    def residuals_of(residuals: Values, levels: Levels) -> tuple[list[Any], Levels]:
        call.rules.record("vjp forward", vjp_rule_of(call))
        results = residuals[count:] if uses_results else None
        return only_residuals(found, residuals[:count], results, levels)

    kept = tuple(n for n, has in zip(nonzero, site.has_tangent, strict=True) if has)
    everything = (True,) * len(found.pullback.out_avals)
    return residuals_of, found.pullback.restrict(kept, everything)


# ------------------------------------------------------------------------------------------------------ derived rules
@derives("jvp", "vjp")
def by_vjp(call: Call, primals: Values, tangents: Values) -> Pushed:
    """The transpose of the pullback at the residuals r of the forward half: y_dot = (J^T)^T x_dot = J x_dot."""
    site = site_of(call, primals, nonzero(tangents))
    found = traced_vjp(call, site)
    if named_residuals(call, site) is not None:
        outs, dots = by_named_vjp(call, site, found, primals, select(tangents, site.perturbed))
        return outs, _with_zeros(outs, dots, site.has_tangent)
    outs = bind_value(call, site, found.values, primals)
    uses_results = found.values is None and found.residuals_from_results is not None

    def make() -> LinearMap:
        build = lambda: _program_by_vjp(site, found, uses_results)
        effects = _jax.effects_of(found.residuals) | found.pushforward.effects
        return _pushforward(site, site.has_tangent, uses_results, build, effects)

    linear_map = call.rules.cache.get(("derived pushforward", site), make)
    levels = _levels(call, site.perturbed, site.has_tangent, with_results=uses_results)
    residuals = [*primals, *(outs if uses_results else ())]
    dots = apply(linear_map, residuals, select(tangents, site.perturbed), levels)
    return outs, _with_zeros(outs, dots, site.has_tangent)


def _program_by_vjp(site: Site, found: TracedVjp, uses_results: bool) -> Any:
    """(operands, results if used, tangents) -> tangents: forward half of the VJP rule, then its transposed pullback."""
    own = site.results.avals if uses_results else ()
    operands, count = len(site.avals), len(site.avals) + len(own)

    def run(*args: Any) -> list[Any]:
        residuals, _ = only_residuals(found, args[:operands], args[operands:count] if own else None, ())
        return _jax.evaluate(found.pushforward.program, *residuals, *args[count:])

    return _jax.trace(run, [*site.avals, *own, *found.pushforward.in_avals], f"{site.call.rules.name}_jvp")


@derives("jvp", "transpose")
def by_transpose(call: Call, primals: Values, tangents: Values) -> Pushed:
    """The primitive applied to the tangents of its linear operands. Other operands need the impl.

    For y = A(z) x: y_dot = A(z) x_dot + (dA(z)/dz z_dot) x. The first term is the primitive itself, the second the
    derivative of the impl.
    """
    linear = call.linear_mask()
    perturbed = nonzero(tangents)
    in_linear = [p and is_linear for p, is_linear in zip(perturbed, linear, strict=True)]
    in_others = tuple(p and not is_linear for p, is_linear in zip(perturbed, linear, strict=True))
    if any(in_others) and not call.rules.has("impl"):
        raise not_linear(call.rules, "jvp", select(call.names(), in_others))
    outs = call.rules.primitive.bind(*primals, call=call)
    dots = [_jax.zero_tangent(out) for out in outs]
    if any(in_linear):
        directions = [_direction(x, t) for x, t in zip(primals, tangents, strict=True)]
        pushed = expand(select(directions, linear), linear, primals.__getitem__)
        dots = call.rules.primitive.bind(*pushed, call=call)
    if any(in_others):
        others = _impl_dots(call, primals, tangents, in_others, outs)
        dots = [_jax.add_tangents(a, b) for a, b in zip(dots, others, strict=True)]
    return outs, dots


def _direction(primal: Any, tangent: Any) -> Any:
    """A tangent as an operand. That of an integer, which has none, is an integer zero: add(x, 2) has x_dot = add(x_dot, 0)."""
    if _jax.has_tangent(_jax.typeof(primal)):
        return instantiate([tangent])[0]
    return _jax.zeros(_jax.typeof(primal))


@derives("jvp", "impl")
def by_impl(call: Call, primals: Values, tangents: Values) -> Pushed:
    """JAX's derivative of the impl. If a kernel computes the value, it still does: only the tangent uses the impl."""
    if has_own_vjp(call.rules):
        return by_rule(call, primals, tangents)  # with the impl's JVP rule, whose transpose is the VJP rule
    perturbed = nonzero(tangents)
    if call.rules.kernels() or call.how not in ("", "vmap") or not impl_runs(call):
        outs = call.rules.primitive.bind(*primals, call=call)
        return outs, _impl_dots(call, primals, tangents, perturbed, outs)
    derivative, nonzero_out = _jax.jvp_program(impl_program(call, [_jax.typeof(x) for x in primals]), perturbed)
    found = _jax.evaluate(derivative, *primals, *select(tangents, perturbed))
    count = len(found) - sum(nonzero_out)
    outs, dots = found[:count], found[count:]
    return outs, _with_zeros(outs, dots, nonzero_out)


def _impl_dots(call: Call, primals: Values, tangents: Values, perturbed: Mask, outs: Values) -> list[Any]:
    """J x_dot by JAX's derivative of the impl. Its primal outputs are known, so only the equations of J x_dot run."""
    derivative, nonzero_out = _jax.jvp_program(impl_program(call, [_jax.typeof(x) for x in primals]), perturbed)
    args = [*primals, *select(tangents, perturbed)]
    dots = _jax.evaluate_needed(derivative, [False] * len(outs), args)[len(outs) :]
    return _with_zeros(outs, dots, nonzero_out)


def _with_zeros(outs: Values, dots: Values, nonzero: Sequence[bool]) -> list[Any]:
    """A tangent for each result: the given nonzero ones, and JAX's zeros elsewhere."""
    return expand(dots, nonzero, lambda i: _jax.zero_tangent(outs[i]))
