"""Writes one finished `RuleSet` into JAX's tables: the only global side effect.

The rules are the same functions for every primitive; what differs is in the ``call`` or ``map`` of an application. JAX's
tables therefore hold nothing that keeps a dropped primitive alive.
"""

from __future__ import annotations

import weakref

from jaxprim import _jax
from jaxprim._rules import RuleSet
from jaxprim.derive import ABSTRACT_EVAL, LINEAR, LOWERING, MAIN, complete, lowering


def install(rules: RuleSet) -> None:
    """Register a primitive with JAX; it is taken out again when it is dropped."""
    complete(rules)
    main_eval, linear_eval = ABSTRACT_EVAL
    lower_main, run_linear = LOWERING
    _jax.register(rules.primitive, abstract_eval=main_eval, lowering=lower_main, **MAIN)
    for primitive in (rules.pushforward, rules.pullback):
        _jax.register(primitive, abstract_eval=linear_eval, lowering=run_linear, **LINEAR)
        weakref.finalize(rules, _jax.unregister, primitive)
    weakref.finalize(rules, _jax.unregister, rules.primitive)


def reinstall(rules: RuleSet) -> None:
    """Register the lowerings of a primitive that got another kernel."""
    lowering.register(rules)
