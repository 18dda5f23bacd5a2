"""JAX's tables of rules, and the arguments and return values of rules in each release."""

# Private names are what this folder is for.
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from inspect import signature
from typing import Any

import jax
import numpy as np
from jax._src import core, dispatch, xla_bridge
from jax._src.interpreters import ad, batching, mlir
from jax._src.lib import xla_client
from jax._src.lib.mlir import ir
from jax.experimental import jet
from jax.interpreters import ad as public_ad  # noqa: F401  # pyright: ignore[reportUnusedImport] read by jaxprim.ad
from jax.interpreters import mlir as public_mlir  # noqa: F401  # pyright: ignore[reportUnusedImport] by jaxprim.mlir

from jaxprim._jax.avals import JaxZero
from jaxprim._jax.programs import Program, evaluate
from jaxprim._jax.shown import hide, show


def new_primitive(name: str) -> Any:
    """A JAX primitive with several results, which runs compiled when it is applied to values."""
    primitive = core.Primitive(name)
    primitive.multiple_results = True
    primitive.def_impl(partial(dispatch.apply_primitive, primitive))
    return primitive


def _tables() -> dict[str, dict[Any, Any]]:
    return {
        "jvp": ad.primitive_jvps,
        "transpose": ad.primitive_transposes,
        "linearize": ad.primitive_linearizations,
        # JAX also uses this table when no operand is batched, which collectives in an implementation need.
        "batching": batching.fancy_primitive_batchers,
        "jet": jet.jet_rules,
    }


def register(
    primitive: Any,
    *,
    abstract_eval: Callable[..., Any],
    lowering: Any,
    shown: Any = None,
    **rules: Callable[..., Any],
) -> None:
    """Write a primitive's rules (``jvp``, ``transpose``, ``linearize``, ``batching``, ``jet``) into JAX's tables.

    ``shown`` gives its equations the programs that JAX sees (`shown.show`).
    """
    primitive.def_effectful_abstract_eval(abstract_eval)
    if shown is not None:
        show(primitive, shown)
    register_lowering(primitive, lowering)
    tables = _tables()
    for name, rule in rules.items():
        tables[name][primitive] = _told_the_mode(rule) if name == "linearize" else rule


def unregister(primitive: Any) -> None:
    """Remove a freed primitive from JAX's tables, so that making many primitives leaks nothing."""
    lowerings = mlir._platform_specific_lowerings.values()
    for table in (*_tables().values(), mlir._lowerings, *lowerings):
        table.pop(primitive, None)
    hide(primitive)


def has_transpose(primitive: Any) -> bool:
    """Whether JAX has a transpose rule for a primitive; it may be one that raises."""
    return primitive in ad.primitive_transposes or primitive in ad.fancy_transposes


def is_linear(primitive: Any) -> bool:
    """Whether JAX differentiates a primitive as linear in all its operands together: its own tangent is the primitive."""
    return getattr(ad.primitive_jvps.get(primitive), "func", None) is ad.linear_jvp


_ELEMENTWISE = (batching.broadcast_batcher, batching.vectorized_batcher)


def is_elementwise(primitive: Any) -> bool:
    """Whether JAX batches a primitive as an elementwise one, which leaves the batch dimension in place."""
    return getattr(batching.fancy_primitive_batchers.get(primitive), "func", None) in _ELEMENTWISE


# ------------------------------------------------------------------------------------------------------ linearization
# Since JAX 0.9.1, a linearization rule gets `is_vjp`, which is True in `vjp` and False in `linearize`. Before, we
# assume `vjp`, because most code uses reverse mode. This check can go with 0.9.0.1.
_MODE_IS_TOLD = "_is_vjp" in signature(ad.fallback_linearize_rule).parameters


def _told_the_mode(rule: Callable[..., Any]) -> Callable[..., Any]:
    """A rule that takes ``(is_vjp, perturbed, *primals, **params)``, as this JAX calls it."""
    return rule if _MODE_IS_TOLD else partial(rule, True)


def linearize_by_jvp(primitive: Any, is_vjp: bool, perturbed: Sequence[bool], *primals: Any, **params: Any) -> Any:
    """JAX's own linearization: partial evaluation of the JVP rule."""
    arguments: tuple[Any, ...] = (is_vjp, perturbed, *primals) if _MODE_IS_TOLD else (perturbed, *primals)
    return ad.fallback_linearize_rule(primitive, *arguments, **params)


