"""Transposition: JAX's transpose rule of the main primitive, for operands in which it is linear.

given          the author's transpose rule for the operands declared linear; its own transpose is the primitive
from impl      linear_transpose of the impl

For y = A(z) x, with x the linear operands and z the others, it is x_bar = A(z)^T y_bar. A VJP rule cannot stand in for
it: for a nonlinear operation the pullback is the transpose of the derivative, and the result would be silently wrong.

Functions under ``@derives("transpose", ...)``: (`Transposition`) -> cotangents of the undefined operands, None for
others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxprim import _jax, _trees
from jaxprim._avals import nonzero
from jaxprim._calls import Call
from jaxprim._errors import BadCall, RuleMissing, message
from jaxprim._levels import Level, axes_of, batched_avals
from jaxprim._linear import LinearMap, fit_cotangent, same_residuals
from jaxprim._masks import Mask, expand, select
from jaxprim._programs import transpose
from jaxprim._returned import fit, read_cotangents, run_with_zeros, wanted_cotangents
from jaxprim._rule_kinds import form_of
from jaxprim._rules import endless
from jaxprim.derive.abstract_eval import results
from jaxprim.derive.programs import impl_program
from jaxprim.derive.table import choose, derives

Values = Sequence[Any]


@dataclass(frozen=True)
class Transposition:
    """The arguments of JAX's transpose rule.

    Attributes:
        call: the application.
        cotangents: the cotangents of the m results; some may be JAX's zeros.
        args: the n operands; the known ones are values.
        avals: the types of the n operands.
        undefined: which of the n operands are unknown and get a cotangent.
    """

    call: Call
    cotangents: Values
    args: Values
    avals: Values
    undefined: Mask

    @property
    def known(self) -> list[Any]:
        return [arg for arg, undefined in zip(self.args, self.undefined, strict=True) if not undefined]


def transpose_rule(cotangents: Values, *args: Any, call: Call, **_: Any) -> list[Any]:
    """JAX's transpose rule: cotangents of the undefined operands, None for the others."""
    undefined = tuple(_jax.is_undefined(arg) for arg in args)
    avals = [arg.aval if u else _jax.typeof(arg) for arg, u in zip(args, undefined, strict=True)]
    if not any(nonzero(cotangents)):
        return expand(_zeros(select(avals, undefined)), undefined, lambda _: None)
    with axes_of(call.levels):
        try:
            return _transpose(Transposition(call, cotangents, args, avals, undefined))
        except RecursionError:
            if "transpose" not in call.rules.given:
                raise
            raise endless(call.rules, form_of("transpose"), call.rules.given["transpose"].author) from None


def _transpose(asked: Transposition) -> list[Any]:
    choice = choose(asked.call.rules, "transpose")
    if choice.status == "given" and not _is_declared(asked):
        choice = choose(asked.call.rules, "transpose", given=False)
    if choice.row is None:
        raise _missing(asked.call, select(asked.call.names(), asked.undefined))
    return choice.derive(asked)


def _is_declared(asked: Transposition) -> bool:
    """Whether the primitive was declared linear in all the operands that are undefined."""
    _refuse_unknown_operand(asked.call)
    return all(select(asked.call.linear_mask(), asked.undefined))


def _zeros(avals: Values) -> list[Any]:
    return [_jax.JaxZero(_jax.cotangent_aval(aval)) for aval in avals]


@derives("transpose", "impl")
def by_impl(asked: Transposition) -> list[Any]:
    program = impl_program(asked.call, [_jax.strip(aval) for aval in asked.avals])
    cts = [fit_cotangent(ct, aval) for ct, aval in zip(asked.cotangents, _jax.out_avals(program), strict=True)]
    outs = transpose(program, asked.undefined, asked.known, cts)
    return expand(outs, asked.undefined, lambda _: None)


@derives("transpose", "transpose")
def by_rule(asked: Transposition) -> list[Any]:
    """The author's rule, as the transpose of the linear map (z, x) -> A(z) x with the other operands z as residuals."""
    call, linear = asked.call, asked.call.linear_mask()
    elements = call.element_avals(asked.avals)
    linear_map = call.rules.cache.get(("linear", call.base, elements), lambda: _map_of(call.base, elements))
    others = [not is_linear for is_linear in linear]
    levels = tuple(
        Level(level.axis, (*select(level.in_dims, others), *select(level.in_dims, linear)), level.out_dims)
        for level in call.levels
    )
    outs = batched_avals(call.levels, results(call, elements).avals)
    kept = nonzero(asked.cotangents)
    cts = [fit_cotangent(ct, aval) for ct, aval, n in zip(asked.cotangents, outs, kept, strict=True) if n]
    wanted = tuple(select(asked.undefined, linear))
    found = linear_map.pull_back(select(asked.args, others), cts, kept, wanted, levels)
    return expand(found, asked.undefined, lambda _: None)


