"""Run a VJP rule, and trace it to programs.

The rule is traced once for each site, in two halves:

    forward     x -> y, r
    backward    r, y_bar -> x_bar = J(x)^T y_bar

The residuals r are the traced values that the pullback reads: operands, results or any other values. The backward half
becomes a `LinearMap`, together with its transpose (`transposed_pair`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from jaxprim import _jax, _trees
from jaxprim._calls import Call
from jaxprim._levels import Level, Levels, axes_of, batch_program
from jaxprim._linear import LinearMap, select_dims
from jaxprim._masks import expand, select
from jaxprim._programs import replace_application
from jaxprim._returned import as_arrays, fit, read_cotangents, read_outputs, run_with_zeros
from jaxprim._rule_kinds import form_of
from jaxprim._rules import Rule
from jaxprim.derive.rule_values import values_of
from jaxprim.derive.site import Site
from jaxprim.derive.table import choose
from jaxprim.derive.traced import refuse_tracers
from jaxprim.derive.transposed_pair import transposed_pair


# --------------------------------------------------------------------------------------------------- running the rule
def vjp_rule_of(call: Call) -> Rule:
    """The VJP rule that reverse mode runs, by the table."""
    return choose(call.rules, "vjp").derive(call)


@dataclass(frozen=True, eq=False)
class Pullback:
    """The author's pullback, as a function of flat cotangents."""

    site: Site
    rule: Rule
    fn: Callable[..., Any]

    def __call__(self, cotangents: Sequence[Any]) -> list[Any]:
        """Cotangents of the n operands (None for a zero) from those of the m results (JAX zeros allowed)."""
        site, wanted = self.site, self.site.wanted_cotangents
        value = run_with_zeros(lambda cts: self.fn(_trees.unflatten(site.results.tree, cts)), cotangents)
        rule, phrase = self.rule, form_of("vjp").phrase
        found = read_cotangents(site.call.rules.name, phrase, rule.author, value, site.call.tree, wanted)
        return [
            None if ct is None or not perturbed else fit(ct, aval)
            for ct, perturbed, aval in zip(found, site.perturbed, wanted.avals, strict=True)
        ]


def run_vjp_rule(site: Site, leaves: Sequence[Any]) -> tuple[list[Any], Pullback]:
    """Run the forward half of the rule on n values or tracers; returns m results and the pullback."""
    call, rule = site.call, vjp_rule_of(site.call)
    flags = _trees.Flags(call.tree, site.perturbed)
    out, pullback = rule.fn(call.operands(as_arrays(leaves)), flags, call.params)
    in_reach = lambda: call.in_reach(site.avals)
    outs = read_outputs(call.rules.name, form_of("vjp"), rule.author, out, site.results, in_reach)
    outs = [fit(out, aval) for out, aval in zip(outs, site.results.avals, strict=True)]
    return outs, Pullback(site, rule, pullback)


def trace_pullback(pullback: Pullback) -> tuple[Any, list[Any]]:
    """The jaxpr of a pullback on all cotangents, and the values that it closes over and reads."""
    site = pullback.site
    zeros = [_jax.JaxZero(aval) for aval in site.all_cotangent_avals]

    def pull(*cts: Any) -> list[Any]:
        return _of_perturbed(site, pullback(expand(cts, site.has_tangent, zeros.__getitem__)))

    return _jax.prune(*_jax.trace_open(pull, site.cotangent_avals, f"{site.call.rules.name}_pullback"))


def _of_perturbed(site: Site, cotangents: Sequence[Any]) -> list[Any]:
    """The cotangents of the perturbed operands, as arrays."""
    return [
        _jax.zeros(aval) if ct is None else ct
        for ct, aval, wanted in zip(cotangents, site.operand_cotangent_avals, site.perturbed, strict=True)
        if wanted
    ]


# ------------------------------------------------------------------------------------------------------ as programs
@dataclass(frozen=True, eq=False)
class TracedVjp:
    """A traced VJP rule.

    Attributes:
        site: where it was traced.
        forward: the program (n operands) -> (m results, r residuals).
        pullback: (r residuals, cotangents of the results that have any) -> cotangents of the perturbed operands.
        pushforward: its transpose, (r residuals, tangents) -> tangents.
    """

    site: Site
    forward: Any
    pullback: LinearMap
    pushforward: LinearMap
    _stacked: dict[Any, Any] = field(default_factory=dict)

    @cached_property
    def residuals(self) -> Any:
        """The program (n operands) -> r residuals."""
        count, total = len(self.site.results.avals), len(_jax.out_avals(self.forward))
        return _jax.select_outputs(self.forward, [index >= count for index in range(total)])

    @cached_property
    def values(self) -> Any | None:
        """The results as the rule writes them (`values_of`)."""
        return None if vjp_rule_of(self.site.call).value_by_operation else values_of(self.site, self.forward)

    @cached_property
    def residuals_from_results(self) -> Any:
        """The program (n operands, m results) -> r residuals; None if no residual is made from the operation's results."""
        call = self.site.call
        return replace_application(self.residuals, call.rules.primitive, {"call": call}, len(self.site.avals))

    def under(self, program: Any, levels: Levels, wanted: Sequence[Sequence[int | None]]) -> tuple[Any, Levels]:
        """`program` under vmap, level by level.

        Args:
            program: one of the programs of this rule.
            levels: the vmaps, innermost first; their ``in_dims`` are those of the program's inputs.
            wanted: for each level, the batch dimensions of the first outputs. The rest are batched along whichever
                dimension vmap chose, or not at all.

        Returns:
            The program of the whole batch, and the levels with the dimensions of all outputs.
        """
        key = (id(program), levels, tuple(map(tuple, wanted)), _jax.trace_context())
        if key not in self._stacked:
            self._stacked[key] = _under_levels(program, levels, wanted)
        return self._stacked[key]


