"""Failures that follow from one another, as one fault.

A wrong VJP rule fails its comparison with differences, and then everything that is made of it: second derivatives,
their symmetry, a derived JVP rule. Such failures accuse the same rule. They are shown as one fault: the failure that
says most, and the names of its consequences.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from jaxprim.checking.reports.findings import Finding
from jaxprim.checking.reports.status import BAD, WORST_FIRST

# The questions that compare a rule with something independent of all rules, so that nothing else explains a failure.
INDEPENDENT = (
    "abstract-eval", "deterministic", "pure", "reference", "primal", "vjp-differences", "jvp-differences", "elsewhere",
)  # fmt: skip


class Fault(NamedTuple):
    """One probable fault.

    Attributes:
        first: the failure that says most about it.
        others: the failures that probably follow from it.
    """

    first: Finding
    others: tuple[Finding, ...]

    @property
    def questions(self) -> list[str]:
        """The other questions that fail."""
        return list(dict.fromkeys(each.question for each in self.others if each.question != self.first.question))

    @property
    def examples(self) -> list[str]:
        """The other examples at which the first question fails."""
        return [each.example for each in self.others if each.question == self.first.question]

    def sentence(self) -> str:
        """The fault in one line: the rule, its place, what is wrong, and a guess at the cause."""
        first = self.first
        rule = ", ".join(f"{name} rule, {place}" for name, place in first.rules[:1])
        shown = first.excerpt[:1]
        what = [item.message.splitlines()[0] if item.message else item.where for item in shown]
        cause = [hint.partition(": ")[2] if _names_operand(hint, first) else hint for hint in first.hints[:1]]
        words = ", ".join(word for word in (rule, *what) if word)
        return f"{'probably one fault' if self.others else 'fault'}: {': '.join([words or first.question, *cause])}"


def _names_operand(hint: str, finding: Finding) -> bool:
    return hint.partition(": ")[0] in [name for name, _ in finding.operands]


def faults(findings: Iterable[Finding]) -> list[Fault]:
    """The findings to look at, the worst first: all but those that pass or were skipped, grouped by their cause."""
    kept = [finding for finding in findings if finding.status not in ("pass", "skipped")]
    wrong = [
        rule for finding in kept if finding.question in INDEPENDENT and finding.status in BAD for rule in finding.rules
    ]
    same: dict[tuple[str, str], list[Finding]] = {}
    for finding in sorted(kept, key=lambda finding: WORST_FIRST.index(finding.status)):
        same.setdefault((finding.status, _cause(finding, wrong)), []).append(finding)
    return [_fault(found) for found in same.values()]


def _cause(finding: Finding, wrong: Sequence[tuple[str, str]]) -> str:
    """What findings of one fault share: an exception, or the rule that they accuse, or else the question.

    A finding may accuse several rules, as the comparison of two rules with each other does. Then it is the one that
    is found ``wrong`` by an independent question.
    """
    said = finding.evidence[0].message if finding.evidence else ""
    if said or not finding.rules or finding.status not in BAD:
        return said or finding.question
    accused = [rule for rule in finding.rules if rule in wrong] or finding.rules
    return " ".join(accused[0])


def _fault(found: Sequence[Finding]) -> Fault:
    first = min(found, key=_rank)
    return Fault(first, tuple(each for each in found if each is not first))


def _rank(finding: Finding) -> tuple[bool, bool, bool]:
    """The smallest is shown: it is independent of other rules, about the accused rule itself, and explained."""
    accused = finding.rules[0][0] if finding.rules else ""
    return (
        finding.question not in INDEPENDENT,
        finding.question != f"{accused}-differences",
        not finding.hints,
    )
