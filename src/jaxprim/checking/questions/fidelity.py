"""Which rule ran: forward mode must run the JVP rule and reverse mode the VJP rule, in every context."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim._record import record_rules
from jaxprim.checking.case import Case
from jaxprim.checking.reports.report import Evidence
from jaxprim.checking.setting import Answer, NotAsked, Note
from jaxprim.checking.values import has_tangents

Function = Callable[..., Any]


def _vmapped(function: Function) -> Function:
    batched = jax.vmap(function)
    return lambda *some: batched(*jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], some))


def _scanned(function: Function) -> Function:
    return lambda *some: jax.lax.scan(lambda carry, _: (carry, function(*some)), None, None, length=2)[1]


def _behind_a_condition(function: Function) -> Function:
    def call(*some: Any) -> Any:
        return jax.lax.cond(jax.lax.optimization_barrier(jnp.array(True)), function, function, *some)

    return call


CONTEXTS: Mapping[str, Callable[[Function], Function]] = {
    "eager": lambda function: function,
    "jit": jax.jit,
    "vmap": _vmapped,
    "checkpoint": jax.checkpoint,
    "scan": _scanned,
    "cond": _behind_a_condition,
    "checkpoint inside scan": lambda function: _scanned(jax.checkpoint(function)),
}


def which_rule(case: Case) -> Answer:
    """Differentiate in both modes in each context while counting the author's rules that run."""
    if case.subject.primitive is None:
        raise NotAsked("a plain function has no rules to choose between")
    other, asked = {"jvp": "vjp", "vjp": "jvp"}, False
    for mode in (yield from case.rules()):
        if not case.subject.gave(mode):
            yield Note(f"the {mode} rule is not given")
            continue
        asked = True
        for context, wrap in CONTEXTS.items():
            yield _ran(case, mode, other[mode], context, wrap)
    if not asked:
        raise NotAsked("neither a JVP nor a VJP rule is given: there is no choice")


def _ran(case: Case, mode: str, other: str, context: str, wrap: Callable[[Function], Function]) -> Evidence:
    """Evidence that only the rule of this mode ran. All but the eager context are lowered, and not compiled."""
    with record_rules(quiet=True) as record:
        _differentiate(case, mode, wrap, run=context == "eager")
    counts = _author_runs(record.counts, case.subject.name)
    got = ", ".join(f"{rule} x {count}" for rule, count in sorted(counts.items())) or "no rule"
    direction = "forward" if mode == "jvp" else "reverse"
    ok = counts[mode] > 0 and counts[other] == 0
    expected = f"{mode}, and not {other}"
    return Evidence(mode, f"{direction} mode, {context}", "the rules that ran", got=got, expected=expected, ok=ok)


def _author_runs(counts: Mapping[tuple[str, str, str], int], name: str) -> Counter[str]:
    runs: Counter[str] = Counter()
    for (primitive, rule, _), count in counts.items():
        if primitive == name and rule in ("jvp", "vjp"):
            runs[rule] += count
    return runs


def _differentiate(case: Case, mode: str, wrap: Callable[[Function], Function], *, run: bool) -> None:
    precision, wrt = case.native, case.wrt(mode)
    function = wrap(precision.of(precision.point.leaves, wrt))
    primals = tuple(precision.point.leaves[i] for i in wrt)

    def forward(*primals: Any) -> Any:
        tangents = precision.cast({i: case.relative(i) for i in wrt})
        return jax.jvp(function, primals, tuple(tangents[i] for i in wrt))[1]

    def reverse(*primals: Any) -> Any:
        out, pull = jax.vjp(function, *primals)
        return pull(jax.tree.map(_ones, out))

    differentiated = forward if mode == "jvp" else reverse
    if run:
        differentiated(*primals)
    else:
        jax.jit(differentiated).lower(*primals)


def _ones(leaf: Any) -> Any:
    if has_tangents(leaf):
        return jnp.ones_like(leaf)
    return np.zeros(leaf.shape, jax.dtypes.float0)
