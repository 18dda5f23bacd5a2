"""One rule for all operands: a JVP rule, a VJP rule in its three forms, and the two functions of ``jax.custom_vjp``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any

import jax

from jaxprim._errors import RuleWrong, message
from jaxprim._jax import words
from jaxprim._returned import Results
from jaxprim._rule_kinds import VJP_BACKWARD, VJP_PAIR, form_of
from jaxprim._rules import AuthorFn, Rule, RuleSet, call_author
from jaxprim._trees import Flags, describe, written


def names_argument(fn: AuthorFn, name: str) -> bool:
    """Whether a rule names an extra argument, such as ``perturbed``."""
    try:
        return name in inspect.signature(fn).parameters
    except (TypeError, ValueError):
        return False


def _extra(takes: bool, perturbed: Flags, params: Mapping[str, Any]) -> dict[str, Any]:
    return {"perturbed": perturbed.whole} if takes and "perturbed" not in params else {}


def transpose_rule(rules: RuleSet, author: AuthorFn) -> Rule:
    """``rule(y_bar, *other_operands, **params)``, which may name an argument ``avals``."""
    form, takes = form_of("transpose"), names_argument(author, "avals")

    def fn(y_bar: Any, others: Sequence[Any], types: Callable[[], Any], params: Mapping[str, Any]) -> Any:
        extra = {"avals": types()} if takes and "avals" not in params else {}
        return call_author(rules, form, author, y_bar, *others, **extra, **params)

    return Rule("transpose", author, fn)


def jvp_rule(rules: RuleSet, author: Any) -> Rule:
    """``rule(primals, tangents, **params) -> (primals_out, tangents_out)``."""
    form, takes = form_of("jvp"), names_argument(author, "perturbed")

    def fn(primals: Any, tangents: Any, perturbed: Flags, params: Mapping[str, Any]) -> Any:
        return call_author(rules, form, author, primals, tangents, **_extra(takes, perturbed, params), **params)

    return Rule("jvp", author, fn)


def vjp_rule(rules: RuleSet, author: AuthorFn, surrogate: str | None) -> Rule:
    """``rule(primals, **params) -> (primals_out, pullback)`` or ``(primals_out, residuals, pullback)``."""
    form, takes = form_of("vjp"), names_argument(author, "perturbed")

    def fn(primals: Any, perturbed: Flags, params: Mapping[str, Any]) -> Any:
        result = call_author(rules, form, author, primals, **_extra(takes, perturbed, params), **params)
        return read_vjp_result(rules, author, primals, params, result)

    return Rule("vjp", author, fn, surrogate=surrogate)


def vjp_pair_rule(rules: RuleSet, fwd: AuthorFn, bwd: AuthorFn, surrogate: str | None) -> Rule:
    """The two functions of ``jax.custom_vjp``."""
    takes = names_argument(fwd, "perturbed")

    def forward(primals: Any, perturbed: Flags, params: Mapping[str, Any]) -> Any:
        return call_author(rules, VJP_PAIR, fwd, *primals, **_extra(takes, perturbed, params), **params)

    def backward(residuals: Any, cts: Any) -> Any:
        return call_author(rules, VJP_BACKWARD, bwd, residuals, cts)

    return pair_rule(rules, fwd, forward, backward, surrogate)


def pair_rule(
    rules: RuleSet, fwd: AuthorFn, forward: Callable[..., Any], backward: Callable[..., Any], surrogate: str | None
) -> Rule:
    """A VJP rule of two functions: ``forward(primals, perturbed, params)``, which calls the author's ``fwd``, and
    ``backward(residuals, cotangents)``.
    """

    def fn(primals: Any, perturbed: Flags, params: Mapping[str, Any]) -> Any:
        result = forward(primals, perturbed, params)
        if not isinstance(result, tuple) or len(result) != 2:
            raise RuleWrong(
                message(
                    f"{rules.name}: the forward function of the VJP rule must return (output, residuals).",
                    got=describe(result),
                    expected="a tuple of 2",
                    rule=fwd,
                    write="return output, residuals",
                )
            )
        out, residuals = result
        return out, lambda cts: backward(residuals, cts)

    return Rule("vjp", fwd, fn, form=VJP_PAIR, surrogate=surrogate)


def read_vjp_result(
    rules: RuleSet, author: AuthorFn, primals: Any, params: Mapping[str, Any], result: Any
) -> tuple[Any, Callable[[Any], Any]]:
    """Read the output and the pullback from the value that a VJP rule returned."""
    if isinstance(result, tuple) and len(result) == 2 and callable(result[1]):
        out, pullback = result
        if _required(rules.name, author, pullback) == 2:
            return out, lambda cts: pullback(primals, cts)
        return out, pullback
    if isinstance(result, tuple) and len(result) > 2 and callable(result[-1]):
        required = _required(rules.name, author, result[-1])
        if len(result) > 3 or required != 2:
            _refuse_flattened(rules, author, primals, params, result)
        if len(result) == 3:
            out, residuals, pullback = result
            _require_two(rules.name, author, pullback, required)
            return out, lambda cts: pullback(residuals, cts)
    raise RuleWrong(
        message(
            f"{rules.name}: the VJP rule must return (output, pullback) or (output, residuals, pullback).",
            got=_entries(result),
            expected="a tuple of 2 or 3 whose last entry is a function",
            rule=author,
            write="return output, pullback",
        )
    )


def _entries(value: Any) -> str:
    if isinstance(value, tuple) and len(value) <= 4:
        return f"a tuple of {len(value)}: {'; '.join(describe(v).removeprefix('one array, ') for v in value)}"
    return describe(value)


def _refuse_flattened(
    rules: RuleSet, author: AuthorFn, primals: Any, params: Mapping[str, Any], result: tuple[Any, ...]
) -> None:
    """Raise a specific error if a rule returned ``y1, y2, pullback`` instead of ``(y1, y2), pullback``."""
    tree = jax.tree.structure(jax.eval_shape(lambda: rules.apply(primals, params)))
    if tree.num_leaves != len(result) - 1:
        return
    outputs = Results((), tree).variables()
    raise RuleWrong(
        message(
            f"{rules.name}: the VJP rule returned its results as separate entries.",
            got=_entries(result),
            expected="a tuple of 2: the output and the pullback; the output has the structure of the operation's results",
            rule=author,
            write=f"return {written(tree, outputs)}, pullback",
        )
    )


def _required(name: str, author: AuthorFn, pullback: AuthorFn) -> int:
    """How many positional arguments a pullback requires: 1 (cotangents) or 2 (residuals, cotangents)."""
    if type(pullback).__module__.startswith(words.OWN_MODULES):  # a pullback from jax.vjp takes only the cotangents
        return 1
    # In an eager gradient this runs each time, and the signature of a function takes as long as a small operation.
    if type(pullback) is FunctionType and not vars(pullback) and pullback.__code__.co_flags & inspect.CO_VARARGS == 0:
        count = pullback.__code__.co_argcount - len(pullback.__defaults__ or ())
        if count in (1, 2):
            return count
    try:
        parameters = list(inspect.signature(pullback).parameters.values())
    except (TypeError, ValueError):
        return 1
    kinds = inspect.Parameter
    required = [
        p
        for p in parameters
        if p.default is kinds.empty and p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
    ]
    variadic = [p for p in parameters if p.kind is kinds.VAR_POSITIONAL]
    if variadic or len(required) not in (1, 2):
        raise RuleWrong(
            message(
                f"{name}: the pullback of the VJP rule must take (cotangents) or (residuals, cotangents).",
                got=f"{getattr(pullback, '__name__', 'pullback')}{inspect.signature(pullback)}",
                expected="one or two required positional arguments, no *args",
                rule=author,
                why="the cotangents of several results arrive as one tuple",
                write="def pullback(y_bar):" if len(required) < 2 else "def pullback(residuals, y_bar):",
            )
        )
    return len(required)


def _require_two(name: str, author: AuthorFn, pullback: AuthorFn, required: int) -> None:
    if required != 2:
        raise RuleWrong(
            message(
                f"{name}: the VJP rule returns residuals, but its pullback does not take them.",
                got=f"{getattr(pullback, '__name__', 'pullback')}{inspect.signature(pullback)}",
                expected="two required positional arguments",
                why="a pullback that comes with residuals is called as pullback(residuals, cotangents)",
                rule=author,
                write="def pullback(residuals, y_bar):",
            )
        )
