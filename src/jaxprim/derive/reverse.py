"""The author's VJP rule as programs.

The rule is traced once for each operand types. Its forward half becomes a program (operands) -> (results, residuals); the
residuals are the values that the traced pullback reads, no more. One that is an operand or a result is that very array, and is
not kept twice. Its backward half becomes a `LinearMap` (residuals, cotangents) -> cotangents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from jaxprim import _jax
from jaxprim._calls import Call
from jaxprim._levels import Level, Levels, axes_of, batch_program
from jaxprim._linear import LinearMap, select_dims
from jaxprim._masks import Mask
from jaxprim._programs import replace_application
from jaxprim._results import Results
from jaxprim.derive import implementation
from jaxprim.derive.loop import close
from jaxprim.derive.pullback import TracedPullback, cotangent_avals, reverse_rule, run_rule, trace_pullback


@dataclass(frozen=True, eq=False)
class Reverse:
    """A traced VJP rule.

    Attributes:
        call: the call whose rule it is, without batch levels.
        forward: the program (operands) -> (results, residuals).
        pullback: (residuals, cotangents of the results that have any) -> cotangents of the perturbed operands.
        pushforward: its transpose, (residuals, tangents) -> tangents.
        results: the result types of one element.
    """

    call: Call
    forward: Any
    pullback: LinearMap
    pushforward: LinearMap
    results: Results
    _stacked: dict[Any, Any] = field(default_factory=dict)

    @cached_property
    def residuals(self) -> Any:
        """The program (operands) -> residuals."""
        count, total = len(self.results.avals), len(_jax.out_avals(self.forward))
        return _jax.select_outputs(self.forward, [index >= count for index in range(total)])

    @cached_property
    def residuals_from_results(self) -> Any:
        """The program (operands, results) -> residuals; None if no residual is made from the primitive's results."""
        operands = len(_jax.in_avals(self.forward))
        primitive, params = self.call.rules.primitive, {"call": self.call}
        return replace_application(self.residuals, primitive, params, operands)

    def under(self, program: Any, levels: Levels, wanted: Sequence[Sequence[int | None]]) -> tuple[Any, Levels]:
        """A program under levels: its first outputs where they are wanted, the others where they fall."""
        key = (id(program), levels, tuple(map(tuple, wanted)), _jax.trace_context())
        if key not in self._stacked:
            self._stacked[key] = _under_levels(program, levels, wanted)
        return self._stacked[key]


def reverse(call: Call, avals: Sequence[Any], perturbed: Mask) -> Reverse:
    """The traced VJP rule of one element of a call."""
    key = ("reverse", call.base, tuple(avals), perturbed)
    with axes_of(call.levels):
        return call.rules.cache.get(key, lambda: _trace(call.base, avals, perturbed))


def _trace(call: Call, avals: Sequence[Any], perturbed: Mask) -> Reverse:
    found: list[TracedPullback] = []

    def run(*leaves: Any) -> list[Any]:
        outs, pullback = run_rule(call, leaves, perturbed)
        traced, residuals = trace_pullback(pullback)
        found.append(traced)
        return [*outs, *residuals]

    results = implementation.results(call, avals)
    program = _jax.trace(run, avals, f"{call.rules.name}_forward")
    implementation.refuse_tracers(call, reverse_rule(call), program)
    residuals = _jax.out_avals(program)[len(results.avals) :]
    count = len(residuals)
    pull = _jax.trace(
        lambda *args: found[0](count, *args), [*residuals, *cotangent_avals(results)], f"{call.rules.name}_pullback"
    )
    loop = close(call, avals, perturbed, pull, residuals)
    if loop.keeps_operands:
        own = program
        program = _jax.trace(lambda *leaves: [*_jax.evaluate(own, *leaves), *leaves], avals, "forward")
    return Reverse(call, program, loop.pullback, loop.pushforward, results)


# ----------------------------------------------------------------------------------------------------- under batch levels
def run_forward(found: Reverse, call: Call, leaves: Sequence[Any]) -> tuple[list[Any], list[Any], Levels]:
    """Results and residuals of a call under its levels, and the residuals' batch dimensions."""
    count = len(found.results.avals)
    program, levels = found.under(found.forward, call.levels, [level.out_dims for level in call.levels])
    outs = _jax.evaluate(program, *leaves)
    return outs[:count], outs[count:], _residual_levels(levels, count)


def residuals_alone(
    found: Reverse, leaves: Sequence[Any], results: Sequence[Any] | None, levels: Levels
) -> tuple[list[Any], Levels]:
    """The residuals at some operands; the primitive's results are used where they are known, not computed again."""
    program, inputs = found.residuals, list(leaves)
    if results is not None and found.residuals_from_results is not None:
        program, inputs = found.residuals_from_results, [*leaves, *results]
    elif results is not None:
        levels = select_dims(levels, [True] * len(leaves) + [False] * len(results))
    program, placed = found.under(program, levels, [()] * len(levels))
    return _jax.evaluate(program, *inputs), _residual_levels(placed, 0)


def _under_levels(program: Any, levels: Levels, wanted: Sequence[Sequence[int | None]]) -> tuple[Any, Levels]:
    placed: list[Level] = []
    for level, dims in zip(levels, wanted, strict=True):
        _, natural = _jax.batch(program, level.axis, level.in_dims)
        fitted = Level(level.axis, level.in_dims, (*dims, *natural[len(dims) :]))
        program = batch_program(program, fitted)
        placed.append(fitted)
    return program, tuple(placed)


def _residual_levels(levels: Levels, count: int) -> Levels:
    """Levels whose inputs are the outputs after the first ``count`` of these levels."""
    return tuple(Level(level.axis, level.out_dims[count:], ()) for level in levels)