def _map_of(call: Call, avals: Values) -> LinearMap:
    """The primitive as a linear map: (other operands, linear operands) -> results, and its transpose rule."""
    linear = call.linear_mask()
    others = [not is_linear for is_linear in linear]
    found = results(call, avals)
    count = sum(others)
    residuals, inputs = select(avals, others), [_jax.strip(a) for a in select(avals, linear)]
    cts = [_jax.cotangent_aval(aval) for aval in found.avals]

    def push(*args: Any) -> list[Any]:
        others_by_place = expand(args[:count], others, lambda _: None)
        whole = expand(args[count:], linear, others_by_place.__getitem__)
        return call.rules.primitive.bind(*whole, call=call)

    def pull(*args: Any) -> list[Any]:
        return _run_rule(call, avals, args[:count], args[count:])

    pushforward = LinearMap(
        call.rules,
        "pushforward",
        residuals=count,
        in_avals=inputs,
        out_avals=[_jax.strip(aval) for aval in found.avals],
        build=lambda: _jax.trace(push, [*residuals, *inputs], call.rules.name),
        transposed=lambda: (same_residuals, pullback),
    )
    pullback = LinearMap(
        call.rules,
        "pullback",
        residuals=count,
        in_avals=cts,
        out_avals=[_jax.cotangent_aval(aval) for aval in inputs],
        build=lambda: _jax.trace(pull, [*residuals, *cts], f"{call.rules.name}_transpose"),
        transposed=lambda: (same_residuals, pushforward),
    )
    return pushforward


def _run_rule(call: Call, avals: Values, others: Values, cotangents: Values) -> list[Any]:
    """Call ``rule(y_bar, *other_operands, **params)``, and read the cotangents of the linear operands."""
    rule, form = call.rules.given["transpose"], form_of("transpose")
    linear = call.linear_mask()
    leaves = expand(others, [not is_linear for is_linear in linear], lambda _: None)
    names, trees = call.rules.signature.names(len(call.tree.children())), call.tree.children()
    by_name = list(zip(names, trees, _trees.split(trees, leaves), strict=True))
    given = [_trees.unflatten(tree, part) for name, tree, part in by_name if name not in call.rules.linear]
    tree = _trees.tuple_tree([tree for name, tree, _ in by_name if name in call.rules.linear])

    types = lambda: _trees.unflatten(tree, [_jax.strip(aval) for aval in select(avals, linear)])

    def run(cts: Sequence[Any]) -> Any:
        y_bar = _trees.unflatten(results(call, avals).tree, cts)
        return rule.fn(y_bar, given, types, call.params)

    value = run_with_zeros(run, cotangents)
    own = tree.children()[0] if len(tree.children()) == 1 else tree
    like = lambda: _trees.leaf_names(tree, [f"avals[{i}]" for i in range(len(tree.children()))])
    wanted = wanted_cotangents(
        own, lambda: select(call.names(), linear), select(avals, linear), "linear operands", like
    )
    found = read_cotangents(call.rules.name, form.phrase, rule.author, value, tree, wanted)
    return [_jax.zeros(aval) if ct is None else fit(ct, aval) for ct, aval in zip(found, wanted.avals, strict=True)]


def _refuse_unknown_operand(call: Call) -> None:
    operands = call.rules.signature.names(len(call.tree.children()))
    unknown = [name for name in call.rules.linear if name not in operands]
    if unknown:
        raise BadCall(
            message(
                f"{call.rules.name}: it is declared linear in '{unknown[0]}', which is not an operand.",
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
            f"{rules.name}: it is transposed with respect to {', '.join(operands)}, but {declared}.",
            got=rules.listed,
            expected=f"a transpose rule, linear in {', '.join(operands)}",
            why="linear_transpose was called, or a rule applied it to a tangent; JAX could transpose an impl instead,"
            " but there is none",
            rule=rules.implementation_author,
            write=f"@{rules.name}.def_transpose(linear=({', '.join(repr(o) for o in operands)},))",
        )
    )
