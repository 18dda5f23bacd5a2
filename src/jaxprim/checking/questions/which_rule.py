"""Does forward mode run the JVP rule and reverse mode the VJP rule, in every context?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import jax

from jaxprim._record import record_rules
from jaxprim.checking import contexts
from jaxprim.checking.answers import Answer, NotAsked, Note
from jaxprim.checking.case import Case
from jaxprim.checking.question import question
from jaxprim.checking.reports.findings import Evidence

CONTEXTS: Mapping[str, contexts.Transform] = {
    "eager": lambda function: function,
    "jit": jax.jit,
    "vmap": contexts.vmap,
    "checkpoint": contexts.checkpoint,
    "scan": contexts.scan,
    "cond": lambda function: contexts.cond(function, function),
    "checkpoint inside scan": lambda function: contexts.scan(contexts.checkpoint(function)),
}


@question("Does forward mode run the JVP rule and reverse mode the VJP rule, in every context?", group="control flow")
def which_rule(case: Case) -> Answer:
    """Differentiate in both modes in each context while counting the author's rules that run."""
    if not case.subject.is_primitive:
        raise NotAsked("a plain function has no rules to choose between")
    other, asked = {"jvp": "vjp", "vjp": "jvp"}, False
    for mode in (yield from case.rules()):
        if not case.subject.is_given(mode):
            yield Note(f"the {mode} rule is not given")
            continue
        asked = True
        for context, wrap in CONTEXTS.items():
            yield _rules_that_run(case, mode, other[mode], context, wrap)
    if not asked:
        raise NotAsked("neither a JVP nor a VJP rule is given: there is no choice")


def _rules_that_run(case: Case, mode: str, other: str, context: str, wrap: contexts.Transform) -> Evidence:
    """Evidence that only the rule of this mode ran. Only the eager context runs; the others are just lowered."""
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


def _differentiate(case: Case, mode: str, wrap: contexts.Transform, *, run: bool) -> None:
    precision, wrt = case.native, case.wrt(mode)
    function = wrap(precision.of(precision.point.leaves, wrt))
    primals = tuple(precision.point.leaves[i] for i in wrt)
    tangents = tuple(precision.cast({i: case.relative(i) for i in wrt}).values())
    cotangents = precision.seeds(precision.results, precision.cast_out(case.cotangents(0)))

    def forward(*primals: Any) -> Any:
        return jax.jvp(function, primals, tangents)[1]

    def reverse(*primals: Any) -> Any:
        out, pull = jax.vjp(function, *primals)
        return pull(jax.tree.unflatten(jax.tree.structure(out), cotangents))

    differentiated = forward if mode == "jvp" else reverse
    if run:
        differentiated(*primals)
    else:
        jax.jit(differentiated).lower(*primals)
