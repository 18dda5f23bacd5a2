"""Closing the loop: a pullback as a `LinearMap`, and the pushforward that is its transpose.

The transpose of a pullback is

- the transpose of its program, where every equation in it has one;
- else (an opaque backward) the JVP rule, for which the operands are then kept as residuals too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxprim import _jax
from jaxprim._calls import Call
from jaxprim._errors import RuleMissing, message
from jaxprim._levels import axes_of
from jaxprim._linear import LinearMap, same_residuals
from jaxprim._masks import Mask, expand, select
from jaxprim._programs import may_lack_transpose
from jaxprim.derive import implementation
from jaxprim.derive.forward import forward
from jaxprim.derive.pullback import cotangent_avals


@dataclass(frozen=True)
class Loop:
    """A pullback and a pushforward that are each other's transpose.

    Attributes:
        pullback: (residuals, cotangents) -> cotangents of the perturbed operands.
        pushforward: (residuals, tangents) -> tangents.
        keeps_operands: whether the operands follow the residuals, as an opaque pullback needs them.
    """

    pullback: LinearMap
    pushforward: LinearMap
    keeps_operands: bool


def close(call: Call, avals: Sequence[Any], perturbed: Mask, pull: Any, residuals: Sequence[Any]) -> Loop:
    """The loop of a traced pullback ``pull``: (residuals, cotangents) -> cotangents. ``residuals`` are types."""
    rules, results = call.rules, implementation.results(call, avals)
    count = len(residuals)
    transposed = _try_transpose(pull, count) if rules.has("jvp") else None
    opaque = rules.has("jvp") and transposed is None
    kept = [*residuals, *avals] if opaque else list(residuals)

    def build_pull() -> Any:
        if not opaque:
            return pull
        inputs = [*kept, *cotangent_avals(results)]
        return _jax.trace(lambda *args: _jax.evaluate(pull, *args[:count], *args[len(kept) :]), inputs, "pullback")

    def build_push() -> Any:
        if opaque:
            return _push_by_jvp_rule(call, avals, perturbed, kept)
        return transposed if transposed is not None else _must_transpose(call, pull, count)

    axes = _jax.named_axes(pull)
    wanted = select(avals, perturbed)
    pullback = LinearMap(
        rules,
        "pullback",
        len(kept),
        cotangent_avals(results),
        [_jax.cotangent_aval(aval) for aval in wanted],
        build_pull,
        lambda _: (same_residuals, pushforward),
        is_linear=rules.surrogate is None,
        named_axes=axes,
    )
    pushforward = LinearMap(
        rules,
        "pushforward",
        len(kept),
        tangent_avals(wanted),
        tangent_avals([aval for aval in results.avals if _jax.has_tangent(aval)]),
        build_push,
        lambda _: (same_residuals, pullback),
        named_axes=axes,
    )
    return Loop(pullback, pushforward, opaque)


def tangent_avals(avals: Sequence[Any]) -> list[Any]:
    """The tangent types of values, weak types aside."""
    return [_jax.strip(_jax.tangent_aval(aval)) for aval in avals]


def _try_transpose(pull: Any, residuals: int) -> Any | None:
    try:
        return transpose_program(pull, residuals)
    except Exception:  # noqa: BLE001 JAX says "no transpose" with many types of exception
        return None


def _must_transpose(call: Call, pull: Any, residuals: int) -> Any:
    try:
        return transpose_program(pull, residuals)
    except Exception as error:
        raise no_transpose(call, error) from error


def no_transpose(call: Call, error: Exception) -> RuleMissing:
    """The error where forward mode would need the transpose of an opaque pullback."""
    rules = call.rules
    return RuleMissing(
        message(
            f"{rules.name}: its JVP rule is missing, and cannot be derived from the VJP rule.",
            got=rules.listed,
            expected="a JVP rule",
            why=f"forward mode needs the transpose of the pullback, which has none ({_first_line(error)})",
            rule=rules.given["vjp"].author if rules.has("vjp") else None,
            write=f"@{rules.name}.def_jvp",
        )
    )


def refuse_opaque_tangent(call: Call, avals: Sequence[Any], perturbed: Mask) -> None:
    """Refuse a reverse mode that would have to transpose a JVP rule which has no transpose."""
    found = forward(call, avals, perturbed)
    count = len(avals) + (len(implementation.results(call, avals).avals) if found.uses_results else 0)
    if not may_lack_transpose(found.program, count):
        return
    try:
        with axes_of(call.levels):
            transpose_program(found.program, count)
    except Exception as error:
        raise RuleMissing(
            message(
                f"{call.rules.name}: its VJP rule is missing, and cannot be derived from the JVP rule.",
                got=call.rules.listed,
                expected="a VJP rule",
                why=f"reverse mode needs the transpose of the tangent, which has none ({_first_line(error)})",
                rule=call.rules.given["jvp"].author,
                write=f"@{call.rules.name}.def_vjp",
            )
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def transpose_program(pull: Any, residuals: int) -> Any:
    """The transpose of a program in its inputs after the residuals."""
    avals = _jax.in_avals(pull)
    linear = [False] * residuals + [True] * (len(avals) - residuals)

    def run(*args: Any) -> list[Any]:
        out = _jax.transpose(pull, linear, args[:residuals], args[residuals:])
        return [_jax.zeros(x.aval) if isinstance(x, _jax.JaxZero) else x for x in out]

    inputs = [*avals[:residuals], *map(_jax.cotangent_aval, _jax.out_avals(pull))]
    return _jax.trace(run, inputs, "transposed")


def _push_by_jvp_rule(call: Call, avals: Sequence[Any], perturbed: Mask, residuals: Sequence[Any]) -> Any:
    """The pushforward of an opaque pullback: the JVP rule at the operands, which are the last residuals."""
    found, results = forward(call, avals, perturbed), implementation.results(call, avals)
    has_tangent = [_jax.has_tangent(aval) for aval in results.avals]

    def run(*args: Any) -> list[Any]:
        operands = args[len(residuals) - len(avals) : len(residuals)]
        own = call.rules.primitive.bind(*operands, call=call) if found.uses_results else ()
        dots = _jax.evaluate(found.program, *operands, *own, *args[len(residuals) :])
        whole = expand(dots, found.nonzero, lambda i: _jax.zeros(_jax.tangent_aval(results.avals[i])))
        return select(whole, has_tangent)

    return _jax.trace(run, [*residuals, *tangent_avals(select(avals, perturbed))], f"{call.rules.name}_jvp")
