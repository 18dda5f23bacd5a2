"""An operation whose functions close over traced values, as one that is made inside a function.

JAX may run a rule long after the operation was applied, when these values mean nothing any more. So such a call has one
more operand, the last: the values. Every rule gets it, and runs with it in the place of what it closes over:

    theta -> op(x)        f(x), which reads theta  ->  f'(x, (theta,))

If JAX differentiates the impl, the derivative in theta follows. A given rule knows nothing of it, so a derivative in a
value that the operation reads is refused.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax

from jaxprim import _jax
from jaxprim._avals import instantiate
from jaxprim._closures import ClosedOver, closed_over, differentiated, ended, first_differentiated, with_values
from jaxprim._errors import BadCall, message
from jaxprim._functions import Owner
from jaxprim._hoisting import hoisted_once
from jaxprim._masks import expand, select
from jaxprim._rule_kinds import BY_NAME
from jaxprim._rules import Rule, RuleSet
from jaxprim._trees import Flags, flatten_like, tuple_tree, with_zero
from jaxprim._zeros import Zero, is_zero


def closing(rules: RuleSet, outer: Sequence[ClosedOver]) -> RuleSet:
    """The rules for one call, which take the values that they close over as their last operand."""
    own = rules.for_one_call()
    own.take({label: _closing_rule(rules, rule, outer) for label, rule in rules.given.items()})
    return own


def _closing_rule(rules: RuleSet, rule: Rule, outer: Sequence[ClosedOver]) -> Rule:
    if BY_NAME[rule.kind].is_implementation or rule.kind == "abstract_eval":
        _refuse_opaque(rules, rule)
        author = _Implementation(rules, rule.author, outer)
        return replace(rule, author=author, fn=author)
    if rule.kind == "batching":
        author = functools.wraps(rule.author)(_batching(rules, rule, outer))
        return replace(rule, author=author, fn=author)
    if rule.kind in _WRAPPERS:
        return replace(rule, fn=_WRAPPERS[rule.kind](rules, rule, outer))
    if BY_NAME[rule.kind].per_operand:
        return rule
    raise _not_closing(rules, rule, outer[0])


class _Implementation:
    """An implementation with one more operand. In all else it is the author's."""

    def __init__(self, rules: RuleSet, author: Callable[..., Any], outer: Sequence[ClosedOver]) -> None:
        self._rules, self._author, self._outer = rules, author, outer
        self.__signature__ = _with_one_more(author)

    def __call__(self, *operands: Any, **params: Any) -> Any:
        return _close(self._rules, functools.partial(self._author, **params), self._outer, operands[-1])(*operands[:-1])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._author, name)


def _with_one_more(author: Callable[..., Any]) -> inspect.Signature:
    kinds = inspect.Parameter
    try:
        parameters = list(inspect.signature(author).parameters.values())
    except (TypeError, ValueError):  # a builtin
        return inspect.Signature([kinds("operands", kinds.VAR_POSITIONAL), kinds("params", kinds.VAR_KEYWORD)])
    place = sum(p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD) for p in parameters)
    is_variadic = any(p.kind is kinds.VAR_POSITIONAL for p in parameters)
    last = [] if is_variadic else [kinds("closed_over", kinds.POSITIONAL_OR_KEYWORD, default=())]
    positional = [p.replace(kind=kinds.POSITIONAL_OR_KEYWORD) for p in parameters[:place]]
    return inspect.Signature([*positional, *last, *parameters[place:]])


# --------------------------------------------------------------------------------------------------------------- the rules
def _close(rules: RuleSet, fn: Callable[..., Any], outer: Sequence[ClosedOver], values: Sequence[Any]) -> Any:
    return with_values(
        fn, outer, values, lambda closed, _: ended(rules.name, closed, closed.fn, _one_more(rules, closed))
    )


def _own(flags: Flags) -> Flags:
    """The flags of the author's own operands."""
    trees = flags.tree.children()[:-1]
    return Flags(tuple_tree(trees), list(flags.leaves)[: sum(tree.num_leaves for tree in trees)])


def _jvp(rules: RuleSet, rule: Rule, outer: Sequence[ClosedOver]) -> Callable[..., Any]:
    def fn(primals: Any, tangents: Any, perturbed: Flags, params: Mapping[str, Any]) -> Any:
        _refuse_perturbed(rules, rule, outer, primals, perturbed, params)
        run = lambda: rule.fn(primals[:-1], tangents[:-1], _own(perturbed), params)
        return _close(rules, run, outer, primals[-1])()

    return fn


def _vjp(rules: RuleSet, rule: Rule, outer: Sequence[ClosedOver]) -> Callable[..., Any]:
    """A VJP rule whose pullback is hoisted, so that what it keeps from the forward half are arrays."""

    def fn(primals: Any, perturbed: Flags, params: Mapping[str, Any]) -> Any:
        _refuse_perturbed(rules, rule, outer, primals, perturbed, params)

        def forward() -> Any:
            out, pullback = rule.fn(primals[:-1], _own(perturbed), params)
            return out, _hoisted_pullback(rules, out, pullback)

        out, (pulled, has_tangent) = _close(rules, forward, outer, primals[-1])()
        tree = jax.tree.structure(out)

        def pull(cts: Any) -> Any:
            found = pulled(*instantiate(select(flatten_like(tree, cts), has_tangent)))
            return with_zero(found, len(primals) - 1)

        return out, pull

    return fn