@cache
def _has_structured_residuals() -> bool:
    """JAX 0.11.1 gave a linearization a fifth result (structured residuals), and its linear function one more argument.

    We linearize a negation to count the results. This check can go with 0.11.0.
    """
    sizes: list[int] = []

    def negate(x: Any) -> Any:
        sizes.append(len(linearize_by_jvp(jax.lax.neg_p, True, [True], x)))
        return x

    jax.eval_shape(negate, jax.ShapeDtypeStruct((), np.dtype(np.float32)))
    return sizes == [5]


def linearization(
    outs: Sequence[Any], nonzero: Sequence[bool], residuals: Sequence[Any], linear: Callable[..., list[Any]]
) -> tuple[Any, ...]:
    """The return value of a linearization rule; ``linear(residuals, *tangents)`` stages the linear part."""
    if _has_structured_residuals():
        return outs, nonzero, residuals, None, lambda res, _, *tangents: linear(res, *tangents)
    return outs, nonzero, residuals, linear


# ----------------------------------------------------------------------------------------------------------- lowering
def register_lowering(primitive: Any, rule: Any, platform: str | None = None) -> None:
    mlir.register_lowering(primitive, rule, platform=platform)


def ffi_attribute(value: Any) -> Any:
    """A NumPy number as an attribute of a call to foreign code, while it is lowered."""
    if value.dtype == np.uint64 and value > np.iinfo(np.int64).max:  # JAX makes attributes from signed integers
        return ir.Attribute.parse(f"{value} : ui64")
    return value


def lower_fun(fun: Callable[..., Any]) -> Any:
    return mlir.lower_fun(fun, multiple_results=True)


# Since JAX 0.9.1, lowering takes the traceback to attach to a program's operations. This check can go with 0.9.0.1.
_NO_TRACEBACK: dict[str, Any] = (
    {"outer_traceback": None} if "outer_traceback" in signature(mlir.jaxpr_subcomp).parameters else {}
)


def lower_program(ctx: Any, program: Program, *args: Any) -> Any:
    """Lower a program directly. `lower_fun` would trace it again, which took most of the time of a lowering."""
    jaxpr = program.jaxpr
    if jaxpr.is_high or any(isinstance(effect, core.InternalMutableArrayEffect) for effect in jaxpr.effects):
        return lower_fun(partial(evaluate, program))(ctx, *args)
    module = ctx.module_context if ctx.platforms is None else ctx.module_context.replace(platforms=ctx.platforms)
    consts = mlir.ir_consts(list(map(_as_code, program.consts)), [var.aval for var in jaxpr.constvars])
    out, tokens = mlir.jaxpr_subcomp(
        module, jaxpr, ctx.name_stack, ctx.tokens_in, consts, *args,
        dim_var_values=ctx.dim_var_values, const_lowering=ctx.const_lowering, **_NO_TRACEBACK,
    )  # fmt: skip
    ctx.set_tokens_out(tokens)
    return out


def _as_code(const: Any) -> Any:
    """A constant of a program. Code has no varying axes, and JAX up to 0.9.2 makes zeros that vary inside `shard_map` alone."""
    if not isinstance(const, JaxZero):
        return const
    aval: Any = const.aval
    return np.zeros(aval.shape, aval.dtype)


def ffi_targets() -> list[str] | None:
    """The names of the handlers for the CPU that are registered with XLA; None if it does not say.

    What was registered before JAX had a backend waits in a list. (A plug-in for another platform tells nobody.)
    """
    listed = getattr(xla_client, "custom_call_targets", None)
    waiting: Any = getattr(xla_client, "_custom_callback", {})
    return None if listed is None else [*listed("Host"), *(row[0] for row in waiting.get("Host", ()))]


def default_platform() -> str:
    """The platform of this machine's default backend, by the name that kernels are registered under."""
    backend = xla_bridge.get_backend()
    return getattr(backend, "_raw_platform", backend.platform)


def platform_of(ctx: Any) -> str:
    """The platform that a lowering rule lowers for."""
    return (ctx.platforms or ctx.module_context.platforms)[0]
