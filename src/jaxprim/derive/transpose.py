"""Transposition: JAX's transpose rule of the main primitive, for operands in which it is linear.

given          the author's transpose rule, in the operands declared linear; the transpose of *that* is the primitive
from vjp       only for operands declared linear (a VJP rule of a nonlinear operation is no transpose)
from impl      linear_transpose of the impl
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxprim import _jax, _trees
from jaxprim._calls import Call
from jaxprim._errors import BadCall, RuleMissing, message
from jaxprim._levels import Level, axes_of, batched_avals
from jaxprim._linear import LinearMap, fit_cotangent, same_residuals
from jaxprim._masks import expand, select
from jaxprim._results import fit, read_linear, run_with_zeros, wanted_cotangents
from jaxprim._rules import call_author
from jaxprim.derive import implementation
from jaxprim.derive.jvp import linear_mask

Values = Sequence[Any]


def transpose(cotangents: Values, *args: Any, call: Call) -> list[Any]:
    """JAX's transpose rule: cotangents of the undefined operands, None for the others."""
    undefined = [_jax.is_undefined(arg) for arg in args]
    avals = [arg.aval if u else _jax.typeof(arg) for arg, u in zip(args, undefined, strict=True)]
    zeros = [_jax.JaxZero(_jax.cotangent_aval(a)) if u else None for a, u in zip(avals, undefined, strict=True)]
    if all(isinstance(ct, _jax.JaxZero) for ct in cotangents):
        return zeros
    with axes_of(call.levels):
        return _transpose(call, cotangents, args, avals, undefined, zeros)


def _transpose(
    call: Call, cotangents: Values, args: Values, avals: Values, undefined: Sequence[bool], zeros: Values
) -> list[Any]:
    linear = linear_mask(call)
    if call.rules.has("transpose"):
        _refuse_unknown_operand(call)
    if call.rules.has("transpose") and all(is_linear for is_linear, u in zip(linear, undefined, strict=True) if u):
        return _by_rule(call, cotangents, args, avals, undefined, linear, zeros)
    if call.rules.has("impl"):
        return _by_impl(call, cotangents, args, avals, undefined)
    raise _missing(call, [name for name, u in zip(call.names(), undefined, strict=True) if u])


def _by_impl(call: Call, cotangents: Values, args: Values, avals: Values, undefined: Sequence[bool]) -> list[Any]:
    program = implementation.program(call, [_jax.strip(aval) for aval in avals])
    known = [arg for arg, u in zip(args, undefined, strict=True) if not u]
    cts = [fit_cotangent(ct, aval) for ct, aval in zip(cotangents, _jax.out_avals(program), strict=True)]
    outs = _jax.transpose(program, undefined, known, cts)
    return expand(outs, undefined, lambda _: None)


def _by_rule(
    call: Call,
    cotangents: Values,
    args: Values,
    avals: Values,
    undefined: Sequence[bool],
    linear: Sequence[bool],
    zeros: Values,
) -> list[Any]:
    elements = call.element_avals(avals)
    linear_map = call.rules.cache.get(("linear", call.base, elements), lambda: _map_of(call.base, elements))
    order = [not is_linear for is_linear in linear]
    levels = tuple(
        Level(level.axis, (*select(level.in_dims, order), *select(level.in_dims, linear)), level.out_dims)
        for level in call.levels
    )
    outs = batched_avals(call.levels, implementation.results(call, elements).avals)
    nonzero = tuple(not isinstance(ct, _jax.JaxZero) for ct in cotangents)
    cts = [fit_cotangent(ct, aval) for ct, aval, n in zip(cotangents, outs, nonzero, strict=True) if n]
    wanted = tuple(select(undefined, linear))
    found = linear_map.pull_back(select(args, order), cts, nonzero, wanted, levels)
    return expand(found, undefined, zeros.__getitem__)


