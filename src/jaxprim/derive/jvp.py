"""Forward mode: JAX's JVP rule of the main primitive.

given            the author's rule. Where the reverse mode has a rule of its own, a linear equation
                 (``NAME_pushforward``) is emitted, whose transpose is that VJP rule; else the rule's operations
                 are, which JAX transposes
from transpose   linear operands: the primitive applied to the tangent
from vjp         the transpose of the pullback
from impl        JAX differentiates the impl
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jaxprim import _jax
from jaxprim._calls import Call
from jaxprim._errors import RuleMissing
from jaxprim._levels import Level, Levels, axes_of
from jaxprim._linear import LinearMap, Prelude, apply
from jaxprim._masks import Mask, expand, select
from jaxprim._results import Results
from jaxprim.derive import forward as forward_rule
from jaxprim.derive import implementation
from jaxprim.derive.forward import Forward
from jaxprim.derive.loop import tangent_avals
from jaxprim.derive.pullback import reverse_rule
from jaxprim.derive.reverse import Reverse, residuals_alone, reverse
from jaxprim.derive.table import choose, missing

Values = Sequence[Any]


def jvp(primals: Values, tangents: Values, *, call: Call) -> tuple[list[Any], list[Any]]:
    """JAX's JVP rule: result and tangent leaves, tangents that are zero as JAX's zeros."""
    choice = choose(call.rules, "jvp")
    by_source = {"": by_rule, "vjp": by_vjp, "transpose": by_transpose, "impl": by_impl}
    if choice.status == "missing":
        raise missing(call.rules, "jvp")
    rule = by_rule if choice.source == "impl" and has_own_vjp(call) else by_source[choice.source]
    with axes_of(call.levels):
        return rule(call, primals, tangents)


def has_own_vjp(call: Call) -> bool:
    """Whether reverse mode runs a rule of its own, instead of transposing what forward mode does."""
    choice = choose(call.rules, "vjp")
    # The impl as the source of the VJP alone: its JVP comes from elsewhere.
    return choice.status == "given" or (choice.source == "impl" and choose(call.rules, "jvp").source != "impl")


# -------------------------------------------------------------------------------------------------- the author's rule
def by_rule(call: Call, primals: Values, tangents: Values) -> tuple[list[Any], list[Any]]:
    if not call.levels and _jax.is_eager() and _jax.is_concrete([*primals, *tangents]):
        call.rules.record("jvp")
        outs, dots = forward_rule.run_rule(call, primals, tangents)
        return outs, [_zero_like(out) if dot is None else dot for out, dot in zip(outs, dots, strict=True)]
    perturbed = _perturbed(tangents)
    avals = call.element_avals([_jax.typeof(x) for x in primals])
    found = forward_rule.forward(call, avals, perturbed)
    outs = call.rules.primitive.bind(*primals, call=call)
    linear_map = call.rules.cache.get(
        ("pushforward", call.base, tuple(avals), perturbed), lambda: _map_of(call.base, avals, perturbed, found)
    )
    dots = _push(call, linear_map, found.nonzero, primals, outs if found.uses_results else (), tangents, perturbed)
    return outs, _complete(outs, dots, found.nonzero)


def _push(
    call: Call, linear_map: LinearMap, nonzero: Mask, primals: Values, outs: Values, tangents: Values, perturbed: Mask
) -> list[Any]:
    """Apply a pushforward: one equation where reverse mode has its own rule, else the rule's operations."""
    levels = _levels(call, perturbed, nonzero, with_results=bool(outs))
    inputs = select(tangents, perturbed)
    if has_own_vjp(call):
        return apply(linear_map, [*primals, *outs], inputs, levels)
    call.rules.record("jvp")
    return _jax.evaluate(linear_map.under(levels), *primals, *outs, *inputs)


def _levels(call: Call, perturbed: Mask, nonzero: Mask, with_results: bool) -> Levels:
    def inputs(level: Level) -> tuple[int | None, ...]:
        results = level.out_dims if with_results else ()
        return (*level.in_dims, *results, *select(level.in_dims, perturbed))

    return tuple(Level(level.axis, inputs(level), tuple(select(level.out_dims, nonzero))) for level in call.levels)


def _map_of(call: Call, avals: Values, perturbed: Mask, found: Forward) -> LinearMap:
    results = implementation.results(call, avals)
    axes = _jax.named_axes(found.program)
    return _pushforward(call, avals, perturbed, results, found.nonzero, found.uses_results, lambda: found.program, axes)


def _pushforward(
    call: Call,
    avals: Values,
    perturbed: Mask,
    results: Results,
    nonzero: Mask,
    uses_results: bool,
    build: Callable[[], Any],
    named_axes: frozenset[Any],
) -> LinearMap:
    """The map (operands, results if used, tangents) -> tangents, whose transpose is the VJP rule."""
    count = len(avals) + (len(results.avals) if uses_results else 0)
    tangents, dots = tangent_avals(select(avals, perturbed)), tangent_avals(select(results.avals, nonzero))

    def transposed(_: LinearMap) -> tuple[Prelude, LinearMap]:
        return _transposed(call, avals, perturbed, nonzero, uses_results)

    return LinearMap(call.rules, "pushforward", count, tangents, dots, build, transposed, named_axes=named_axes)


def _transposed(
    call: Call, avals: Values, perturbed: Mask, nonzero: Mask, uses_results: bool
) -> tuple[Prelude, LinearMap]:
    found = reverse(call, avals, perturbed)
    has_tangent = [_jax.has_tangent(aval) for aval in found.results.avals]
    count = len(avals)

    def prelude(residuals: Values, levels: Levels) -> tuple[list[Any], Levels]:
        call.rules.record("vjp forward", reverse_rule(call).origin)
        results = residuals[count:] if uses_results else None
        return residuals_alone(found, residuals[:count], results, levels)

    kept = tuple(n for n, has in zip(nonzero, has_tangent, strict=True) if has)
    everything = (True,) * len(found.pullback.out_avals)
    return prelude, found.pullback.restrict(kept, everything)


