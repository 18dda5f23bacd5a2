"""The author's JVP rule as a program: (operands, nonzero tangents) -> nonzero tangents of the results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax

from jaxprim import _jax, _trees
from jaxprim._calls import Call
from jaxprim._levels import axes_of
from jaxprim._masks import Mask, expand, select
from jaxprim._programs import replace_application
from jaxprim._results import as_arrays, fit, read_linear, read_outputs, run_with_zeros, wanted_tangents, wrong
from jaxprim._rules import Rule
from jaxprim.derive import implementation


@dataclass(frozen=True)
class Forward:
    """A traced JVP rule.

    Attributes:
        program: (operands, results if `uses_results`, nonzero tangents) -> nonzero result tangents.
        nonzero: which results have a tangent that is not symbolically zero.
        uses_results: whether the rule reads the primitive's own results, which are then passed in, not computed again.
    """

    program: Any
    nonzero: Mask
    uses_results: bool


def forward_rule(call: Call) -> Rule:
    """The JVP rule: given, or that of the impl where the author chose so."""
    return call.rules.given.get("jvp") or impl_rule(call)


def impl_rule(call: Call) -> Rule:
    """The JVP rule of the impl as JAX differentiates it."""
    impl = call.rules.given["impl"]

    def fn(primals: Any, tangents: Any, perturbed: Any, params: Any) -> Any:
        leaves, tree = jax.tree.flatten(primals)
        flat = _trees.flatten_like(tree, tangents)
        dots = [_jax.zero_tangent(x) if t is None else t for x, t in zip(leaves, flat, strict=True)]
        dots = [_jax.zeros(t.aval) if isinstance(t, _jax.JaxZero) else t for t in dots]
        return jax.jvp(lambda *xs: impl.author(*xs, **params), primals, tree.unflatten(dots))

    return Rule("jvp", impl.author, fn)


def run_rule(call: Call, leaves: Sequence[Any], tangents: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Run the rule on values or tracers. Tangents may be JAX's zeros; a zero among those returned is None."""
    rule = forward_rule(call)
    avals = [_jax.typeof(leaf) for leaf in leaves]
    results = implementation.results(call, avals)
    flags = _trees.unflatten(call.tree, [not isinstance(t, _jax.JaxZero) for t in tangents])
    operands = call.operands(as_arrays(leaves))
    run = lambda given: rule.fn(operands, _trees.unflatten(call.tree, given), flags, call.params)
    value = run_with_zeros(run, tangents)
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise wrong(
            call.rules.name,
            "the JVP rule must return (primals_out, tangents_out).",
            got=_trees.describe(value),
            expected="a tuple of 2",
            rule=rule.author,
            write="return primals_out, tangents_out",
        )
    outs = read_outputs(call.rules.name, "JVP rule", rule.author, value[0], results)
    wanted = wanted_tangents(results)
    dots = read_linear(call.rules.name, "JVP rule", rule.author, value[1], wanted)
    outs = [fit(out, aval) for out, aval in zip(outs, results.avals, strict=True)]
    return outs, [None if dot is None else fit(dot, aval) for dot, aval in zip(dots, wanted.avals, strict=True)]


def forward(call: Call, avals: Sequence[Any], perturbed: Mask) -> Forward:
    """The traced JVP rule of one element of a call."""
    key = ("forward", call.base, tuple(avals), perturbed)
    with axes_of(call.levels):
        return call.rules.cache.get(key, lambda: _trace(call.base, avals, perturbed))


def _trace(call: Call, avals: Sequence[Any], perturbed: Mask) -> Forward:
    nonzero: list[Mask] = []
    tangents = [_jax.tangent_aval(aval) for aval in avals]  # that of a Python number stays weakly typed

    def run(*args: Any) -> list[Any]:
        given = expand(args[len(avals) :], perturbed, lambda i: _jax.JaxZero(tangents[i]))
        _, dots = run_rule(call, args[: len(avals)], given)
        nonzero.append(tuple(dot is not None for dot in dots))
        return [dot for dot in dots if dot is not None]

    inputs = [*avals, *select(tangents, perturbed)]
    program = _jax.trace(run, inputs, f"{call.rules.name}_jvp")
    implementation.refuse_tracers(call, forward_rule(call), program)
    shared = replace_application(program, call.rules.primitive, {"call": call}, len(avals))
    return Forward(program if shared is None else shared, nonzero[0], shared is not None)
