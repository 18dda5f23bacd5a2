"""Make a primitive's three JAX primitives, and write their rules into JAX's tables: the only global side effect.

This runs when a `Primitive` is made, before any rule is given. Nothing is derived until JAX calls a rule. All
primitives share the same rule functions; the data of each primitive is in the ``call`` or ``linear_map`` of an
application. So JAX's tables hold nothing that keeps a dropped primitive alive.
"""

from __future__ import annotations

import weakref

from jaxprim import _jax, _linear
from jaxprim._rules import RuleSet
from jaxprim.derive import batching, jet, jvp, lowering, programs, transpose, vjp

# The rules of the main primitive. Each looks up its derivation in `table.TABLE`.
MAIN = {
    "abstract_eval": lowering.abstract_eval_rule,
    "shown": programs.shown_program,
    "lowering": lowering.lower_anywhere,
    "jvp": jvp.jvp_rule,
    "linearize": vjp.linearization_rule,
    "transpose": transpose.transpose_rule,
    "batching": batching.batching_rule,
    "jet": jet.jet_rule,
}
# The rules of its pushforward and its pullback.
LINEAR = {
    "abstract_eval": _linear.abstract_eval_rule,
    "shown": _linear.shown_program,
    "lowering": lowering.lower_linear,
    "jvp": _linear.jvp_rule,
    "transpose": _linear.transpose_rule,
    "batching": _linear.batching_rule,
    "jet": _linear.jet_rule,
}


def install(rules: RuleSet) -> None:
    """Make the three JAX primitives and register them. They are unregistered when the rule set is freed."""
    rules.primitive = _jax.new_primitive(rules.name)
    rules.pushforward = _jax.new_primitive(f"{rules.name}_pushforward")
    rules.pullback = _jax.new_primitive(f"{rules.name}_pullback")
    for primitive, functions in ((rules.primitive, MAIN), (rules.pushforward, LINEAR), (rules.pullback, LINEAR)):
        _jax.register(primitive, **functions)
        weakref.finalize(rules, _jax.unregister, primitive)


def reinstall(rules: RuleSet) -> None:
    """Register the lowerings again after a kernel or raw lowering was given."""
    lowering.register(rules)
