"""The program of a call on one platform, under its batch levels.

no vmap         the program of the implementation that runs on the platform
under a vmap    vmap of that program, or a program made by the primitive's batching word or rule
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxprim import _host, _jax
from jaxprim._calls import Call
from jaxprim._levels import axes_of, batch_program, batched_avals
from jaxprim._returned import Results, fit, read_outputs
from jaxprim._rule_kinds import form_of
from jaxprim._rules import Rule
from jaxprim.derive import batched_programs
from jaxprim.derive.abstract_eval import results, traced_source
from jaxprim.derive.implementation import which_runs
from jaxprim.derive.table import ANY, choose
from jaxprim.derive.traced import Traced, traced


def program(call: Call, avals: Sequence[Any], platform: str | None = None) -> Any:
    """The program of a call under its batch levels, on operands of these types."""
    if knows_no_mesh(call, avals):
        with _jax.without_mesh():
            return _typed(call.resized(()), list(map(_jax.without_its_mesh, avals)), platform)
    return _typed(call, avals, platform)


def knows_no_mesh(call: Call, avals: Sequence[Any]) -> bool:
    """Whether a program is made without the mesh of its operands: by its sharding rule, it is computed part by part."""
    return "sharding" in call.rules.given and any(map(_jax.has_mesh, avals))


def _typed(call: Call, avals: Sequence[Any], platform: str | None = None) -> Any:
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
    return _typed(call if impl_runs(call) else call.by("impl"), avals)


def effects(call: Call, avals: Sequence[Any]) -> frozenset[Any]:
    """The effects of an implementation: the named axes that its collectives use, debug prints, checks.

    A vmap binds its own axis: axes(vmap f over a) = axes(f) - {a}. So the program under vmap need not be made.
    """
    if traced_source(call) is None:
        return frozenset()
    if call.how != "vmap" or call.parent is None:
        return _jax.effects_of(program(call, avals))
    level = call.levels[-1]
    with axes_of(call.levels):
        return _jax.without_axes(effects(call.parent, level.element(avals)), [level.axis.name])


def named_axes(call: Call, avals: Sequence[Any]) -> frozenset[Any]:
    """The named axes that the collectives of an implementation use, without the axes that its own vmaps bind."""
    return _jax.axes_in(effects(call, avals))


# --------------------------------------------------------------------------------------------------- what JAX sees
def shown_program(avals: Sequence[Any], *, call: Call, **_: Any) -> dict[str, Any]:
    """The params of an equation on operands of these types, with the programs that JAX sees.

    ``jaxpr`` is the program where no platform has an implementation of its own, and ``kernel`` that of the kernel on this
    machine's platform, if there is one. A raw lowering has no program.
    """
    return call.rules.cache.get(("shown", call, tuple(avals)), lambda: _shown_program(call, avals))


def _shown_program(call: Call, avals: Sequence[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"call": call, "jaxpr": None}
    if choose(call.rules, "lowering", ANY, given=False).row is not None or call.using is not None:
        found["jaxpr"] = _shown(call, avals)
    platform = _jax.default_platform()
    if call.using is None and platform in call.rules.kernels():
        found["kernel"] = _late(call, avals, lambda: program(call, avals, platform))
    return found


def _shown(call: Call, avals: Sequence[Any]) -> Any:
    """The program of a call, made now if it is traced from an impl: the settings of JAX that hold here belong to it.

    A vmap of a program is made late, if JAX looks into it. So are those that are not traced from an impl.
    """
    if call.rules.has("impl") and impl_runs(call) and not knows_no_mesh(call, avals):
        if call.how != "vmap" or call.parent is None:
            return program(call, avals)
        level = call.levels[-1]
        with axes_of(call.levels):
            parent = _shown(call.parent, level.element(avals))
        return _late(call, avals, lambda: batch_program(parent, level))
    return _late(call, avals, lambda: program(call, avals))


def _late(call: Call, avals: Sequence[Any], make: Callable[[], Any]) -> Any:
    def under_levels() -> Any:
        with axes_of(call.levels):
            return make()

    return _jax.late_program(under_levels, call.rules.primitive, avals, call=call)


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
    return batch_program(_typed(call.parent, level.element(avals), platform), level)


def _base_program(call: Call, avals: Sequence[Any], platform: str | None) -> Any:
    rule = which_runs(call, platform)
    expected = results(call, avals)
    if rule.kind == "host":
        return _host_program(call, rule, avals, expected, lambda some: results(call, some))
    found = traced(call, rule, avals)
    if rule is not traced_source(call):
        _compare_types(call, rule, found, expected, avals)
    if found.results.avals == expected.avals:
        return found.program

    def settle(*leaves: Any) -> list[Any]:  # weak types and varying axes as declared
        outs = _jax.evaluate(found.program, *leaves)
        return [fit(out, aval) for out, aval in zip(outs, expected.avals, strict=True)]

    return _jax.trace(settle, avals, call.rules.name)


def _compare_types(call: Call, rule: Rule, found: Traced, expected: Results, avals: Sequence[Any]) -> None:
    """Refuse an implementation whose results have other types than the operation's."""
    operands = lambda: call.in_reach(avals)
    read_outputs(call.rules.name, form_of(rule.kind), rule.author, found.results.value, expected, operands)


