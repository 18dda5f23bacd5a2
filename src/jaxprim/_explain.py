"""``explain()`` as text."""

from __future__ import annotations

from collections.abc import Sequence

from jaxprim._types import RuleInfo


def explain(name: str, infos: Sequence[RuleInfo]) -> str:
    """One line for each rule: given (where), derived (from what), or missing (why, and what to write)."""
    width = max(len(info.rule) for info in infos)
    lines = [f"{name}"]
    for info in infos:
        lines.append(f"  {info.rule.ljust(width)}  {info.status:<8} {_detail(info)}")
        lines += [f"  {'':{width}}  {'':8} {extra}" for extra in _extras(info)]
    return "\n".join(lines)


def _detail(info: RuleInfo) -> str:
    if info.status == "given":
        return info.origin
    if info.status == "derived":
        return f"from {info.origin}: {info.why}"
    return info.why


def _extras(info: RuleInfo) -> list[str]:
    return [*info.notes, *([f"write: {info.write}"] if info.write else [])]
