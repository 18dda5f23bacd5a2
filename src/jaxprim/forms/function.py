"""Function operands: which operands of an operation are functions, and what these are called with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxprim._eager import EagerCalls
from jaxprim._errors import BadCall, RuleWrong, message
from jaxprim._functions import Function, Owner
from jaxprim._hoisting import hoisted
from jaxprim._rule_kinds import form_of
from jaxprim._rules import Rule, RuleSet, call_author
from jaxprim._signature import CallSignature
from jaxprim._trees import describe

FORM = form_of("function")


def function_rule(rules: RuleSet, operand: Any, author: Callable[..., Any]) -> Rule:
    """``rule(*operands, **params)`` returns the arguments of a function operand, or a list of such tuples.

    In canonical form: (operands, params, function) -> `Function`.
    """
    owner = Owner(rules.name, operand, author)

    def hoist(operands: Sequence[Any], params: Mapping[str, Any], fn: Any) -> Function:
        if isinstance(fn, Function):
            return fn
        return hoisted(fn, _calls(rules, owner, call_author(rules, FORM, author, *operands, **params)), owner, operands)

    for given in rules.given.values():
        _refuse_opaque(rules, operand, given)
    return Rule("function", author, hoist, operands=(operand,))


def refuse_functions(rules: RuleSet, rule: Rule) -> None:
    """Refuse an implementation that cannot call the function operands that are declared."""
    for operand in rules.functions:
        _refuse_opaque(rules, operand, rule)


def with_functions(rules: RuleSet, operands: Sequence[Any], params: Mapping[str, Any]) -> tuple[Any, ...]:
    """The operands of a call, with functions as pytrees."""
    given = list(operands)
    places = _places(rules)
    for place, rule in places.items():
        given[place] = rule.fn(operands, params, given[place])
    return tuple(given)


class WithFunctions:
    """The calls of an operation with function operands.

    Args:
        calls: the calls with pytrees in their places.
        rules: the operation's rules.
    """

    def __init__(self, calls: EagerCalls, rules: RuleSet) -> None:
        self._calls, self._rules = calls, rules
        self._signature: CallSignature | None = None
        self._places: tuple[int, ...] = ()

    def call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run the operation, or stage it inside a trace. A function that was hoisted before is found at once."""
        signature = self._rules.signature
        if self._signature is not signature:
            self._signature, self._places = signature, tuple(_places(self._rules))
        if all(place < len(args) and type(args[place]) is Function for place in self._places):
            return self._calls.call(args, kwargs)
        operands, params = signature.bind(self._rules.name, args, kwargs)
        return self._calls.call(with_functions(self._rules, operands, params), params)


def _places(rules: RuleSet) -> dict[int, Rule]:
    """Which operands are functions."""
    names = [*rules.signature.operands]
    found: dict[int, Rule] = {}
    for rule in rules.given.values():
        if rule.kind == "function" and rule.operands:
            if rule.operands[0] not in names:
                raise _no_operand(rules, rule, names)
            found[names.index(rule.operands[0])] = rule
    return found


def _calls(rules: RuleSet, owner: Owner, declared: Any) -> list[tuple[Any, ...]]:
    calls = declared if isinstance(declared, list) else [declared]
    if not calls or not all(isinstance(call, tuple) for call in calls):
        raise _no_arguments(rules, owner, declared)
    return calls


# --------------------------------------------------------------------------------------------------------------- messages
def _refuse_opaque(rules: RuleSet, operand: str, rule: Rule) -> None:
    """Refuse an implementation that cannot call a function operand."""
    if rule.kind != "host" and not rule.is_opaque:
        return
    raise BadCall(
        message(
            f"{rules.name}: the {rule.phrase} cannot call the function operand '{operand}'.",
            got=f"a {rule.phrase}, and def_function('{operand}')",
            expected="an impl, which JAX traces",
            why=f"'{operand}' is JAX code, which a {rule.phrase} cannot run",
            rule=rule.author,
            write=f"@{rules.name}.def_impl",
        )
    )


def refuse_other_names(rules: RuleSet, operand: Any) -> None:
    """Refuse a function operand that is not named by a string."""
    if isinstance(operand, str):
        return
    raise BadCall(
        message(
            f"{rules.name}: def_function needs the name of an operand.",
            got=describe(operand),
            expected="a string",
            defined=rules.made,
            write=f"@{rules.name}.def_function('f')",
        )
    )


def _no_operand(rules: RuleSet, rule: Rule, names: Sequence[str]) -> BadCall:
    return BadCall(
        message(
            f"{rules.name}: def_function names no operand.",
            got=f"'{(rule.operands or ('',))[0]}'",
            expected=f"one of {', '.join(names)}" if names else "an operand, but there is none with a name",
            rule=rule.author,
            write=f"@{rules.name}.def_function('{names[0] if names else 'f'}')",
        )
    )


def _no_arguments(rules: RuleSet, owner: Owner, declared: Any) -> RuleWrong:
    return RuleWrong(
        message(
            f"{rules.name}: the {FORM.phrase} must return the arguments of '{owner.operand}'.",
            got=describe(declared),
            expected="a tuple of arrays or types, or a list of such tuples if it is called in several ways",
            rule=owner.declared,
            write="return (x,)",
        )
    )
