"""The pullback of a plain eager ``grad``: the author's Python function, unchanged.

If no tracer is involved, it is called with concrete cotangents in the backward pass. Anything else (a batch of
cotangents, another derivative) traces it; the values that it closes over then become the residuals.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from jaxprim import _jax
from jaxprim._levels import Level, Levels
from jaxprim._linear import LinearMap, ResidualsForTranspose
from jaxprim._masks import Mask, expand, select
from jaxprim.derive.traced_vjp import Pullback, trace_pullback
from jaxprim.derive.transposed_pair import TransposedPair, transposed_pair

Values = Sequence[Any]


@_jax.held_weakly
class EagerPullback(LinearMap):
    """The pushforward whose transpose is a Python pullback."""

    def __init__(self, pullback: Pullback, operands: Values) -> None:
        self.kept, site = pullback, pullback.site
        # Only an opaque pullback needs the operands, for the JVP rule; nothing else holds them here.
        self._operands = tuple(operands) if site.call.rules.has("jvp") else ()
        super().__init__(
            site.call.rules,
            "pushforward",
            residuals=0,
            in_avals=site.tangent_avals,
            out_avals=site.result_tangent_avals,
            build=self._explicit_program,
            transposed=self._explicit_transpose,
        )

    def pull_back(self, residuals: Values, cts: Values, nonzero: Mask, wanted: Mask, levels: Levels) -> list[Any]:
        """Call the Python pullback in plain eager code; otherwise transpose like any other map."""
        if levels or not _jax.is_eager():
            return super().pull_back(residuals, cts, nonzero, wanted, levels)
        self.owner.record("vjp", self.kept.rule)
        site = self.kept.site
        some = expand(cts, nonzero, lambda i: _jax.JaxZero(self.out_avals[i]))
        found = self.kept(expand(some, site.has_tangent, lambda i: _jax.JaxZero(site.all_cotangent_avals[i])))
        whole = [
            _jax.JaxZero(aval) if ct is None else ct
            for ct, aval in zip(found, site.operand_cotangent_avals, strict=True)
        ]
        return select(select(whole, site.perturbed), wanted)

    # ------------------------------------------------------------------------------------------------- made explicit
    @cached_property
    def _explicit(self) -> tuple[TransposedPair, tuple[Any, ...]]:
        """The pair of the traced pullback, and the values of its residuals."""
        site = self.kept.site
        jaxpr, consts = trace_pullback(self.kept)
        count = len(consts)
        avals = [_jax.typeof(const) for const in consts]
        run = lambda *args: _jax.evaluate_open(jaxpr, args[:count], *args[count:])
        pair = transposed_pair(site, _jax.trace(run, [*avals, *site.cotangent_avals], "pullback"), avals)
        return pair, (*consts, *(self._operands if pair.keeps_operands else ()))

    def _explicit_program(self) -> Any:
        pair, values = self._explicit
        run = pair.pushforward.program
        return _jax.trace(lambda *tangents: _jax.evaluate(run, *values, *tangents), self.in_avals, "pushforward")

    def _explicit_transpose(self) -> tuple[ResidualsForTranspose, LinearMap]:
        pair, values = self._explicit
        shared = tuple(None for _ in values)  # the same for every element of a batch

        def residuals_of(residuals: Values, levels: Levels) -> tuple[list[Any], Levels]:
            return list(values), tuple(Level(level.axis, shared, ()) for level in levels)

        return residuals_of, pair.pullback