def _map_of(call: Call, avals: Values) -> LinearMap:
    """The primitive as a linear map: (other operands, linear operands) -> results, and its transpose rule."""
    linear = linear_mask(call)
    others = [not is_linear for is_linear in linear]
    results = implementation.results(call, avals)
    count = sum(others)
    residuals, inputs = select(avals, others), [_jax.strip(a) for a in select(avals, linear)]
    cts = [_jax.cotangent_aval(aval) for aval in results.avals]

    def push(*args: Any) -> list[Any]:
        whole = expand(args[count:], linear, lambda i: args[sum(others[:i])])
        return call.rules.primitive.bind(*whole, call=call)

    def pull(*args: Any) -> list[Any]:
        return _run_rule(call, avals, linear, args[:count], args[count:])

    pushforward = LinearMap(
        call.rules,
        "pushforward",
        count,
        inputs,
        [_jax.strip(aval) for aval in results.avals],
        lambda: _jax.trace(push, [*residuals, *inputs], call.rules.name),
        lambda _: (same_residuals, pullback),
    )
    pullback = LinearMap(
        call.rules,
        "pullback",
        count,
        cts,
        [_jax.cotangent_aval(aval) for aval in inputs],
        lambda: _jax.trace(pull, [*residuals, *cts], f"{call.rules.name}_transpose"),
        lambda _: (same_residuals, pushforward),
    )
    return pushforward


def _run_rule(call: Call, avals: Values, linear: Sequence[bool], others: Values, cotangents: Values) -> list[Any]:
    """``rule(y_bar, *other_operands, **params)`` -> cotangents of the linear operands."""
    rule = call.rules.given["transpose"]
    results = implementation.results(call, avals)
    leaves = expand(others, [not is_linear for is_linear in linear], lambda _: None)
    names = call.rules.signature.names(len(call.tree.children()))
    trees = list(call.tree.children())
    operands = iter(leaves)
    parts = [[next(operands) for _ in range(tree.num_leaves)] for tree in trees]
    given = [
        _trees.unflatten(tree, part)
        for name, tree, part in zip(names, trees, parts, strict=True)
        if name not in call.rules.linear
    ]
    tree = _trees.tuple_tree([tree for name, tree in zip(names, trees, strict=True) if name in call.rules.linear])

    def run(cts: Sequence[Any]) -> Any:
        y_bar = _trees.unflatten(results.tree, cts)
        return call_author(call.rules, "transpose rule", rule.author, y_bar, *given, **call.params)

    value = run_with_zeros(run, cotangents)
    tree, value = _trees.bare(tree, value)
    wanted = wanted_cotangents(tree, lambda: select(call.names(), linear), select(avals, linear), "linear operands")
    found = read_linear(call.rules.name, "transpose rule", rule.author, value, wanted)
    return [_jax.zeros(aval) if ct is None else fit(ct, aval) for ct, aval in zip(found, wanted.avals, strict=True)]


def _refuse_unknown_operand(call: Call) -> None:
    operands = call.rules.signature.names(len(call.tree.children()))
    unknown = [name for name in call.rules.linear if name not in operands]
    if unknown:
        raise BadCall(
            message(
                f"{call.rules.name}: it is declared linear in '{unknown[0]}', which is no operand.",
                got=f"linear={call.rules.linear!r}",
                expected=f"some of the operands {', '.join(operands)}",
                rule=call.rules.given["transpose"].author,
                write=f"@{call.rules.name}.def_transpose(linear={operands[:1]!r})",
            )
        )


def _missing(call: Call, operands: Sequence[str]) -> RuleMissing:
    rules = call.rules
    declared = f"is declared linear in {', '.join(rules.linear)} only" if rules.linear else "has no transpose rule"
    return RuleMissing(
        message(
            f"{rules.name}: it is transposed with respect to {', '.join(operands)}, and {declared}.",
            got=rules.listed,
            expected=f"a transpose rule, linear in {', '.join(operands)}",
            why="linear_transpose was asked for, or a rule applied it to a tangent; an impl could be transposed instead,"
            " and there is none",
            rule=rules.implementation_author,
            write=f"@{rules.name}.def_transpose(linear=({', '.join(repr(o) for o in operands)},))",
        )
    )
