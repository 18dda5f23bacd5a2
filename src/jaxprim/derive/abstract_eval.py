"""Abstract eval: the result types, either given or found by tracing.

Functions under ``@derives("abstract_eval", ...)``: (call, avals) -> `Results`, for one element of a call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jaxprim import _jax, _trees
from jaxprim._avals import in_operands_mesh, refuse_byte_order, same_type, short
from jaxprim._calls import Call
from jaxprim._errors import BadCall, RuleMissing, RuleWrong, message
from jaxprim._levels import axes_of
from jaxprim._origin import named
from jaxprim._returned import Results, read_avals, returned_avals
from jaxprim._rule_kinds import form_of
from jaxprim._rules import Rule, call_author
from jaxprim.derive.sharding import explicit_types
from jaxprim.derive.table import Choice, choose, derives
from jaxprim.derive.traced import traced


def results(call: Call, avals: Sequence[Any]) -> Results:
    """The result types of one innermost element of a call, without batch levels."""
    with axes_of(call.levels):
        return call.rules.cache.get(("results", call.base, tuple(avals)), lambda: _results(call.base, avals))


def _results(call: Call, avals: Sequence[Any]) -> Results:
    refuse_other_types(call, avals, avals)
    found = _find_results(call, avals)
    call.note_result_tree(found.tree)
    return found


def refuse_other_types(call: Call, avals: Sequence[Any], values: Sequence[Any]) -> None:
    """Refuse operands that are not arrays. A type is None if JAX knows none for the value."""
    for index, (aval, value) in enumerate(zip(avals, values, strict=True)):
        if aval is None or not _jax.is_array_type(aval):
            name = call.names()[index]
            refuse_byte_order(call.rules.name, name, value, rule=call.rules.implementation_author)
            raise BadCall(
                message(
                    f"{call.rules.name}: operand '{name}' is not an array.",
                    got=_trees.describe(value) if aval is None else str(aval),
                    expected="an array or a number, in any pytree",
                    why="mutable refs and hijax types are not supported yet" if aval is not None else None,
                    rule=call.rules.implementation_author,
                    write=_line_for(call, name, value) if aval is None else f"{name}[...]  # the value it holds",
                )
            )


def _line_for(call: Call, name: str, value: Any) -> str:
    """The line to write for an operand that is not an array: a static param, or a pytree class where it may hold arrays."""
    if name == "self" or _trees.is_unregistered(value):
        return _trees.registration(value)
    children = call.tree.children()
    for operand, tree in zip(call.rules.signature.names(len(children)), children, strict=True):
        if name.startswith((f"{operand}.", f"{operand}[")) and _trees.is_equinox(tree):
            return f"{operand}, static = eqx.partition({operand}, eqx.is_array)  # and 'static' as a static param"
    # Only what is no array is static, not the arrays beside it.
    return call.rules.signature.with_param(_trees.identifiers([name])[0])


def _find_results(call: Call, avals: Sequence[Any]) -> Results:
    choice = choose(call.rules, "abstract_eval")
    if choice.row is None:
        raise _no_abstract_eval(call)
    if not any(map(_jax.has_mesh, avals)):
        return choice.derive(call, avals)
    return _in_mesh(call, choice, avals)


def _in_mesh(call: Call, choice: Choice, avals: Sequence[Any]) -> Results:
    """The result types in the mesh of the operands.

    A traced implementation says how its results are split. An operation with a sharding rule, or one that JAX cannot look
    into, is computed part by part, so it is traced without a mesh, and the split says it.
    """
    source = None if "sharding" in call.rules.given else traced_source(call)
    if source is not None:
        found = choice.derive(call, avals)
        return found if choice.status == "derived" else Results(_as_traced(call, source, avals, found), found.tree)
    with _jax.without_mesh():
        plain = choice.derive(call, list(map(_jax.without_its_mesh, avals)))
    return Results(explicit_types(call, avals, plain.avals), plain.tree)


def _as_traced(call: Call, source: Rule, avals: Sequence[Any], declared: Results) -> tuple[Any, ...]:
    """The declared types, split as the results of the implementation are."""
    real = traced(call, source, avals).results
    return tuple(
        _jax.split_over(aval, _jax.explicit_axes(is_)) if any(_jax.explicit_axes(is_)) else aval
        for aval, is_ in zip(declared.avals, real.avals, strict=True)
    )


@derives("abstract_eval", "abstract_eval")
def declared(call: Call, avals: Sequence[Any]) -> Results:
    """The types that the author declares, compared with the impl if there is one."""
    rule, impl = call.rules.given["abstract_eval"], call.rules.given.get("impl")
    found = _declared(call, rule, avals)
    if impl is not None:
        _compare(call, rule, impl, found, traced(call, impl, avals).results, avals)
    return found


@derives("abstract_eval", "impl")
def of_impl(call: Call, avals: Sequence[Any]) -> Results:
    return traced(call, call.rules.given["impl"], avals).results


@derives("abstract_eval", "kernel")
def of_kernel(call: Call, avals: Sequence[Any]) -> Results:
    return traced(call, next(iter(call.rules.kernels().values())), avals).results


def traced_source(call: Call) -> Rule | None:
    """The implementation that defines the result types; the others are compared with it."""
    if choose(call.rules, "abstract_eval").source == "kernel":
        return next(iter(call.rules.kernels().values()))
    return call.rules.given.get("impl")


def _declared(call: Call, rule: Rule, avals: Sequence[Any]) -> Results:
    call.rules.record("abstract_eval")
    types = [_jax.strip(aval) for aval in avals]

    def declare(leaves: Sequence[Any]) -> Results:
        operands = call.operands(leaves)
        declared = call_author(call.rules, form_of("abstract_eval"), rule.author, *operands, **call.params)
        return read_avals(call.rules.name, rule.author, declared)

    with _jax.at_once():
        found = declare(types) if _can_hold_types(call, types) else _on_tracers(declare, types)
    return Results(in_operands_mesh(found.avals, avals), found.tree)


def _can_hold_types(call: Call, types: Sequence[Any]) -> bool:
    """Whether the operands' classes can be built of types; one that calls ``jnp.asarray`` cannot."""
    try:
        call.operands(types)
    except Exception:  # noqa: BLE001 an author's class may raise anything
        return False
    return True


