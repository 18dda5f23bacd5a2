"""Abstract evaluation of the main primitive, and lowering of all three."""

from __future__ import annotations

from functools import partial
from typing import Any

from jaxprim import _jax
from jaxprim._calls import Call
from jaxprim._levels import Levels, batched_avals
from jaxprim._linear import LinearMap
from jaxprim._rules import RuleSet
from jaxprim.derive import implementation


def abstract_eval(*avals: Any, call: Call) -> tuple[list[Any], set[Any]]:
    """JAX's abstract eval: result types, and the named axes that collectives in the implementation use."""
    found = implementation.results(call, call.element_avals(avals))
    effects = _jax.axis_effects(implementation.named_axes(call, avals))
    return list(batched_avals(call.levels, found.avals)), effects


def lower(ctx: Any, *args: Any, call: Call, platform: str | None = None) -> Any:
    """The lowering of an application: its implementation's program."""
    rule = implementation.implementation(call, platform)
    if rule.name != "host":  # a host function is counted when it runs
        call.rules.record(rule.name)
    return _jax.lower_program(ctx, implementation.program(call, ctx.avals_in, platform), *args)


def lower_linear(ctx: Any, *args: Any, map: LinearMap, levels: Levels) -> Any:  # noqa: A002
    """The lowering of an application of a linear map."""
    map.owner.record_linear(map)
    return _jax.lower_program(ctx, map.under(levels), *args)


def lower_anywhere(ctx: Any, *args: Any, call: Call) -> Any:
    """The lowering for platforms without a kernel of their own."""
    given = call.rules.given
    if "impl" not in given and "host" not in given:
        implementation.implementation(call, _jax.platform_of(ctx))  # raises, with the platform's name
    return lower(ctx, *args, call=call)


def register(rules: RuleSet) -> None:
    """Write the lowerings of kernels and raw lowering rules into JAX's tables."""
    for platform in rules.kernels():
        _jax.register_lowering(rules.primitive, partial(lower, platform=platform), platform)
    for platform, rule in rules.lowerings().items():
        _jax.register_lowering(rules.primitive, partial(_raw, rule.author, platform), platform)


def _raw(author: Any, platform: str | None, ctx: Any, *args: Any, call: Call) -> Any:
    if call.using is not None:
        return lower(ctx, *args, call=call)
    if call.levels:  # a raw lowering knows one element only; its batch is a loop over the primitive
        return _jax.lower_program(ctx, implementation.program(call, ctx.avals_in), *args)
    call.rules.record(f"lowering[{platform or ''}]")
    return author(ctx, *args, **call.params)