# ------------------------------------------------------------------------------------------------------ derived rules
def by_vjp(call: Call, primals: Values, tangents: Values) -> tuple[list[Any], list[Any]]:
    """The transpose of the pullback, at the residuals of the forward half."""
    perturbed = _perturbed(tangents)
    avals = call.element_avals([_jax.typeof(x) for x in primals])
    found = reverse(call, avals, perturbed)
    nonzero = tuple(_jax.has_tangent(aval) for aval in found.results.avals)
    outs = call.rules.primitive.bind(*primals, call=call)
    uses_results = found.residuals_from_results is not None
    results = outs if uses_results else ()
    linear_map = call.rules.cache.get(
        ("derived pushforward", call.base, tuple(avals), perturbed),
        lambda: _pushforward(
            call.base,
            avals,
            perturbed,
            found.results,
            nonzero,
            uses_results,
            lambda: _program_by_vjp(call.base, avals, found),
            found.pullback.named_axes,
        ),
    )
    levels = _levels(call, perturbed, nonzero, uses_results)
    dots = apply(linear_map, [*primals, *results], select(tangents, perturbed), levels)
    return outs, _complete(outs, dots, nonzero)


def _program_by_vjp(call: Call, avals: Values, found: Reverse) -> Any:
    results = found.results.avals if found.residuals_from_results is not None else ()
    count = len(avals) + len(results)

    def run(*args: Any) -> list[Any]:
        own = args[len(avals) : count] if results else None
        residuals, _ = residuals_alone(found, args[: len(avals)], own, ())
        return _jax.evaluate(found.pushforward.program, *residuals, *args[count:])

    return _jax.trace(run, [*avals, *results, *found.pushforward.in_avals], f"{call.rules.name}_jvp")


def by_transpose(call: Call, primals: Values, tangents: Values) -> tuple[list[Any], list[Any]]:
    """The primitive applied to the tangents of the operands in which it is linear; others need the impl."""
    linear = linear_mask(call)
    perturbed = _perturbed(tangents)
    in_linear = [p and is_linear for p, is_linear in zip(perturbed, linear, strict=True)]
    in_others = tuple(p and not is_linear for p, is_linear in zip(perturbed, linear, strict=True))
    if any(in_others) and not call.rules.has("impl"):
        raise _not_linear(call, [name for name, p in zip(call.names(), in_others, strict=True) if p])
    outs = call.rules.primitive.bind(*primals, call=call)
    dots = [_zero_like(out) for out in outs]
    if any(in_linear):
        pushed = [
            _instantiate(t) if is_linear else x for x, t, is_linear in zip(primals, tangents, linear, strict=True)
        ]
        dots = call.rules.primitive.bind(*pushed, call=call)
    if any(in_others):
        others = _impl_dots(call, primals, tangents, in_others, outs)
        dots = [_jax.add_tangents(a, b) for a, b in zip(dots, others, strict=True)]
    return outs, dots


def _not_linear(call: Call, operands: Sequence[str]) -> RuleMissing:
    linear = ", ".join(call.rules.linear)
    return missing(
        call.rules,
        "jvp",
        f"{', '.join(operands)} is perturbed; the transpose rule knows the derivative in {linear} alone",
    )


def linear_mask(call: Call) -> list[bool]:
    """Which operand leaves the primitive was declared linear in."""
    names = call.rules.signature.names(len(call.tree.children()))
    return [
        name in call.rules.linear
        for name, subtree in zip(names, call.tree.children(), strict=True)
        for _ in range(subtree.num_leaves)
    ]


def by_impl(call: Call, primals: Values, tangents: Values) -> tuple[list[Any], list[Any]]:
    """JAX's derivative of the impl. Where a kernel computes the value, the kernel still does."""
    perturbed = _perturbed(tangents)
    if call.rules.kernels() or call.how not in ("", "vmap"):
        outs = call.rules.primitive.bind(*primals, call=call)
        return outs, _impl_dots(call, primals, tangents, perturbed, outs)
    program = implementation.program(call, [_jax.typeof(x) for x in primals])
    derivative, nonzero = _jax.jvp_program(program, perturbed)
    found = _jax.evaluate(derivative, *primals, *select(tangents, perturbed))
    count = len(_jax.out_avals(program))
    outs, dots = found[:count], found[count:]
    return outs, _complete(outs, dots, nonzero)


def _impl_dots(call: Call, primals: Values, tangents: Values, perturbed: Mask, outs: Values) -> list[Any]:
    program = implementation.program(call, [_jax.typeof(x) for x in primals])
    derivative, nonzero = _jax.jvp_program(program, perturbed)
    args = [*primals, *select(tangents, perturbed)]
    dots = _jax.evaluate_needed(derivative, [False] * len(outs), args)[len(outs) :]
    return _complete(outs, dots, nonzero)


# ------------------------------------------------------------------------------------------------------------- shared
def _perturbed(tangents: Values) -> Mask:
    return tuple(not isinstance(t, _jax.JaxZero) for t in tangents)


def _zero_like(out: Any) -> Any:
    return _jax.zero_tangent(out)


def _instantiate(t: Any) -> Any:
    return _jax.zeros(t.aval) if isinstance(t, _jax.JaxZero) else t


def _complete(outs: Values, dots: Values, nonzero: Sequence[bool]) -> list[Any]:
    return expand(dots, nonzero, lambda i: _zero_like(outs[i]))
