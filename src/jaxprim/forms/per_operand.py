"""One rule per operand, as ``def_jvp(x=f)`` and ``def_vjp(x=f)`` take them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from jaxprim import _jax
from jaxprim._errors import BadCall, RuleMissing, message
from jaxprim._returned import Results, fit, read_linear, wanted_cotangents, wanted_tangents
from jaxprim._rule_kinds import JVP_PER_OPERAND, VJP_PER_OPERAND
from jaxprim._rules import AuthorFn, Rule, RuleSet, call_author
from jaxprim._trees import Flags, leaf_names, stand_in, tuple_tree
from jaxprim._zeros import Zero

PerOperand = Mapping[str, AuthorFn | None]


def _not_differentiable(rules: RuleSet, kind: str, operand: str, given: PerOperand) -> RuleMissing:
    names = {name: getattr(rule, "__name__", None) for name, rule in given.items()} | {operand: "rule"}
    return RuleMissing(
        message(
            f"{rules.name}: it is not differentiable with respect to operand '{operand}'.",
            got=f"rules for {', '.join(given)}",
            expected=f"a rule for {operand}, or {operand}=None if its derivative is zero",
            why=f"def_{kind} was given one rule per operand",
            rule=_first(given),
            write=f"{rules.name}.def_{kind}({', '.join(f'{name}={rule}' for name, rule in names.items())})",
        )
    )


def _refuse_unknown_operand(rules: RuleSet, kind: str, operands: Sequence[str], given: PerOperand) -> None:
    for name in given:
        if name not in operands:
            close = difflib.get_close_matches(name, operands, 1) or operands
            raise BadCall(
                message(
                    f"{rules.name}: def_{kind} was given a rule for '{name}', which is not an operand.",
                    got=f"{name}=",
                    expected=f"operands {', '.join(operands)}",
                    rule=given[name],
                    write=f"{rules.name}.def_{kind}({close[0]}={getattr(given[name], '__name__', None)})",
                )
            )


def _first(per_operand: PerOperand) -> AuthorFn:
    return next((rule for rule in per_operand.values() if rule is not None), lambda: None)


def jvp_per_operand(rules: RuleSet, per_operand: PerOperand) -> Rule:
    """``f(x_dot, y, *primals, **params) -> y_dot`` for each operand."""

    def fn(primals: Any, tangents: Any, perturbed: Flags, params: Mapping[str, Any]) -> Any:
        names = rules.signature.names(len(primals))
        _refuse_unknown_operand(rules, "jvp", names, per_operand)
        y = rules.apply(primals, params)
        leaves, tree = jax.tree.flatten(y)
        wanted = wanted_tangents(Results(tuple(map(_jax.typeof, leaves)), tree))
        total: list[Any] = [Zero(aval) for aval in wanted.avals]
        for name, t, is_perturbed in zip(names, tangents, perturbed.each, strict=True):
            if not is_perturbed:
                continue
            if name not in per_operand:
                raise _not_differentiable(rules, "jvp", name, per_operand)
            rule, form = per_operand[name], JVP_PER_OPERAND.of(name)
            if rule is not None:
                part = call_author(rules, form, rule, t, y, *primals, **params)
                dots = read_linear(rules.name, form.phrase, rule, part, wanted)
                total = [a if b is None else a + fit(b, w) for a, b, w in zip(total, dots, wanted.avals, strict=True)]
        return y, stand_in(tree, total)

    return Rule("jvp", _first(per_operand), fn, form=JVP_PER_OPERAND, operands=tuple(per_operand))


def vjp_per_operand(rules: RuleSet, per_operand: PerOperand) -> Rule:
    """``f(y_bar, y, *primals, **params) -> x_bar`` for each operand."""

    def fn(primals: Any, perturbed: Flags, params: Mapping[str, Any]) -> Any:
        names = rules.signature.names(len(primals))
        _refuse_unknown_operand(rules, "vjp", names, per_operand)
        y = rules.apply(primals, params)
        wanted = perturbed.each
        for name, want in zip(names, wanted, strict=True):
            if want and name not in per_operand:
                raise _not_differentiable(rules, "vjp", name, per_operand)

        def cotangent(name: str, operand: Any, y_bar: Any) -> Any:
            rule, form = per_operand[name], VJP_PER_OPERAND.of(name)
            if rule is None:
                return None
            part = call_author(rules, form, rule, y_bar, y, *primals, **params)
            leaves, tree = jax.tree.flatten(operand)
            labels = lambda: leaf_names(tuple_tree([tree]), [name])
            read = read_linear(
                rules.name, form.phrase, rule, part, wanted_cotangents(tree, labels, [*map(_jax.typeof, leaves)])
            )
            return stand_in(tree, read)

        def pullback(y_bar: Any) -> tuple[Any, ...]:
            each = zip(names, primals, wanted, strict=True)
            return tuple(cotangent(name, operand, y_bar) if want else None for name, operand, want in each)

        return y, pullback

    return Rule("vjp", _first(per_operand), fn, form=VJP_PER_OPERAND, operands=tuple(per_operand))
