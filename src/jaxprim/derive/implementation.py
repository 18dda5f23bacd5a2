"""Result types and programs of a primitive, from its impl, kernels, host function and abstract eval.

abstract eval   given, else by tracing the impl (or a kernel)
program         kernel of the platform, else impl, else host function behind a callback
under a vmap    vmap of the program, or as the primitive's batching word or rule says
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax

from jaxprim import _host, _jax, _trees
from jaxprim._avals import complete, same_type, short, union_varying
from jaxprim._calls import Call
from jaxprim._errors import BadCall, RuleMissing, RuleWrong, header, message
from jaxprim._levels import axes_of, batch_program, batched_avals
from jaxprim._origin import named
from jaxprim._results import Results, fit, read_avals, read_outputs, returned_avals
from jaxprim._rules import Rule, RuleSet, call_author
from jaxprim.derive import vmapped

# Host functions and foreign kernels lose the varying axes of their operands inside shard_map.
_OPAQUE = frozenset(
    {"pure_callback", "io_callback", "ffi_call", "host_call", "pallas_call", "custom_call", "triton_kernel_call"}
)


@dataclass(frozen=True)
class Traced:
    """A traced implementation."""

    program: Any
    results: Results


# ----------------------------------------------------------------------------------------------------- result types
def results(call: Call, avals: Sequence[Any]) -> Results:
    """The result types of one element of a call (its innermost, without batch levels)."""
    with axes_of(call.levels):
        return call.rules.cache.get(("results", call.base, tuple(avals)), lambda: _results(call.base, avals))


def _results(call: Call, avals: Sequence[Any]) -> Results:
    refuse_other_types(call, avals, avals)
    found = _find_results(call, avals)
    call.note_result_tree(found.tree)
    return found


def refuse_other_types(call: Call, avals: Sequence[Any], values: Sequence[Any]) -> None:
    """Refuse operands that are no arrays; a type is None where JAX knows none for the value."""
    for name, aval, value in zip(call.names(), avals, values, strict=True):
        if aval is None or not _jax.is_array_type(aval):
            raise BadCall(
                message(
                    f"{call.rules.name}: operand '{name}' is no array.",
                    got=_trees.describe(value) if aval is None else str(aval),
                    expected="an array or a number, in any pytree",
                    why="mutable refs and hijax types are not supported yet" if aval is not None else None,
                    rule=call.rules.implementation_author,
                    write=call.rules.signature.with_param(name.split("[")[0].split(".")[0])
                    if aval is None
                    else f"{name}[...]  # the value that it holds",
                )
            )


def _find_results(call: Call, avals: Sequence[Any]) -> Results:
    rule = call.rules.given.get("abstract_eval")
    source = _traceable(call)
    if rule is None:
        if source is None:
            raise _no_abstract_eval(call)
        return _traced(call, source, avals).results
    declared = _declared(call, rule, avals)
    if source is not None:
        _compare(call, rule, source, declared, _traced(call, source, avals).results, avals)
    return declared


def _declared(call: Call, rule: Rule, avals: Sequence[Any]) -> Results:
    call.rules.record("abstract_eval")
    operands = call.operands([_jax.strip(aval) for aval in avals])
    with _jax.at_once():
        declared = call_author(call.rules, "abstract eval", rule.author, *operands, **call.params)
    found = read_avals(call.rules.name, rule.author, declared)
    return Results(complete(found.avals, avals), found.tree)


def _compare(
    call: Call, declared_by: Rule, source: Rule, declared: Results, real: Results, avals: Sequence[Any]
) -> None:
    names = declared.names()
    if declared.tree != real.tree:
        raise RuleWrong(
            message(
                f"{call.rules.name}: abstract eval and the implementation disagree on the structure of the results.",
                got=f"{_trees.describe(declared.value)} from abstract eval",
                expected=f"{_trees.describe(real.value)} from the implementation, {named(source.author)}",
                rule=declared_by.author,
                write=_aval_line(call, real, avals),
            )
        )
    for name, said, is_ in zip(names, declared.avals, real.avals, strict=True):
        if not same_type(said, is_):
            raise RuleWrong(
                message(
                    f"{call.rules.name}: abstract eval and the implementation disagree on the type of {name}.",
                    got=f"{short(said)} from abstract eval",
                    expected=f"{short(is_)} from the implementation, {named(source.author)}",
                    rule=declared_by.author,
                    write=_aval_line(call, real, avals),
                )
            )


def _aval_line(call: Call, results: Results, avals: Sequence[Any]) -> str:
    operands = [(name, aval) for name, aval in zip(call.names(), avals, strict=True) if name.isidentifier()]
    return f"{returned_avals(results, operands)}  # or leave it out: it is derived from the implementation"


def _no_abstract_eval(call: Call) -> RuleMissing:
    rules = call.rules
    operands = rules.signature.names(len(call.tree.children()))
    arguments = ", ".join([*operands, *(["*", *call.params] if call.params else [])])
    first = next((name for name in call.names() if name.isidentifier()), "x")
    return RuleMissing(
        message(
            f"{rules.name}: its abstract eval is missing, so the type of its result is not known.",
            got=rules.listed,
            expected="an abstract eval, or an impl",
            why="it is derived from an impl, which JAX can trace"
            + (", unlike a host function" if rules.has("host") else ""),
            rule=rules.implementation_author,
            write=f"@{rules.name}.def_abstract_eval  # def _({arguments}): return jax.ShapeDtypeStruct({first}.shape, {first}.dtype)",
        )
    )


# -------------------------------------------------------------------------------------------------- implementations
def _traceable(call: Call) -> Rule | None:
    """The implementation that JAX can trace: the impl, or a kernel where there is neither impl nor host function."""
    given = call.rules.given
    if "impl" in given or "host" in given or "abstract_eval" in given:
        return given.get("impl")
    return next(iter(call.rules.kernels().values()), None)


def _traced(call: Call, rule: Rule, avals: Sequence[Any]) -> Traced:
    """Trace an impl or kernel on operands of these types."""
    key = ("traced", rule, call, tuple(avals))
    return call.rules.cache.get(key, lambda: _trace(call, rule, avals))


def _trace(call: Call, rule: Rule, avals: Sequence[Any]) -> Traced:
    tree: list[Any] = []

    def run(*leaves: Any) -> list[Any]:
        out = _call(call, rule, call.operands(leaves))
        if out is None:
            raise _returned_nothing(call, rule)
        flat, out_tree = jax.tree.flatten(out)
        tree.append(out_tree)
        return [_as_array(call, rule, leaf) for leaf in flat]

    program = _jax.trace(run, avals, f"{call.rules.name}_{rule.name}")
    refuse_tracers(call, rule, program)
    _refuse_effects(call, rule, program)
    axes = union_varying(avals)
    if axes and any(_jax.uses(program, name) for name in _OPAQUE):
        inner = program
        program = _jax.trace(
            lambda *xs: [_jax.cast_varying(x, axes) for x in _jax.evaluate(inner, *xs)], avals, "varying"
        )
    return Traced(program, Results(_jax.out_avals(program), tree[0]))


def _call(call: Call, rule: Rule, operands: Sequence[Any]) -> Any:
    kind = "impl" if rule.name == "impl" else "kernel"
    try:
        return call_author(call.rules, kind, rule.author, *operands, **call.params)
    except Exception as error:
        if not _jax.asks_for_value(error):
            raise
        raise _asks_for_value(call, rule, kind) from error


def _asks_for_value(call: Call, rule: Rule, kind: str) -> RuleWrong:
    rules = call.rules
    required = [name for name, default in rules.signature.operands.items() if default is inspect.Parameter.empty]
    defaulted = [f"{name}={value!r}" for name, value in rules.signature.operands.items() if name not in required]
    return RuleWrong(
        message(
            f"{rules.name}: the {kind} asks for the value of an operand, but it is traced.",
            got=f"operands {', '.join(call.names())}",
            expected="operands that are data; what decides about code or shapes is a static param, after a `*`",
            why="an operation is compiled for all values; a host function sees values, and may branch on them",
            rule=rule.author,
            write=header(rule.author, ", ".join([*required, "*", *defaulted]))
            if defaulted
            else f"@{rules.name}.def_host",
        )
    )


def _returned_nothing(call: Call, rule: Rule) -> RuleWrong:
    return RuleWrong(
        message(
            f"{call.rules.name}: the implementation returned nothing.",
            got="None",
            expected="arrays, in any pytree",
            why="operations are pure: what has no result does nothing",
            rule=rule.author,
            write="return result",
        )
    )


def _refuse_effects(call: Call, rule: Rule, program: Any) -> None:
    effects = _jax.refused_effects(program)
    if effects:
        raise RuleWrong(
            message(
                f"{call.rules.name}: the implementation has side effects.",
                got=", ".join(effects),
                expected="a pure function (jax.debug.print is allowed)",
                why="operations are pure: JAX may drop, merge or repeat them",
                rule=rule.author,
                write="return result, value  # and use the value where the primitive is called",
            )
        )


def _as_array(call: Call, rule: Rule, leaf: Any) -> Any:
    try:
        _jax.typeof(leaf)
    except TypeError:
        raise RuleWrong(
            message(
                f"{call.rules.name}: the implementation returned something that is no array.",
                got=_trees.describe(leaf),
                expected="arrays, in any pytree",
                rule=rule.author,
                write="return jnp.asarray(result)",
            )
        ) from None
    return leaf


def refuse_tracers(call: Call, rule: Rule, program: Any) -> None:
    """A rule that closes over a traced value would leak it into other traces: it must be an operand."""
    for tracer in _jax.closed_over_tracers(program):
        operands = call.rules.signature.names(len(call.tree.children()))
        raise BadCall(
            message(
                f"{call.rules.name}: the {_KINDS.get(rule.name, 'kernel')} closes over a traced value.",
                got=f"{short(tracer.aval)} (traced)",
                expected="operands, static params and concrete arrays only",
                why="rules are traced once and used in many traces",
                rule=rule.author,
                write=f"{call.rules.name}({', '.join(operands)}, value)  # the value as one more operand",
            )
        )


_KINDS = {"impl": "impl", "jvp": "JVP rule", "vjp": "VJP rule", "batching": "batch rule", "transpose": "transpose rule"}


def implementation(call: Call, platform: str | None) -> Rule:
    """The implementation that runs on a platform: its kernel, else the impl, else the host function."""
    rules = call.rules
    if call.using is not None:
        return rules.given[call.using]
    kernels = rules.kernels()
    found = kernels.get(platform or "") or rules.given.get("impl") or rules.given.get("host")
    if found is None and platform is None and kernels:
        found = next(iter(kernels.values()))
    if found is None:
        raise RuleMissing(
            message(
                f"{rules.name}: not registered for {platform}; registered: {', '.join(_platforms(rules)) or 'none'}.",
                got=rules.listed,
                expected=f"a kernel for '{platform}', or an impl as fallback",
                rule=rules.implementation_author,
                write=f"@{rules.name}.def_impl",
            )
        )
    return found


def _platforms(rules: RuleSet) -> list[str]:
    return sorted({*rules.kernels(), *(platform or "any" for platform in rules.lowerings())})


# --------------------------------------------------------------------------------------------------------- programs
def program(call: Call, avals: Sequence[Any], platform: str | None = None) -> Any:
    """The program of a call under its batch levels, on operands of these types."""
    key = ("program", call, tuple(avals), platform)
    with axes_of(call.levels):
        return call.rules.cache.get(key, lambda: _program(call, avals, platform))


def named_axes(call: Call, avals: Sequence[Any]) -> frozenset[Any]:
    """The named axes that the collectives of an implementation use. A vmap binds its own, and its program is not made."""
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
        return vmapped.sequential_program(call, avals, expected)
    if call.how == "rule":
        return vmapped.rule_program(call, avals, results(call, call.element_avals(avals))).program
    if call.how in ("expand_dims", "broadcast_all", "elementwise"):
        return _leading_program(call, avals, platform)
    return batch_program(program(call.parent, level.element(avals), platform), level)


def _base_program(call: Call, avals: Sequence[Any], platform: str | None) -> Any:
    rule = implementation(call, platform)
    expected = results(call, avals)
    if rule.name == "host":
        return _host_program(call, rule, avals, expected)
    traced = _traced(call, rule, avals)
    if rule is not _traceable(call):
        _check_kernel(call, rule, traced, expected)
    if traced.results.avals == expected.avals:
        return traced.program

    def settle(*leaves: Any) -> list[Any]:  # weak types and varying axes as declared
        outs = _jax.evaluate(traced.program, *leaves)
        return [fit(out, aval) for out, aval in zip(outs, expected.avals, strict=True)]

    return _jax.trace(settle, avals, call.rules.name)


def _check_kernel(call: Call, rule: Rule, traced: Traced, expected: Results) -> None:
    read_outputs(
        call.rules.name, "impl" if rule.name == "impl" else "kernel", rule.author, traced.results.value, expected
    )


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
    rule = implementation(base, platform)
    spread = _jax.trace(lambda *xs: vmapped.spread(call, xs), avals, "spread")
    wide = _jax.out_avals(spread)
    element = results(call, call.element_avals(avals))
    sizes = tuple(level.axis.size for level in reversed(call.levels))
    expected = Results(tuple(_jax.ShapedArray((*sizes, *a.shape), a.dtype) for a in element.avals), element.tree)
    if rule.name == "host":
        inner = _host_program(base, rule, wide, expected)
    else:
        traced = _traced(base, rule, wide)
        vmapped.check_leading(call, rule.author, traced.results, expected)
        inner = traced.program
    return _jax.trace(lambda *xs: _jax.evaluate(inner, *_jax.evaluate(spread, *xs)), avals, call.rules.name)
