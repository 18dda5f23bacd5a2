"""What a check found, as data, and how it reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from jaxprim._errors import CheckFailed

from . import compare

# Bad comparisons that the text of a finding shows in full, each at another place.
SHOWN = 2
# What a table says of an answer; the heading of `Row.cells`.
WHAT_IT_RESTS_ON = "worst error, of what is allowed, and where"

Status = Literal["fail", "departure", "pass", "not asked"]
WORST_FIRST: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True)
class Evidence:
    """One comparison, shown at the element that is worst in units of its tolerance.

    Attributes:
        rule: what was compared, such as ``"jvp"`` or ``"impl"``.
        against: what it was compared with and how: the direction, the precision, the transformation.
        leaf: the operand or result that was compared, such as ``"x"`` or ``"result[1]"``.
        index: the worst element in that leaf.
        got: what the rule gave there.
        expected: what the truth is there.
        error: the distance between the two.
        tolerance: what that distance may be.
        why: the reason of the tolerance.
        seed: the seed of everything random in this comparison.
        judged: how many elements were compared.
        bad: how many of them were off by more than their tolerance.
        message: what happened instead of a comparison: an exception, or a difference that is not a number.
    """

    rule: str
    against: str
    leaf: str = ""
    index: tuple[int, ...] = ()
    got: complex | str | None = None
    expected: complex | str | None = None
    error: float = 0.0
    tolerance: float = 0.0
    why: str = ""
    seed: int | None = None
    judged: int = 1
    bad: int = 0
    message: str = ""
    ok: bool = True

    @property
    def ratio(self) -> float:
        """The error in units of the tolerance."""
        if self.error == 0:
            return 0.0 if self.ok else float("inf")
        return self.error / self.tolerance if self.tolerance else float("inf")

    @property
    def where(self) -> str:
        """The worst element, such as ``x[2,0]``."""
        return self.leaf + (f"[{','.join(map(str, self.index))}]" if self.index else "")

    def brief(self) -> str:
        """The comparison in a few words."""
        if self.message:
            return self.message.splitlines()[0]
        if not self.why or self.why == compare.EXACT:
            return "as expected" if self.ok else f"got {self.got}, expected {self.expected}"
        return f"{self.error:.1e} of {self.tolerance:.1e}, {self.where}"

    def lines(self) -> Iterator[str]:
        """The breadcrumb: one labelled fact per line."""
        yield f"{self.rule}: {self.against}"
        for label, fact in self._facts():
            first, *rest = str(fact).splitlines() or [""]
            yield f"  {label + ':':<11}{first}"
            yield from (" " * 13 + line for line in rest)

    def _facts(self) -> Iterator[tuple[str, object]]:
        if self.message:
            yield "error", self.message
        if self.leaf:
            yield "at", self.where + (f" ({self.bad} of {self.judged} elements are off)" if self.judged > 1 else "")
        if self.got is not None:
            yield "got", number(self.got) + self._quotient()
        if self.expected is not None:
            yield "expected", number(self.expected)
        if self.why:
            yield "off by", f"{self.error:.3g}, allowed {self.tolerance:.2g}: {self.why}"
        if self.seed is not None:
            yield "seed", self.seed

    def _quotient(self) -> str:
        """``got / expected``: a factor of exactly 2 or -1 says a lot."""
        if isinstance(self.got, str | None) or isinstance(self.expected, str | None) or not self.expected:
            return ""
        return f"  (got / expected = {number(self.got / self.expected, 6)})"


def number(value: complex | str, digits: int = 9) -> str:
    """A number as short as its digits allow."""
    if isinstance(value, str):
        return value
    if isinstance(value, complex):
        return f"{value.real:.{digits}g}{value.imag:+.{digits}g}j"
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Finding:
    """The answer to one question about one example.

    Attributes:
        question: the question's stable name.
        subject: the name of the primitive or function.
        example: which example, such as ``"x=float32[3], factor=float"``.
        status: pass; fail; not asked, with the reason; or departure: wrong as its author declared, with the reason.
        evidence: the comparisons: those that are bad, in the order of asking, then the others, the worst first.
        reason: why it was not asked, or why the rule departs.
        notes: what a reader should know beside the numbers.
        compared: how many comparisons were made; ``evidence`` keeps the worst.
        seconds: how long the answer took.
    """

    question: str
    subject: str
    example: str
    status: Status
    evidence: tuple[Evidence, ...] = ()
    reason: str = ""
    notes: tuple[str, ...] = ()
    compared: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing bad was found; also true when the question was not asked."""
        return self.status != "fail"

    @property
    def worst(self) -> Evidence | None:
        """The evidence that is worst in units of its tolerance."""
        return max(self.evidence, key=lambda item: (not item.ok, item.ratio), default=None)

    def text(self) -> str:
        """The finding with the breadcrumb of everything that is bad."""
        head = f"{self.status}: {self.question} of {self.subject} at {self.example}"
        bad = [item for item in self.evidence if not item.ok]
        shown = list({item.where: item for item in reversed(bad)}.values())[::-1][:SHOWN]
        body = [f"  {line}" for item in shown for line in item.lines()]
        more = [f"  and {len(bad) - len(shown)} more comparisons that are off"] if len(bad) > len(shown) else []
        reason = [f"  reason: {self.reason}"] if self.reason else []
        return "\n".join([head, *reason, *body, *more, *[f"  note: {note}" for note in self.notes]])