def traced_vjp(call: Call, site: Site) -> TracedVjp:
    """The traced VJP rule at a site of a call."""
    with axes_of(call.levels):
        return call.rules.cache.get(("vjp", site), lambda: _trace(site))


def _trace(site: Site) -> TracedVjp:
    call, name = site.call, site.call.rules.name
    found: list[tuple[Any, list[Any], list[bool]]] = []  # the pullback's jaxpr, its constants, which are residuals
    # A residual stands there as None: a tracer that outlives its trace is a leak to `jax.checking_leaks`.

    def run(*leaves: Any) -> list[Any]:
        outs, pullback = run_vjp_rule(site, leaves)
        jaxpr, consts = trace_pullback(pullback)
        is_residual = [isinstance(const, _jax.Tracer) for const in consts]
        fixed = [None if r else const for const, r in zip(consts, is_residual, strict=True)]
        found.append((jaxpr, fixed, is_residual))
        return [*outs, *select(consts, is_residual)]

    program = _jax.trace(run, site.avals, f"{name}_forward")
    refuse_tracers(call, vjp_rule_of(call), program)
    jaxpr, fixed, is_residual = found[0]
    residuals = _jax.out_avals(program)[len(site.results.avals) :]
    count = len(residuals)

    def pull(*args: Any) -> list[Any]:
        return _jax.evaluate_open(jaxpr, expand(args[:count], is_residual, fixed.__getitem__), *args[count:])

    pair = transposed_pair(site, _jax.trace(pull, [*residuals, *site.cotangent_avals], f"{name}_pullback"), residuals)
    if pair.keeps_operands:
        own = program
        program = _jax.trace(lambda *leaves: [*_jax.evaluate(own, *leaves), *leaves], site.avals, "forward")
    return TracedVjp(site, program, pair.pullback, pair.pushforward)


# ------------------------------------------------------------------------------------------------- under batch levels
def run_forward(found: TracedVjp, call: Call, leaves: Sequence[Any]) -> tuple[list[Any], list[Any], Levels]:
    """The results and residuals of a call under its levels, and levels whose inputs are the residuals."""
    count = len(found.site.results.avals)
    program, levels = found.under(found.forward, call.levels, [level.out_dims for level in call.levels])
    outs = _jax.evaluate(program, *leaves)
    return outs[:count], outs[count:], _residual_levels(levels, count)


def only_residuals(
    found: TracedVjp, leaves: Sequence[Any], own_results: Sequence[Any] | None, levels: Levels
) -> tuple[list[Any], Levels]:
    """The residuals at some operands. If the primitive's results are known, they are used and not computed again."""
    program, inputs = found.residuals, list(leaves)
    if own_results is not None and found.residuals_from_results is not None:
        program, inputs = found.residuals_from_results, [*leaves, *own_results]
    elif own_results is not None:
        levels = select_dims(levels, [True] * len(leaves) + [False] * len(own_results))
    program, placed = found.under(program, levels, [()] * len(levels))
    return _jax.evaluate(program, *inputs), _residual_levels(placed, 0)


def _under_levels(program: Any, levels: Levels, wanted: Sequence[Sequence[int | None]]) -> tuple[Any, Levels]:
    """vmap a program level by level, and record where each output's batch dimension ends up (see `TracedVjp.under`)."""
    placed: list[Level] = []
    for level, dims in zip(levels, wanted, strict=True):
        _, natural = _jax.batch(program, level.axis, level.in_dims)
        fitted = Level(level.axis, level.in_dims, (*dims, *natural[len(dims) :]))
        program = batch_program(program, fitted)
        placed.append(fitted)
    return program, tuple(placed)


def _residual_levels(levels: Levels, count: int) -> Levels:
    """Levels whose inputs are the residuals: the outputs of ``levels`` after the first ``count``."""
    return tuple(Level(level.axis, level.out_dims[count:], ()) for level in levels)
