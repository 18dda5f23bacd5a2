"""Partial derivatives of an elementwise operation, which give both the JVP and the VJP rule.

For y = f(x_1, ..., x_n) with slopes d_i = dy/dx_i, element by element:

    y_dot = sum_i d_i x_i_dot        x_i_bar = d_i y_bar, summed over the axes along which x_i was broadcast
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxprim import _jax
from jaxprim._avals import short
from jaxprim._errors import RuleWrong, message
from jaxprim._rule_kinds import PARTIALS
from jaxprim._rules import AuthorFn, Rule, RuleSet, call_author
from jaxprim._trees import Flags
from jaxprim._zeros import Zero, is_zero


def partials_rules(rules: RuleSet, author: AuthorFn) -> tuple[Rule, Rule]:
    """The JVP and the VJP rule of ``fn(y, *primals, **params) -> (dy/dx1, ...)``."""

    def jvp(primals: Any, tangents: Any, perturbed: Flags, params: Mapping[str, Any]) -> Any:
        y = rules.apply(primals, params)
        slopes = _partials(rules, author, y, primals, params)
        y_dot: Any = Zero.zero_if_zero(y)
        for partial, t in zip(slopes, tangents, strict=True):
            if partial is not None and not is_zero(t):
                y_dot = y_dot + _to(_times(partial, t), y)
        return y, y_dot

    def vjp(primals: Any, perturbed: Flags, params: Mapping[str, Any]) -> Any:
        y = rules.apply(primals, params)
        slopes = _partials(rules, author, y, primals, params)

        def pullback(y_bar: Any) -> tuple[Any, ...]:
            return tuple(
                None if partial is None or not p or is_zero(y_bar) else reduce_to(_times(partial, y_bar), x)
                for partial, x, p in zip(slopes, primals, perturbed.each, strict=True)
            )

        return y, pullback

    return Rule("jvp", author, jvp, form=PARTIALS), Rule("vjp", author, vjp, form=PARTIALS)


def _partials(
    rules: RuleSet, author: AuthorFn, y: Any, primals: Sequence[Any], params: Mapping[str, Any]
) -> Sequence[Any]:
    """The partial derivatives that an author's function returns, one per operand."""
    names = rules.signature.names(len(primals))
    if jax.tree.structure((y, primals)) != jax.tree.structure((0, (0,) * len(primals))):
        raise _not_elementwise(rules, author, "operands or results that are pytrees", None)
    result = call_author(rules, PARTIALS, author, y, *primals, **params)
    result = result if isinstance(result, tuple | list) else (result,)
    line = f"return {', '.join(f'dy_d{name}' for name in names)}"
    if len(result) != len(primals):
        raise RuleWrong(
            message(
                f"{rules.name}: def_partials must return one partial derivative per operand.",
                got=f"{len(result)}",
                expected=f"{len(primals)}, for {', '.join(names)}",
                why="None stands for a zero partial derivative",
                rule=author,
                write=line,
            )
        )
    for name, x, partial in zip(names, primals, result, strict=True):
        _check_partial(rules, author, name, _jax.typeof(x), partial, _jax.typeof(y))
    return result


def _check_partial(rules: RuleSet, author: AuthorFn, name: str, x: Any, partial: Any, y: Any) -> None:
    if partial is None:
        return
    try:
        aval = _jax.typeof(partial)
    except TypeError:
        raise _not_elementwise(rules, author, f"{type(partial).__name__} for {name}", short(y)) from None
    if not _broadcasts_to(aval.shape, y.shape):
        raise _not_elementwise(rules, author, f"{short(aval)} for {name}", short(y))
    is_complex = [jnp.issubdtype(a.dtype, jnp.complexfloating) for a in (x, aval, y)]
    if is_complex == [False, True, False]:
        raise RuleWrong(
            message(
                f"{rules.name}: the partial derivative with respect to {name} is complex, but the operand and the result are real.",
                got=short(aval),
                expected=short(y),
                rule=author,
                write=f"dy_d{name} = dy_d{name}.real",
            )
        )


def _broadcasts_to(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    try:
        return jnp.broadcast_shapes(shape, wanted) == wanted
    except ValueError:  # they do not fit together
        return False


def _not_elementwise(rules: RuleSet, author: AuthorFn, got: str, expected: str | None) -> RuleWrong:
    return RuleWrong(
        message(
            f"{rules.name}: def_partials only works for elementwise operations on arrays, with one result.",
            got=got,
            expected=expected,
            rule=author,
            write=f"@{rules.name}.def_jvp",
        )
    )


def _times(partial: Any, t: Any) -> Any:
    with jax.numpy_dtype_promotion("standard"):  # for example a real tangent times a complex slope
        return partial * t


def _to(value: Any, like: Any) -> Any:
    """A value in the dtype of ``like``; the real part if that is real."""
    is_real = not jnp.issubdtype(like.dtype, jnp.complexfloating)
    return (value.real if is_real else value).astype(like.dtype)


def reduce_to(ct: Any, operand: Any) -> Any:
    """Reduce a cotangent to the shape of a broadcast operand, and to its real part if the operand is real.

    Broadcasting copies, y[i, j] = x[j], so its transpose sums: x_bar[j] = sum_i y_bar[i, j]. A real x enters a complex
    result as x + 0i, and the transpose of that embedding takes the real part.
    """
    x = _jax.typeof(operand)
    extra = len(ct.shape) - len(x.shape)
    axes = tuple(range(extra)) + tuple(
        i + extra for i, size in enumerate(x.shape) if size == 1 and ct.shape[i + extra] != 1
    )
    return _to(jnp.sum(ct, axis=axes).reshape(x.shape) if axes else ct, x)