def _with_others(text: str, others: Sequence[Finding]) -> str:
    names = list(dict.fromkeys(finding.question for finding in others))
    return text + (f"\n  the same error: {', '.join(names)}" if names else "")


@dataclass(frozen=True)
class Row:
    """The answers to one question at every example: a row of a table."""

    question: str
    findings: tuple[Finding, ...]

    @property
    def status(self) -> Status:
        """The worst answer; not asked only if it was asked at no example."""
        return min(self.findings, key=lambda finding: WORST_FIRST.index(finding.status)).status

    @property
    def shown(self) -> Finding:
        """The finding that stands for the row: of those with its status, the one with the worst evidence."""
        same = [finding for finding in self.findings if finding.status == self.status]
        return max(same, key=lambda finding: finding.worst.ratio if finding.worst else 0.0)

    def cells(self) -> tuple[str, str]:
        """What the answer rests on: how many comparisons, and in a few words the worst of them."""
        found = self.shown
        compared = str(sum(finding.compared for finding in self.findings))
        if found.status in ("not asked", "departure"):
            return compared, found.reason
        return compared, found.worst.brief() if found.worst is not None else ""


def rows(findings: Iterable[Finding]) -> list[Row]:
    """The findings by question, in the order in which the questions were asked."""
    by_question: dict[str, list[Finding]] = {}
    for finding in findings:
        by_question.setdefault(finding.question, []).append(finding)
    return [Row(question, tuple(found)) for question, found in by_question.items()]


def not_asked(findings: Iterable[Finding]) -> dict[str, list[str]]:
    """The questions that were asked at no example, by reason."""
    reasons: dict[str, list[str]] = {}
    for row in rows(findings):
        if row.status == "not asked":
            reasons.setdefault(row.findings[0].reason, []).append(row.question)
    return reasons


@dataclass(frozen=True)
class Report:
    """Everything that one check found. It is evidence, not a proof: *checked*, at these points, with this seed."""

    subject: str
    seed: int
    findings: tuple[Finding, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Whether no finding is bad."""
        return all(finding.ok for finding in self.findings)

    @property
    def bad(self) -> tuple[Finding, ...]:
        """The findings that are bad."""
        return tuple(finding for finding in self.findings if not finding.ok)

    def raise_if_bad(self) -> None:
        """Raise ``CheckFailed`` with the text of the report if a finding is bad."""
        if not self.ok:
            raise CheckFailed(self.text())

    def text(self) -> str:
        """One line per question, then a breadcrumb for each bad finding."""
        return "\n".join([self.headline(), *self._table(), *["\n" + text for text in self.breadcrumbs().values()]])

    def breadcrumbs(self) -> dict[Finding, str]:
        """The text of each bad finding; those that the very same error made bad are told together."""
        same: dict[str, list[Finding]] = {}
        for finding in self.bad:
            message = finding.evidence[0].message if finding.evidence else ""
            same.setdefault(message or f"{finding.question} {finding.example}", []).append(finding)
        return {found[0]: _with_others(found[0].text(), found[1:]) for found in same.values()}

    def headline(self) -> str:
        """How many questions had which answer, at how many examples."""
        counts = Counter(row.status for row in rows(self.findings))
        examples = len({finding.example for finding in self.findings})
        words = {"fail": "FAIL", "departure": "depart as declared", "not asked": "not asked"}
        said = [f"{counts['pass']} of {counts.total() - counts['not asked']} questions pass"]
        said += [f"{counts[status]} {word}" for status, word in words.items() if counts[status]]
        return f"{self.subject}: {', '.join(said)}, at {examples} example{'s' * (examples != 1)} (seed {self.seed})"

    def _table(self) -> Iterator[str]:
        examples = list(dict.fromkeys(finding.example for finding in self.findings))
        yield from (f"at {example}" for example in examples)
        asked = [row for row in rows(self.findings) if row.status != "not asked"]
        width = max((len(row.question) for row in asked), default=0)
        if asked:
            yield f"  {'':<9}  {'':<{width}}  compared  {WHAT_IT_RESTS_ON}"
        for row in asked:
            compared, words = row.cells()
            yield f"  {row.status:<9}  {row.question:<{width}}  {compared:>8}  {words}"
        for reason, names in not_asked(self.findings).items():
            yield f"  not asked  {', '.join(names)}: {reason}"

    def __str__(self) -> str:
        return self.text()
