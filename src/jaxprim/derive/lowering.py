"""Abstract evaluation of the main primitive for JAX, and lowering of all three primitives.

If the platform has a raw lowering rule, it is used. Otherwise we lower the program of the implementation that
`implementation.which_runs` finds in the table.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from jaxprim import _jax
from jaxprim._calls import Call
from jaxprim._levels import Levels, batched_avals
from jaxprim._linear import LinearMap
from jaxprim._rule_kinds import form_of
from jaxprim._rules import RuleSet, endless
from jaxprim.derive.abstract_eval import results
from jaxprim.derive.implementation import which_runs
from jaxprim.derive.on_device import OnDevice, split_of
from jaxprim.derive.programs import effects, program
from jaxprim.derive.table import choose, derives


def abstract_eval_rule(*avals: Any, call: Call, **_: Any) -> tuple[list[Any], frozenset[Any]]:
    """JAX's abstract eval: result types, and the effects of the implementation."""
    found = results(call, call.element_avals(avals))
    return list(batched_avals(call.levels, found.avals)), effects(call, avals)


def lower(ctx: Any, *args: Any, call: Call, jaxpr: Any = None, platform: str | None = None, **_: Any) -> Any:
    """The lowering of an application: its implementation's program."""
    rule = which_runs(call, platform)
    if rule.kind != "host":  # a host function is counted when it runs
        call.rules.record(rule.label)
    is_shown = jaxpr is not None and rule.kind == "impl" and _jax.in_avals(jaxpr) == tuple(ctx.avals_in)

    def whole() -> Any:
        found = jaxpr if is_shown else program(call, ctx.avals_in, platform)
        return _jax.lower_program(ctx, found, *args)

    try:
        split = split_of(call, ctx.avals_in, platform)
        if split is None:
            return whole()
        on_device = OnDevice(call, split, is_on_host=rule.kind == "host")
        return _jax.lower_operation(ctx, split, on_device, whole, args)
    except RecursionError:  # a kernel that applies its own operation
        raise endless(call.rules, form_of(rule.kind), rule.author) from None


def lower_linear(ctx: Any, *args: Any, linear_map: LinearMap, levels: Levels, jaxpr: Any = None) -> Any:
    """The lowering of an application of a linear map."""
    linear_map.owner.record_linear(linear_map)
    return _jax.lower_program(ctx, linear_map.under(levels), *args)


def lower_anywhere(ctx: Any, *args: Any, call: Call, jaxpr: Any = None, **_: Any) -> Any:
    """The lowering for platforms without rules of their own."""
    if choose(call.rules, "lowering", None).row is None and call.using is None:
        which_runs(call, _jax.platform_of(ctx))  # raises, with the platform's name
    return lower(ctx, *args, call=call, jaxpr=jaxpr)


def register(rules: RuleSet) -> None:
    """Write the lowerings of kernels and raw lowering rules into JAX's tables."""
    for platform in rules.kernels():
        _jax.register_lowering(rules.primitive, partial(lower, platform=platform), platform)
    for platform in rules.lowerings():
        _jax.register_lowering(rules.primitive, partial(raw, platform), platform)


@derives("lowering", "lowering")
def raw(platform: str | None, ctx: Any, *args: Any, call: Call, **_: Any) -> Any:
    """The author's raw lowering rule. It handles one element only; a batch is a loop over the primitive."""
    if call.using is not None:
        return lower(ctx, *args, call=call, platform=platform)
    if call.levels:
        return _jax.lower_program(ctx, program(call, ctx.avals_in, platform), *args)
    rule = call.rules.lowerings()[platform]
    call.rules.record(rule.label)
    return rule.author(ctx, *args, **call.params)
