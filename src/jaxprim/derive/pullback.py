"""The author's VJP rule, run and traced: its forward half, and the pullback that it returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from jaxprim import _jax, _trees
from jaxprim._calls import Call
from jaxprim._masks import Mask, expand, select
from jaxprim._results import Results, as_arrays, fit, read_linear, read_outputs, run_with_zeros, wanted_cotangents
from jaxprim._rules import Rule
from jaxprim.derive import implementation


def reverse_rule(call: Call) -> Rule:
    """The VJP rule: given, or that of the impl where the author chose so."""
    return call.rules.given.get("vjp") or impl_rule(call)


def impl_rule(call: Call) -> Rule:
    """The VJP rule of the impl as JAX differentiates it."""
    impl = call.rules.given["impl"]

    def fn(primals: Any, perturbed: Any, params: Any) -> Any:
        return jax.vjp(lambda *xs: impl.author(*xs, **params), *primals)

    return Rule("vjp", impl.author, fn)


@dataclass(frozen=True)
class Pullback:
    """The author's pullback, on flat cotangents."""

    call: Call
    rule: Rule
    results: Results
    avals: Sequence[Any]
    perturbed: Mask
    fn: Callable[..., Any]

    def __call__(self, cotangents: Sequence[Any]) -> list[Any]:
        """Cotangents of all operand leaves (None for a zero) from those of all result leaves (JAX zeros allowed)."""
        value = run_with_zeros(lambda cts: self.fn(_trees.unflatten(self.results.tree, cts)), cotangents)
        tree, value = _trees.bare(self.call.tree, value)
        wanted = wanted_cotangents(tree, self.call.names, self.avals)
        found = read_linear(self.call.rules.name, "VJP rule", self.rule.author, value, wanted)
        return [
            None if ct is None or not perturbed else fit(ct, aval)
            for ct, perturbed, aval in zip(found, self.perturbed, wanted.avals, strict=True)
        ]


def run_rule(call: Call, leaves: Sequence[Any], perturbed: Mask) -> tuple[list[Any], Pullback]:
    """Run the forward half of the rule on values or tracers."""
    rule = reverse_rule(call)
    avals = [_jax.typeof(leaf) for leaf in leaves]
    results = implementation.results(call, avals)
    flags = _trees.unflatten(call.tree, perturbed)
    out, pullback = rule.fn(call.operands(as_arrays(leaves)), flags, call.params)
    outs = read_outputs(call.rules.name, "VJP rule", rule.author, out, results)
    outs = [fit(out, aval) for out, aval in zip(outs, results.avals, strict=True)]
    return outs, Pullback(call, rule, results, avals, perturbed, pullback)


# ------------------------------------------------------------------------------------------------------- tracing it
@dataclass(frozen=True)
class TracedPullback:
    """A pullback's jaxpr; what it closes over is given each time it runs."""

    jaxpr: Any
    fixed: Sequence[Any]  # the constants; None in the place of a residual
    is_residual: Sequence[bool]

    def __call__(self, count: int, *args: Any) -> list[Any]:
        """Run it on ``count`` residuals and the cotangents."""
        residuals = iter(args[:count])
        consts = [next(residuals) if r else value for r, value in zip(self.is_residual, self.fixed, strict=True)]
        return _jax.evaluate_open(self.jaxpr, consts, *args[count:])


def trace_pullback(pullback: Pullback) -> tuple[TracedPullback, list[Any]]:
    """Trace a pullback on all cotangents; also returns the traced values that it closes over: its residuals."""
    jaxpr, consts = trace_open(pullback)
    is_residual = [isinstance(const, _jax.Tracer) for const in consts]
    fixed = [None if r else const for const, r in zip(consts, is_residual, strict=True)]
    residuals = select(consts, is_residual)
    return TracedPullback(jaxpr, fixed, is_residual), residuals


def trace_open(pullback: Pullback) -> tuple[Any, list[Any]]:
    """The jaxpr of a pullback on all cotangents, and the values that it closes over and reads."""
    results = pullback.results
    mask = [_jax.has_tangent(aval) for aval in results.avals]
    zeros = [_jax.JaxZero(_jax.cotangent_aval(aval)) for aval in results.avals]

    def pull(*cts: Any) -> list[Any]:
        return _wanted(pullback, pullback(expand(cts, mask, zeros.__getitem__)))

    return _jax.prune(*_jax.trace_open(pull, cotangent_avals(results), f"{pullback.call.rules.name}_pullback"))


def cotangent_avals(results: Results) -> list[Any]:
    """The cotangent types of the results that have any."""
    return [_jax.cotangent_aval(aval) for aval in results.avals if _jax.has_tangent(aval)]


def _wanted(pullback: Pullback, cotangents: Sequence[Any]) -> list[Any]:
    """The cotangents of the perturbed operands, zeros made."""
    return [
        _jax.zeros(_jax.cotangent_aval(aval)) if ct is None else ct
        for ct, aval, wanted in zip(cotangents, pullback.avals, pullback.perturbed, strict=True)
        if wanted
    ]