def _on_tracers(declare: Callable[[Sequence[Any]], Results], types: Sequence[Any]) -> Results:
    """Run an abstract eval on tracers, which have a shape and a dtype too, and are arrays to every class."""
    found: list[Results] = []

    def run(*leaves: Any) -> list[Any]:
        found.append(declare(leaves))
        return []

    _jax.trace(run, types, "abstract_eval")
    return found[0]


def _compare(
    call: Call, declared_by: Rule, source: Rule, declared: Results, real: Results, avals: Sequence[Any]
) -> None:
    if declared.tree != real.tree:
        raise RuleWrong(
            message(
                f"{call.rules.name}: abstract eval and the implementation disagree on the structure of the results.",
                got=f"{_describe(declared)} from abstract eval",
                expected=f"{_describe(real)} from the implementation, {named(source.author)}",
                rule=declared_by.author,
                write=_aval_line(call, real, avals),
            )
        )
    for name, said, is_ in zip(declared.names(), declared.avals, real.avals, strict=True):
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


def _describe(results: Results) -> str:
    return _trees.describe(results.value)


def _aval_line(call: Call, results: Results, avals: Sequence[Any]) -> str:
    return f"{returned_avals(results, call.in_reach(avals))}  # or leave it out: it is derived from the implementation"


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
            why="it can be derived from an impl, which JAX can trace"
            + (", unlike a host function" if rules.has("host") else ""),
            rule=rules.implementation_author,
            write=f"@{rules.name}.def_abstract_eval  # def _({arguments}): return jax.ShapeDtypeStruct({first}.shape, {first}.dtype)",
        )
    )
