"""A pullback and a pushforward that are each other's transpose.

At fixed operands, let J be the Jacobian of the results in the perturbed operands:

    pushforward    x_dot -> y_dot = J x_dot
    pullback       y_bar -> x_bar = J^T y_bar      (JAX does not conjugate)

Either is the transpose of the other, so that forward and reverse mode may nest in any order. A VJP rule gives the
pullback. Its transpose, the pushforward, is

- the transpose of the pullback's own program, if JAX can transpose it: what depends on the residuals alone is
  evaluated first;
- otherwise (an opaque pullback) the JVP rule, which needs the operands as further residuals;
- without a JVP rule, JAX's derivative of the pullback at some cotangent. A pullback is linear, so its derivative is the
  same everywhere: a sort, a comparison or another operation in it does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxprim import _jax
from jaxprim._avals import instantiate
from jaxprim._calls import Call
from jaxprim._errors import RuleMissing, message
from jaxprim._linear import LinearMap, same_residuals
from jaxprim._masks import expand, select
from jaxprim._programs import may_lack_transpose, transpose
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
    rules, count = site.call.rules, len(residuals)
    transposed = _try(transpose_program, pull, count) if rules.has("jvp") else None
    is_opaque = rules.has("jvp") and transposed is None
    kept = [*residuals, *site.avals] if is_opaque else list(residuals)

    def build_pull() -> Any:
        return _past_operands(pull, kept, count, site.cotangent_avals) if is_opaque else pull

    def build_push() -> Any:
        if is_opaque:
            return _push_by_jvp_rule(site, kept)
        return transposed if transposed is not None else _must_transpose(site.call, pull, count)

    # Each map refers to the other, so the transposes are functions that run later.
    pullback = LinearMap(
        rules,
        "pullback",
        residuals=len(kept),
        in_avals=site.cotangent_avals,
        out_avals=select(site.operand_cotangent_avals, site.perturbed),
        build=build_pull,
        transposed=lambda: (same_residuals, pushforward),
        is_linear=lambda: rules.surrogate is None and (rules.has("jvp") or not _differentiable_only(pull, count)),
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


def _differentiable_only(pull: Any, count: int) -> bool:
    """Whether JAX can differentiate a pullback, but not transpose it.

    It may look at its cotangents then. Its derivative is that of the program at the cotangents at hand, as with
    `jax.custom_vjp`, and not the pullback of their tangents. An opaque pullback has no such derivative.
    """
    linear = [i >= count for i in range(len(_jax.in_avals(pull)))]
    if not may_lack_transpose(pull, linear) or _try(transpose_program, pull, count) is not None:
        return False
    return _try(_transpose_by_vjp, pull, count) is not None


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
    linear = [i >= residuals for i in range(len(_jax.in_avals(program)))]
    return _transposed(program, residuals, lambda rs, cts: instantiate(transpose(program, linear, rs, cts)))


def _transpose_by_vjp(program: Any, residuals: int) -> Any:
    """`transpose_program` by JAX's derivative of the program in t."""
    return _transposed(program, residuals, lambda rs, cts: _jax.transpose_by_vjp(program, residuals, rs, cts))


def _transposed(program: Any, residuals: int, run: Callable[[Sequence[Any], Sequence[Any]], list[Any]]) -> Any:
    inputs = [*_jax.in_avals(program)[:residuals], *map(_jax.cotangent_aval, _jax.out_avals(program))]
    return _jax.trace(lambda *args: run(args[:residuals], args[residuals:]), inputs, "transposed")


def _try(way: Callable[[Any, int], Any], program: Any, residuals: int) -> Any | None:
    try:
        return way(program, residuals)
    except Exception:  # noqa: BLE001 JAX says "no transpose" with many types of exception
        return None


def _must_transpose(call: Call, pull: Any, residuals: int) -> Any:
    try:
        return transpose_program(pull, residuals)
    except Exception as error:
        # A declared surrogate is not linear, so its derivative at one point says nothing about it elsewhere.
        found = _try(_transpose_by_vjp, pull, residuals) if call.rules.surrogate is None else None
        if found is None:
            raise no_transpose(call, error) from error
        return found


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


# ------------------------------------------------------------------------------------------- transposing a JVP rule
def transposed_tangent(site: Site, tangent: LinearMap) -> LinearMap:
    """The pullback that is the transpose of a JVP rule's program, with the same residuals."""
    program = _transpose_tangent(site.call, tangent)
    return LinearMap(
        tangent.owner,
        "pullback",
        residuals=tangent.residuals,
        in_avals=[_jax.cotangent_aval(aval) for aval in tangent.out_avals],
        out_avals=select(site.operand_cotangent_avals, site.perturbed),
        build=lambda: program,
        transposed=lambda: (same_residuals, tangent),
        effects=tangent.effects,
    )


def _transpose_tangent(call: Call, tangent: LinearMap) -> Any:
    try:
        return transpose_program(tangent.program, tangent.residuals)
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
