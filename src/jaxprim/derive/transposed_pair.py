"""A pullback and a pushforward that are each other's transpose.

At fixed operands, let J be the Jacobian of the results in the perturbed operands:

    pushforward    x_dot -> y_dot = J x_dot
    pullback       y_bar -> x_bar = J^T y_bar      (JAX does not conjugate)

Either is the transpose of the other, so that forward and reverse mode may nest in any order. A VJP rule gives the
pullback. Its transpose, the pushforward, is

- the transpose of the pullback's own program, if every equation in it has a transpose;
- otherwise (an opaque pullback) the JVP rule, which needs the operands as further residuals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxprim import _jax
from jaxprim._avals import instantiate
from jaxprim._calls import Call
from jaxprim._errors import RuleMissing, message
from jaxprim._levels import axes_of
from jaxprim._linear import LinearMap, same_residuals
from jaxprim._masks import expand, select
from jaxprim._programs import may_lack_transpose
from jaxprim.derive.site import Site
from jaxprim.derive.traced_jvp import traced_jvp


@dataclass(frozen=True)
class TransposedPair:
    """A pullback and a pushforward that are each other's transpose.

    Attributes:
        pullback: (residuals, cotangents of the results that have any) -> cotangents of the perturbed operands.
        pushforward: (residuals, tangents of the perturbed operands) -> tangents of the results that have any.
        keeps_operands: whether the n operands follow the residuals, because the pullback is opaque.
    """

    pullback: LinearMap
    pushforward: LinearMap
    keeps_operands: bool


def transposed_pair(site: Site, pull: Any, residuals: Sequence[Any]) -> TransposedPair:
    """The pair of a traced pullback.

    Args:
        site: where it was traced.
        pull: its program, (r residuals, cotangents) -> cotangents.
        residuals: the types of the r residuals.
    """
    rules = site.call.rules
    transposed = _try_transpose(pull, len(residuals)) if rules.has("jvp") else None
    is_opaque = rules.has("jvp") and transposed is None
    kept = [*residuals, *site.avals] if is_opaque else list(residuals)

    def build_pull() -> Any:
        return _past_operands(pull, kept, len(residuals), site.cotangent_avals) if is_opaque else pull

    def build_push() -> Any:
        if is_opaque:
            return _push_by_jvp_rule(site, kept)
        return transposed if transposed is not None else _must_transpose(site.call, pull, len(residuals))

    # Each map refers to the other, so the transposes are functions that run later.
    pullback = LinearMap(
        rules,
        "pullback",
        residuals=len(kept),
        in_avals=site.cotangent_avals,
        out_avals=select(site.operand_cotangent_avals, site.perturbed),
        build=build_pull,
        transposed=lambda: (same_residuals, pushforward),
        is_linear=rules.surrogate is None,
        effects=_jax.effects_of(pull),
    )
    pushforward = LinearMap(
        rules,
        "pushforward",
        residuals=len(kept),
        in_avals=site.tangent_avals,
        out_avals=site.result_tangent_avals,
        build=build_push,
        transposed=lambda: (same_residuals, pullback),
        effects=_jax.only_axes(_jax.effects_of(pull)),  # JAX transposes a debug print to nothing
    )
    return TransposedPair(pullback, pushforward, is_opaque)


def _past_operands(pull: Any, kept: Sequence[Any], count: int, cotangents: Sequence[Any]) -> Any:
    """A pullback of ``count`` residuals, as a pullback of all kept residuals that ignores the operands."""
    # Arguments: (residuals, operands, cotangents). `kept` is the types of the first two.
    run = lambda *args: _jax.evaluate(pull, *args[:count], *args[len(kept) :])
    return _jax.trace(run, [*kept, *cotangents], "pullback")


def _push_by_jvp_rule(site: Site, residuals: Sequence[Any]) -> Any:
    """The pushforward of an opaque pullback: the JVP rule at the operands, which are the last residuals."""
    call, found = site.call, traced_jvp(site.call, site)

    def run(*args: Any) -> list[Any]:
        operands = args[len(residuals) - len(site.avals) : len(residuals)]
        own = call.rules.primitive.bind(*operands, call=call) if found.uses_results else ()
        dots = _jax.evaluate(found.program, *operands, *own, *args[len(residuals) :])
        whole = expand(dots, found.nonzero, lambda i: _jax.zeros(_jax.tangent_aval(site.results.avals[i])))
        return select(whole, site.has_tangent)

    return _jax.trace(run, [*residuals, *site.tangent_avals], f"{call.rules.name}_jvp")


# --------------------------------------------------------------------------------------------- transposing a program
def transpose_program(program: Any, residuals: int) -> Any:
    """Transpose a program (r, t) -> A(r) t in t: (r, y_bar) -> A(r)^T y_bar."""
    avals = _jax.in_avals(program)
    linear = [False] * residuals + [True] * (len(avals) - residuals)

    def run(*args: Any) -> list[Any]:
        return instantiate(_jax.transpose(program, linear, args[:residuals], args[residuals:]))

    inputs = [*avals[:residuals], *map(_jax.cotangent_aval, _jax.out_avals(program))]
    return _jax.trace(run, inputs, "transposed")


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
    """The error for forward mode with an opaque pullback and no JVP rule."""
    rules = call.rules
    return RuleMissing(
        message(
            f"{rules.name}: its JVP rule is missing, and cannot be derived from the VJP rule.",
            got=rules.listed,
            expected="a JVP rule",
            why=f"forward mode transposes the pullback, and JAX cannot transpose it ({_first_line(error)})",
            rule=rules.given["vjp"].author if rules.has("vjp") else None,
            write=f"@{rules.name}.def_jvp",
        )
    )


def refuse_opaque_tangent(call: Call, site: Site) -> None:
    """Refuse reverse mode if it would have to transpose a JVP rule that has no transpose."""
    found = traced_jvp(call, site)
    count = len(site.avals) + (len(site.results.avals) if found.uses_results else 0)
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
                why=f"reverse mode transposes the tangent, and JAX cannot transpose it ({_first_line(error)})",
                rule=call.rules.given["jvp"].author,
                write=f"@{call.rules.name}.def_vjp",
            )
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
