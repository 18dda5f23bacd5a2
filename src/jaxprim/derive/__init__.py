"""Rules that are derived from the rules that are given: one file per rule, one table (`table.py`)."""

from __future__ import annotations

from jaxprim import _jax, _linear
from jaxprim._rules import RuleSet
from jaxprim.derive import batching, jet, jvp, lowering, transpose, vjp
from jaxprim.derive.report import report
from jaxprim.derive.table import TABLE, Row, set_choice

__all__ = ["TABLE", "Row", "complete", "report", "set_choice"]


def complete(rules: RuleSet) -> None:
    """Give a rule set its three JAX primitives, whose rules are complete whatever the author gave."""
    rules.primitive = _jax.new_primitive(rules.name)
    rules.pushforward = _jax.new_primitive(f"{rules.name}_pushforward")
    rules.pullback = _jax.new_primitive(f"{rules.name}_pullback")


MAIN = {
    "jvp": jvp.jvp,
    "linearize": vjp.linearize,
    "transpose": transpose.transpose,
    "batching": batching.batch,
    "jet": jet.jet,
}
LINEAR = {
    "jvp": _linear.jvp,
    "transpose": _linear.transpose,
    "batching": _linear.batching,
    "jet": _linear.jet,
}
ABSTRACT_EVAL = (lowering.abstract_eval, _linear.abstract_eval)
LOWERING = (lowering.lower_anywhere, lowering.lower_linear)
