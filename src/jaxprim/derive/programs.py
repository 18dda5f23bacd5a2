"""The program of a call on one platform, under its batch levels.

no vmap         the program of the implementation that runs on the platform
under a vmap    vmap of that program, or a program made by the primitive's batching word or rule
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

from jaxprim import _host, _jax
from jaxprim._calls import Call
from jaxprim._levels import axes_of, batch_program, batched_avals
from jaxprim._returned import Results, fit, read_outputs
from jaxprim._rule_kinds import form_of
from jaxprim._rules import Rule
from jaxprim.derive import batched_programs
from jaxprim.derive.abstract_eval import results, traced_source
from jaxprim.derive.implementation import which_runs
from jaxprim.derive.table import choose
from jaxprim.derive.traced import Traced, traced


def program(call: Call, avals: Sequence[Any], platform: str | None = None) -> Any:
    """The program of a call under its batch levels, on operands of these types."""
    key = ("program", call, tuple(avals), platform)
    with axes_of(call.levels):
        return call.rules.cache.get(key, lambda: _program(call, avals, platform))


def impl_runs(call: Call) -> bool:
    """Whether the impl computes the value on platforms that have no kernel of their own."""
    if call.using is not None:
        return call.using == "impl"
    return choose(call.rules, "lowering", None, given=False).source == "impl"


def impl_program(call: Call, avals: Sequence[Any]) -> Any:
    """The program of the impl under the batch levels of a call, even if another implementation computes the value."""
    return program(call if impl_runs(call) else call.by("impl"), avals)


def named_axes(call: Call, avals: Sequence[Any]) -> frozenset[Any]:
    """The named axes that the collectives of an implementation use, without the axes that its own vmaps bind.

    axes(vmap f over a) = axes(f) - {a}, so the program under vmap need not be made.
    """
    if not call.rules.has("impl"):
        return frozenset()
    if call.how != "vmap" or call.parent is None:
        return _jax.named_axes(program(call, avals))
    level = call.levels[-1]
    with axes_of(call.levels):
        return named_axes(call.parent, level.element(avals)) - {level.axis.name}


def _program(call: Call, avals: Sequence[Any], platform: str | None) -> Any:
    if call.parent is None:
        return _base_program(call, avals, platform)
    level = call.levels[-1]
    if call.how == "sequential":
        expected = batched_avals(call.levels, results(call, call.element_avals(avals)).avals)
        return batched_programs.sequential_program(call, avals, expected)
    if call.how == "rule":
        return batched_programs.rule_program(call, avals, results(call, call.element_avals(avals))).program
    if call.how in ("expand_dims", "broadcast_all", "elementwise"):
        return _leading_program(call, avals, platform)
    return batch_program(program(call.parent, level.element(avals), platform), level)


def _base_program(call: Call, avals: Sequence[Any], platform: str | None) -> Any:
    rule = which_runs(call, platform)
    expected = results(call, avals)
    if rule.kind == "host":
        return _host_program(call, rule, avals, expected)
    found = traced(call, rule, avals)
    if rule is not traced_source(call):
        _compare_types(call, rule, found, expected)
    if found.results.avals == expected.avals:
        return found.program

    def settle(*leaves: Any) -> list[Any]:  # weak types and varying axes as declared
        outs = _jax.evaluate(found.program, *leaves)
        return [fit(out, aval) for out, aval in zip(outs, expected.avals, strict=True)]

    return _jax.trace(settle, avals, call.rules.name)


def _compare_types(call: Call, rule: Rule, found: Traced, expected: Results) -> None:
    """Refuse an implementation whose results have other types than the operation's."""
    read_outputs(call.rules.name, form_of(rule.kind), rule.author, found.results.value, expected)


def _host_program(call: Call, rule: Rule, avals: Sequence[Any], expected: Results) -> Any:
    run = _host.callback(call, rule, expected)

    def on_host(*leaves: Any) -> list[Any]:
        plain = [jax.random.key_data(x) if _jax.is_key(_jax.typeof(x)) else x for x in leaves]
        outs = _jax.host_call(run, expected.avals, *plain)
        return [fit(out, aval) for out, aval in zip(outs, expected.avals, strict=True)]

    return _jax.trace(on_host, avals, call.rules.name)


def _leading_program(call: Call, avals: Sequence[Any], platform: str | None) -> Any:
    """The implementation on operands with leading batch axes, which it handles itself."""
    base = call.base
    rule = which_runs(base, platform)
    spread = _jax.trace(lambda *xs: batched_programs.spread(call, xs), avals, "spread")
    wide = _jax.out_avals(spread)
    element = results(call, call.element_avals(avals))
    sizes = tuple(level.axis.size for level in reversed(call.levels))
    expected = Results(tuple(_jax.ShapedArray((*sizes, *a.shape), a.dtype) for a in element.avals), element.tree)
    if rule.kind == "host":
        inner = _host_program(base, rule, wide, expected)
    else:
        found = traced(base, rule, wide)
        batched_programs.check_leading(call, rule.author, found.results, expected)
        inner = found.program
    return _jax.trace(lambda *xs: _jax.evaluate(inner, *_jax.evaluate(spread, *xs)), avals, call.rules.name)
