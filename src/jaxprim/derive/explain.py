"""``explain()``: for each kind of rule, the row that `table.choose` finds. The same row is the one that runs."""

from __future__ import annotations

from jaxprim._rule_kinds import BY_NAME, KINDS, RuleKind
from jaxprim._rules import Rule, RuleSet
from jaxprim._types import Explanation, RuleInfo
from jaxprim.derive.table import ANY, Choice, applies, choose, how, line_to_write, rows_of, why_missing


def explain(rules: RuleSet) -> Explanation:
    """Every rule of a primitive and where it comes from."""
    derived = [_info(rules, kind) for kind in KINDS if not kind.is_implementation and _is_shown(rules, kind)]
    declared = [_given(rule) for rule in rules.given.values() if BY_NAME[rule.kind].per_operand]
    return Explanation(rules.name, (*_implementations(rules), *derived, *declared))


def _implementations(rules: RuleSet) -> tuple[RuleInfo, ...]:
    """The implementations; if there are several kinds, also which one runs on which platform."""
    given = [_given(rule) for rule in rules.given.values() if _is_implementation(rule)]
    if not given:
        return (RuleInfo("impl", "missing", why=why_missing(rules, "lowering"), write=f"@{rules.name}.def_impl"),)
    is_choice = len({rule.kind for rule in rules.given.values() if _is_implementation(rule)}) > 1
    return (*given, *([_lowering(rules)] if is_choice else []))


def _is_shown(rules: RuleSet, kind: RuleKind) -> bool:
    """Rows on splitting are shown where there is something to say: XLA looks into traced code by itself."""
    if kind.per_operand:
        return False
    if kind.name == "partition":
        return "partition" in rules.given
    return kind.name != "sharding" or choose(rules, "sharding", None).source not in ("impl", "kernel", "")


def _is_implementation(rule: Rule) -> bool:
    return BY_NAME[rule.kind].is_implementation


def _lowering(rules: RuleSet) -> RuleInfo:
    """The row that says which implementation runs on platforms with rules of their own, and which elsewhere."""
    platforms = sorted({*rules.kernels(), *filter(None, rules.lowerings())})
    elsewhere = choose(rules, "lowering", None)
    own = [(platform, choose(rules, "lowering", platform)) for platform in platforms]
    notes = [f"on {platform}: {_source(choice)}" for platform, choice in own if choice.row is not elsewhere.row]
    if elsewhere.status == "given":
        return RuleInfo("lowering", "given", rules.lowerings()[None].origin, notes=tuple(notes))
    if elsewhere.row is None:  # only kernels are given, or `derive` chose them
        shown = choose(rules, "lowering", given=False)
        notes.append("elsewhere: missing")
    else:
        shown = elsewhere
    if shown.row is None:
        why, write = why_missing(rules, "lowering"), line_to_write(rules, "lowering")
        return RuleInfo("lowering", "missing", why=why, write=write, notes=tuple(notes))
    return RuleInfo("lowering", "derived", shown.source, shown.row.how, notes=(*_chosen(shown), *notes))


def _source(choice: Choice) -> str:
    return "missing" if choice.row is None else f"from {choice.source}"


def _chosen(choice: Choice) -> tuple[str, ...]:
    if not choice.is_chosen or choice.row is None:
        return ()
    return (f"chosen with derive({choice.row.missing}='{choice.source}')",)


def _given(rule: Rule) -> RuleInfo:
    notes: list[str] = []
    if rule.form is not None and rule.form.said:
        notes.append(rule.form.said + (f": {', '.join(rule.operands)}" if rule.operands else ""))
    if rule.surrogate is not None:
        notes.append(f"surrogate: {rule.surrogate}")
    notes.extend(getattr(rule.author, "notes", ()))  # notes on a rule that jaxprim itself wrote
    return RuleInfo(rule.label, "given", rule.origin, notes=tuple(notes))


def _info(rules: RuleSet, kind: RuleKind) -> RuleInfo:
    choice, name = choose(rules, kind.name, None if kind.name == "sharding" else ANY), kind.name
    if choice.row is None:
        return RuleInfo(name, "missing", why=why_missing(rules, name), write=line_to_write(rules, name))
    if choice.status == "derived":
        notes = (*_chosen(choice), *_also(rules, choice))
        return RuleInfo(name, "derived", choice.source, how(rules, choice.row), notes=notes)
    if name == "batching" and rules.batching_word is not None:
        return RuleInfo(name, "given", f"the word '{rules.batching_word}'")
    found = _given(rules.given[name])
    if name == "vjp" and rules.residual_names:
        notes = (*found.notes, f"names residuals for jax.checkpoint: {', '.join(rules.residual_names)}")
        return RuleInfo(found.rule, found.status, found.origin, notes=notes)
    return found if name != "transpose" else _of_declared(rules, found)


def _also(rules: RuleSet, choice: Choice) -> tuple[str, ...]:
    """A note on the source for other platforms, if a kernel serves only its own."""
    if choice.source != "kernel" or choice.is_chosen:
        return ()
    others = [row.have for row in rows_of("batching") if row.have not in ("batching", "kernel") and applies(rules, row)]
    return (f"elsewhere: from {others[0]}",) if others and choice.row in rows_of("batching") else ()


def _of_declared(rules: RuleSet, found: RuleInfo) -> RuleInfo:
    """Add to the row of a transpose rule that it covers only the operands declared linear."""
    rest = choose(rules, "transpose", given=False)
    said = f"linear in {', '.join(rules.linear)}"
    notes = (*found.notes, f"{said}; other operands: {_source(rest)}" if rest.row is not None else said)
    return RuleInfo(found.rule, found.status, found.origin, notes=notes)
