"""Trace an implementation to a program, and refuse side effects and other mistakes that tracing shows."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax

from jaxprim import _jax, _trees
from jaxprim._avals import short, union_varying
from jaxprim._calls import Call
from jaxprim._errors import BadCall, RuleWrong, header, message
from jaxprim._returned import Results, require_array, require_pure
from jaxprim._rule_kinds import form_of
from jaxprim._rules import Rule, call_author


@dataclass(frozen=True)
class Traced:
    """A traced implementation: (operand leaves) -> result leaves, and the types and tree of the results."""

    program: Any
    results: Results


def traced(call: Call, rule: Rule, avals: Sequence[Any]) -> Traced:
    """Trace an impl or kernel on operands of these types."""
    key = ("traced", rule, call, tuple(avals))
    return call.rules.cache.get(key, lambda: _trace(call, rule, avals))


def _trace(call: Call, rule: Rule, avals: Sequence[Any]) -> Traced:
    tree: list[Any] = []
    who = f"{call.rules.name}: the implementation"

    def run(*leaves: Any) -> list[Any]:
        out = _call(call, rule, call.operands(leaves))
        if out is None:
            raise _returned_nothing(call, rule)
        flat, out_tree = jax.tree.flatten(out)
        tree.append(out_tree)
        return [require_array(who, leaf, rule.author, partial(_arrays_only, leaf, out_tree)) for leaf in flat]

    program = _jax.trace(run, avals, f"{call.rules.name}_{rule.label}")
    refuse_tracers(call, rule, program)
    use_it = "return result, value  # and use the value where the primitive is called"
    require_pure(who, program, rule.author, use_it)
    axes = union_varying(avals)
    if axes and any(_jax.uses(program, name) for name in _jax.words.OPAQUE):
        inner = program
        program = _jax.trace(
            lambda *xs: [_jax.cast_varying(x, axes) for x in _jax.evaluate(inner, *xs)], avals, "varying"
        )
    return Traced(program, Results(_jax.out_avals(program), tree[0]))


def _call(call: Call, rule: Rule, operands: Sequence[Any]) -> Any:
    try:
        return call_author(call.rules, form_of(rule.kind), rule.author, *operands, **call.params)
    except Exception as error:
        if not _jax.asks_for_value(error):
            raise
        raise _asks_for_value(call, rule) from error


def _asks_for_value(call: Call, rule: Rule) -> RuleWrong:
    rules, signature = call.rules, call.rules.signature
    required = [name for name, default in signature.operands.items() if default is inspect.Parameter.empty]
    defaulted = [f"{name}={value!r}" for name, value in signature.operands.items() if name not in required]
    expected = "operands used only as data; a value that decides branches or shapes must be a static param, after a `*`"
    why = "an operation is compiled once for all values; a host function gets the values and may branch on them"
    write = f"@{rules.name}.def_host"
    if signature.word is not None:
        expected = "arguments used only as data, wherever JAX transforms the function"
        why = "only an eager call sees values; a value that is no array can be a non-differentiable argument"
        write = "y = jax.lax.cond(predicate, f, g, x)  # or jnp.where(predicate, y1, y2)"
        if defaulted:
            write = signature.with_param(next(name for name in signature.operands if name not in required))
    elif defaulted:
        write = header(rule.author, ", ".join([*required, "*", *defaulted]))
    return RuleWrong(
        message(
            f"{rules.name}: the {rule.phrase} needs the value of an operand, but the operand is traced.",
            got=f"operands {', '.join(call.names())}",
            expected=expected,
            why=why,
            rule=rule.author,
            write=write,
        )
    )


def _returned_nothing(call: Call, rule: Rule) -> RuleWrong:
    return RuleWrong(
        message(
            f"{call.rules.name}: the implementation returned nothing.",
            got="None",
            expected="arrays, in any pytree",
            why="operations are pure: without a result, an operation does nothing",
            rule=rule.author,
            write="return result",
        )
    )


def _arrays_only(leaf: Any, tree: _trees.TreeDef) -> str:
    """The line to write for a result that is not an array."""
    if _trees.is_unregistered(leaf):
        return _trees.registration(leaf)
    if _trees.is_equinox(tree):
        return "return eqx.filter(result, eqx.is_array)  # its caller knows the rest, and combines them"
    return "return arrays  # without the functions" if callable(leaf) else "return jnp.asarray(result)"


def refuse_tracers(call: Call, rule: Rule, program: Any) -> None:
    """Refuse a rule that closes over a traced value, which would leak into other traces. It must be an operand."""
    for tracer in _jax.closed_over_tracers(program):
        operands = call.rules.signature.names(len(call.tree.children()))
        raise BadCall(
            message(
                f"{call.rules.name}: the {form_of(rule.kind).phrase} closes over a traced value.",
                got=f"{short(tracer.aval)} (traced)",
                expected="operands, static params and concrete arrays only",
                why="rules are traced once and used in many traces",
                rule=rule.author,
                write=f"{call.rules.name}({', '.join(operands)}, value)  # the value as one more operand",
            )
        )
