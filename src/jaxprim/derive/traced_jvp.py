"""A JVP rule as a program: (operands, nonzero tangents) -> nonzero tangents of the results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax

from jaxprim import _jax, _trees
from jaxprim._avals import instantiate, nonzero
from jaxprim._calls import Call
from jaxprim._levels import axes_of
from jaxprim._masks import Mask, expand, select
from jaxprim._programs import may_lack_transpose, replace_application
from jaxprim._returned import as_arrays, fit, read_linear, read_outputs, run_with_zeros, wanted_tangents, wrong
from jaxprim._rule_kinds import form_of
from jaxprim._rules import Rule
from jaxprim._zeros import is_zero
from jaxprim.derive.abstract_eval import results
from jaxprim.derive.rule_values import values_of
from jaxprim.derive.site import Site
from jaxprim.derive.table import choose
from jaxprim.derive.traced import refuse_tracers


@dataclass(frozen=True)
class TracedJvp:
    """A traced JVP rule.

    Attributes:
        program: (n operands, m results if `uses_results`, nonzero tangents) -> nonzero result tangents.
        nonzero: which of the m results have a tangent that is not symbolically zero.
        uses_results: whether the rule computes the primitive's own results. They are then inputs of the program
            instead.
        may_lack_transpose: whether an equation that depends on the tangents may have no transpose as it stands.
        values: the results as the rule writes them (`values_of`).
    """

    program: Any
    nonzero: Mask
    uses_results: bool
    may_lack_transpose: bool
    values: Any | None


def jvp_rule_of(call: Call) -> Rule:
    """The JVP rule that runs: the author's, or the impl's."""
    return call.rules.given["jvp"] if choose(call.rules, "jvp").status == "given" else impl_rule(call)


def impl_rule(call: Call) -> Rule:
    """A JVP rule that lets JAX differentiate the impl."""
    impl = call.rules.given["impl"]

    def fn(primals: Any, tangents: Any, perturbed: Any, params: Any) -> Any:
        leaves, tree = jax.tree.flatten(primals)
        flat = _trees.flatten_like(tree, tangents)
        dots = [_jax.zero_tangent(x) if is_zero(t) else t for x, t in zip(leaves, flat, strict=True)]
        return jax.jvp(lambda *xs: impl.author(*xs, **params), primals, tree.unflatten(instantiate(dots)))

    return Rule("jvp", impl.author, fn)


def run_jvp_rule(call: Call, leaves: Sequence[Any], tangents: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Run the rule on values or tracers.

    Args:
        call: the call, of one element.
        leaves: n operands.
        tangents: n tangents, which may be JAX's zeros.

    Returns:
        m results, and m tangents: None for one that is symbolically zero.
    """
    rule, form = jvp_rule_of(call), form_of("jvp")
    found = results(call, [_jax.typeof(leaf) for leaf in leaves])
    flags = _trees.Flags(call.tree, nonzero(tangents))
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
    in_reach = lambda: call.in_reach([_jax.typeof(leaf) for leaf in leaves])
    outs = read_outputs(call.rules.name, form, rule.author, value[0], found, in_reach)
    wanted = wanted_tangents(found)
    dots = read_linear(call.rules.name, form.phrase, rule.author, value[1], wanted)
    outs = [fit(out, aval) for out, aval in zip(outs, found.avals, strict=True)]
    return outs, [None if dot is None else fit(dot, aval) for dot, aval in zip(dots, wanted.avals, strict=True)]


def traced_jvp(call: Call, site: Site) -> TracedJvp:
    """The traced JVP rule at a site of a call."""
    with axes_of(call.levels):
        return call.rules.cache.get(("jvp", site), lambda: _trace(site))


def _trace(site: Site) -> TracedJvp:
    call, count = site.call, len(site.avals)
    nonzero: list[Mask] = []
    tangents = [_jax.tangent_aval(aval) for aval in site.avals]  # the tangent of a Python number stays weakly typed

    def run(*args: Any) -> list[Any]:
        given = expand(args[count:], site.perturbed, lambda i: _jax.JaxZero(tangents[i]))
        outs, dots = run_jvp_rule(call, args[:count], given)
        nonzero.append(tuple(dot is not None for dot in dots))
        return [*outs, *(dot for dot in dots if dot is not None)]

    inputs = [*site.avals, *select(tangents, site.perturbed)]
    whole = _jax.trace(run, inputs, f"{call.rules.name}_jvp")
    refuse_tracers(call, jvp_rule_of(call), whole)
    # A rule that was made from the impl is for the tangents alone: a kernel may compute the value.
    values = values_of(site, whole) if choose(call.rules, "jvp").status == "given" else None
    program = _jax.select_outputs(whole, [False] * len(site.results.avals) + [True] * sum(nonzero[0]))
    # The value y = f(x) is bound beside the pushforward. A rule that applies the primitive itself, as in
    # y_dot = J(x, f(x)) x_dot, would run the kernel a second time. So y becomes an input: y_dot = J(x, y) x_dot.
    shared = replace_application(program, call.rules.primitive, {"call": call}, count) if values is None else None
    program = program if shared is None else shared
    known = len(_jax.in_avals(program)) - sum(site.perturbed)
    is_linear = [i >= known for i in range(len(_jax.in_avals(program)))]
    return TracedJvp(program, nonzero[0], shared is not None, may_lack_transpose(program, is_linear), values)
