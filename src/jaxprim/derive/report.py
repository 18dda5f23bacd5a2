"""What is given, derived, or missing: the facts behind ``explain``."""

from __future__ import annotations

from jaxprim._rules import Rule, RuleSet
from jaxprim._types import RuleInfo
from jaxprim.derive import batching
from jaxprim.derive.table import choose, line_to_write, why_missing


def report(rules: RuleSet) -> tuple[RuleInfo, ...]:
    """Every rule of a primitive and where it comes from."""
    return (
        *_implementations(rules),
        *(_info(rules, name) for name in ("abstract_eval", "jvp", "vjp", "transpose")),
        _batching(rules),
    )


def _implementations(rules: RuleSet) -> tuple[RuleInfo, ...]:
    names = [n for n in rules.given if n in ("impl", "host") or n.startswith(("kernel[", "lowering["))]
    if not names:
        return (RuleInfo("impl", "missing", why=why_missing(rules, "lowering"), write=f"@{rules.name}.def_impl"),)
    return tuple(_given(rules.given[name]) for name in names)


def _given(rule: Rule) -> RuleInfo:
    notes: list[str] = []
    if rule.surrogate is not None:
        notes.append(f"surrogate: {rule.surrogate}")
    if rule.operands is not None:
        notes.append(f"per operand: {', '.join(rule.operands)}")
    notes.extend(getattr(rule.author, "notes", ()))  # what jaxprim says of a rule that it wrote itself
    return RuleInfo(rule.name, "given", rule.origin, notes=tuple(notes))


def _info(rules: RuleSet, name: str) -> RuleInfo:
    choice = choose(rules, name)
    if choice.status == "given":
        return _given(rules.given[name])
    if choice.status == "derived":
        chosen = (f"chosen with derive({name}='{choice.source}')",) if name in rules.choices else ()
        return RuleInfo(name, "derived", choice.source, choice.how, notes=chosen)
    return RuleInfo(name, "missing", why=why_missing(rules, name), write=line_to_write(rules, name))


def _batching(rules: RuleSet) -> RuleInfo:
    if rules.batching_word is not None and not rules.has("batching"):
        return RuleInfo("batching", "given", f"the word '{batching.word(rules)}'")
    return _info(rules, "batching")