def _host_program(
    call: Call, rule: Rule, avals: Sequence[Any], expected: Results, of_part: Callable[[Sequence[Any]], Results]
) -> Any:
    """A call of the host function.

    Args:
        call: the application, without batch levels.
        rule: the host function.
        avals: the types of the operands.
        expected: the types of the results.
        of_part: finds the types of the results from those of the operands, for a part whose shapes are not known yet.
    """
    run, settings = _host.callback(call, rule, expected), _jax.settings()

    def unsized(*leaves: Any) -> list[Any]:
        with settings(), _jax.without_mesh():
            found = of_part([_jax.ShapedArray(leaf.shape, leaf.dtype) for leaf in leaves])
        return _host.callback(call, rule, found)(*leaves)

    def on_host(*leaves: Any) -> list[Any]:
        plain = [jax.random.key_data(x) if _jax.is_key(_jax.typeof(x)) else x for x in leaves]
        outs = _jax.host_call(run, expected.avals, *plain, named=call, unsized=unsized)
        return [fit(out, aval) for out, aval in zip(outs, expected.avals, strict=True)]

    return _jax.trace(on_host, avals, call.rules.name)


def _leading_program(call: Call, avals: Sequence[Any], platform: str | None) -> Any:
    """The implementation on operands with leading batch axes, which it handles itself."""
    base = call.base
    rule = which_runs(base, platform)
    spread = _jax.trace(lambda *xs: batched_programs.spread(call, xs), avals, "spread")
    wide = _jax.out_avals(spread)
    element = results(call, call.element_avals(avals))
    expected = _of_batch(tuple(level.axis.size for level in reversed(call.levels)), element)
    if rule.kind == "host":
        inner = _host_program(base, rule, wide, expected, lambda some: _of_any_batch(base, some, len(call.levels)))
    else:
        found = traced(base, rule, wide)
        batched_programs.check_leading(call, rule.author, found.results, expected)
        inner = found.program
    return _jax.trace(lambda *xs: _jax.evaluate(inner, *_jax.evaluate(spread, *xs)), avals, call.rules.name)


def _of_batch(sizes: Sequence[Any], element: Results) -> Results:
    return Results(tuple(_jax.ShapedArray((*sizes, *a.shape), a.dtype) for a in element.avals), element.tree)


def _of_any_batch(call: Call, wide: Sequence[Any], rank: int) -> Results:
    """The types of the results of operands with so many leading batch axes."""
    sizes = np.broadcast_shapes(*(aval.shape[:rank] for aval in wide))
    return _of_batch(sizes, results(call, [_jax.ShapedArray(aval.shape[rank:], aval.dtype) for aval in wide]))