def _hoisted_pullback(rules: RuleSet, out: Any, pullback: Callable[..., Any]) -> Any:
    """A pullback as a pytree, and which results have a cotangent."""
    leaves, tree = jax.tree.flatten(out)
    avals = [_jax.cotangent_aval(_jax.typeof(leaf)) for leaf in leaves]
    has_tangent = [_jax.has_tangent(_jax.typeof(leaf)) for leaf in leaves]

    def pull(*cts: Any) -> Any:
        found = pullback(tree.unflatten(expand(cts, has_tangent, lambda i: Zero(avals[i]))))
        return jax.tree.map(lambda ct: None if is_zero(ct) else ct, found, is_leaf=is_zero)

    types = tuple(map(_jax.struct_of, select(avals, has_tangent)))
    return hoisted_once(pull, types, Owner(rules.name, "pullback")), has_tangent


def _transpose(rules: RuleSet, rule: Rule, outer: Sequence[ClosedOver]) -> Callable[..., Any]:
    def fn(y_bar: Any, others: Sequence[Any], types: Callable[[], Any], params: Mapping[str, Any]) -> Any:
        return _close(rules, lambda: rule.fn(y_bar, others[:-1], types, params), outer, others[-1])()

    return fn


def _batching(rules: RuleSet, rule: Rule, outer: Sequence[ClosedOver]) -> Callable[..., Any]:
    def fn(axis: Any, args: Sequence[Any], dims: Sequence[Any], **params: Any) -> Any:
        batched = jax.tree.leaves(dims[-1])
        if batched:
            raise _batched(rules, rule, outer)
        return _close(rules, lambda: rule.fn(axis, args[:-1], dims[:-1], **params), outer, args[-1])()

    return fn


_WRAPPERS: dict[str, Callable[[RuleSet, Rule, Sequence[ClosedOver]], Callable[..., Any]]] = {
    "jvp": _jvp,
    "vjp": _vjp,
    "transpose": _transpose,
}


# --------------------------------------------------------------------------------------------------------------- refusals
def _refuse_perturbed(
    rules: RuleSet,
    rule: Rule,
    outer: Sequence[ClosedOver],
    primals: Any,
    perturbed: Flags,
    params: Mapping[str, Any],
) -> None:
    """Refuse a derivative in a value that the impl reads. One that only the rules read has a zero derivative."""
    impl = rules.given.get("impl")
    if impl is None:
        return
    read_by = functools.partial(impl.author, **params)
    closed = first_differentiated(read_by, primals[:-1], outer, list(perturbed.leaves)[-len(outer) :])
    if closed is not None:
        why = f"the {rule.phrase} knows the derivatives of the operands only"
        raise differentiated(rules.name, closed, "an operand", why, rule.author, _one_more(rules, closed))


def _refuse_opaque(rules: RuleSet, rule: Rule) -> None:
    """Refuse a host function, a kernel or a lowering rule that reads traced values: it runs where there are none."""
    held = closed_over([rule.author]) if rule.kind in ("host", "lowering") or rule.is_opaque else []
    if held:
        raise _not_closing(rules, rule, held[0])


def _with_operand(rules: RuleSet, name: str) -> str:
    signature = rules.signature
    operands = [*signature.operands, *([f"*{signature.variadic}"] if signature.variadic else [])]
    return f"{rules.name}({', '.join([*operands, name or 'value'])})"


def _one_more(rules: RuleSet, closed: ClosedOver) -> str:
    return f"{_with_operand(rules, closed.name)}  # one more operand, of the impl and of its rules"


def _not_closing(rules: RuleSet, rule: Rule, closed: ClosedOver) -> BadCall:
    return BadCall(
        message(
            f"{rules.name}: the {rule.phrase} cannot be used with the traced value '{closed.name}', which a rule closes over.",
            got=closed.fact,
            expected="operands, static params and concrete arrays only",
            why=f"the {rule.phrase} gets the operands, and this is none",
            rule=rule.author,
            write=f"{_with_operand(rules, closed.name)}  # the value as one more operand",
        )
    )


def _batched(rules: RuleSet, rule: Rule, outer: Sequence[ClosedOver]) -> BadCall:
    return BadCall(
        message(
            f"{rules.name}: the batch rule closes over a traced value, and that is batched.",
            got="; ".join(closed.fact for closed in outer),
            expected="a batch of the operands only",
            why="the rule gets the batch dimensions of operands, and of no other value",
            rule=rule.author,
            write=f"{_with_operand(rules, outer[0].name)}  # the value as one more operand",
        )
    )
