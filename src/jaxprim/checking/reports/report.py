"""The report of one check, as data and as text."""

from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from html import escape
from typing import Any

from jaxprim._errors import BadCall, CheckFailed, message
from jaxprim._origin import public
from jaxprim._types import RuleInfo
from jaxprim.checking.reports import codec
from jaxprim.checking.reports.faults import Fault, faults
from jaxprim.checking.reports.findings import Evidence, Finding, number
from jaxprim.checking.reports.status import BAD, WORST_FIRST, Status
from jaxprim.checking.reports.svg import Heat, Lines, Series

__all__ = ["WHAT_IT_RESTS_ON", "Evidence", "Finding", "Report", "Row", "Status", "number", "rows", "skipped"]

# The heading of `Row.cells` in a table.
WHAT_IT_RESTS_ON = "worst comparison"
# The version of the JSON format. It changes when a field changes its meaning or is removed.
FORMAT = 2
# On a narrower terminal lines are broken for this width, and a column needs this room to be continued below itself.
NARROWEST, ROOM = 40, 20
_LAST_COLUMN = re.compile(r".*\s{2,}(?=\S)")


@dataclass(frozen=True)
class Row:
    """The answers to one question at every example: a row of a table."""

    question: str
    findings: tuple[Finding, ...]

    @property
    def status(self) -> Status:
        """The worst status; ``skipped`` only if the question was skipped at every example."""
        return min(self.findings, key=lambda finding: WORST_FIRST.index(finding.status)).status

    @property
    def seconds(self) -> float:
        """How long the answers took."""
        return sum(finding.seconds for finding in self.findings)

    @property
    def representative(self) -> Finding:
        """The finding shown for the row: among those with its status, the one with the worst evidence."""
        same = [finding for finding in self.findings if finding.status == self.status]
        return max(same, key=lambda finding: finding.worst.ratio if finding.worst else 0.0)

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes of all findings, each once."""
        return tuple(dict.fromkeys(note for finding in self.findings for note in finding.notes))

    def operand(self, name: str) -> Status | None:
        """The status for one operand, or None if no comparison was about only this operand."""
        found = [(f.status, right) for f in self.findings for operand, right in f.operands if operand == name]
        statuses = {"pass" if right else status for status, right in found}
        return next((status for status in WORST_FIRST if status in statuses), None)

    def cells(self) -> tuple[str, str]:
        """The number of comparisons, and the worst of them in a few words."""
        found = self.representative
        compared = str(sum(finding.compared for finding in self.findings))
        if found.status not in ("pass", "fail"):
            return compared, found.reason
        return compared, found.worst.brief() if found.worst is not None else ""


def rows(findings: Iterable[Finding]) -> list[Row]:
    """The findings by question, in the order of asking."""
    by_question: dict[str, list[Finding]] = {}
    for finding in findings:
        by_question.setdefault(finding.question, []).append(finding)
    return [Row(question, tuple(found)) for question, found in by_question.items()]


def skipped(findings: Iterable[Finding]) -> dict[str, list[str]]:
    """The questions that were skipped at every example, by reason."""
    reasons: dict[str, list[str]] = {}
    for row in rows(findings):
        if row.status == "skipped":
            reasons.setdefault(row.findings[0].reason, []).append(row.question)
    return reasons


def operands(findings: Iterable[Finding]) -> list[str]:
    """The operands with a status of their own: the columns of a table."""
    return list(dict.fromkeys(name for finding in findings for name, _ in finding.operands))


@public
@dataclass(frozen=True, repr=False)
class Report:
    """The report of one check. It is evidence, not a proof: *checked* at these points, with this seed.

    Attributes:
        subject: the name of the primitive or function.
        seed: the random seed.
        findings: one answer per question and example, in the order of asking.
        target: the name of the subject on the command line, such as ``"ops.py:scale"``; empty for a check in Python.
        pictures: measurements to draw, if requested.
        rules: where each rule of a primitive comes from.
        about: the versions, the device and the time of the check, each with its label.
    """

    subject: str
    seed: int
    findings: tuple[Finding, ...] = ()
    target: str = ""
    pictures: tuple[Lines | Heat, ...] = ()
    rules: tuple[RuleInfo, ...] = ()
    about: tuple[tuple[str, str], ...] = ()

    @property
    def ok(self) -> bool:
        """Whether no finding is bad."""
        return all(finding.ok for finding in self.findings)

    @property
    def bad(self) -> tuple[Finding, ...]:
        """The findings that are bad."""
        return tuple(finding for finding in self.findings if not finding.ok)

    @property
    def rows(self) -> list[Row]:
        """The answers by question."""
        return rows(self.findings)

    @property
    def examples(self) -> list[str]:
        """The examples, in the order of asking."""
        return list(dict.fromkeys(finding.example for finding in self.findings))

    @property
    def operands(self) -> list[str]:
        """The operands with a status of their own: the columns of a table."""
        return operands(self.findings)

    @property
    def faults(self) -> list[Fault]:
        """The findings to look at, the worst first: all but those that pass or were skipped.

        Findings with one error, or that accuse one rule, are grouped: the one that says most, and the others.
        """
        return faults(self.findings)

    def raise_if_bad(self) -> None:
        """Raise ``CheckFailed`` with the text of the report if a finding is bad."""
        if not self.ok:
            raise CheckFailed(self.text())

    # ------------------------------------------------------------------------------------------------------- as text
    def text(self) -> str:
        """One line per question, then each fault, then all faults in a line each."""
        summary = self.summary()
        parts = [self.headline(), *self._table(), *["\n" + text for text in self.breadcrumbs().values()]]
        return "\n".join([*parts, *([""] if summary else []), *summary])

    def summary(self) -> list[str]:
        """One line for each bad fault, if several findings are bad: the rule, its place, what is wrong, a likely cause."""
        return [fault.sentence() for fault in self.faults if not fault.first.ok] if len(self.bad) > 1 else []

    def breadcrumbs(self) -> dict[Finding, str]:
        """The text of each bad fault, by the finding that says most about it."""
        return {fault.first: self._breadcrumb(fault) for fault in self.faults if not fault.first.ok}

    def _breadcrumb(self, fault: Fault) -> str:
        places = [f"  also bad at {example}" for example in fault.examples]
        also = [f"  the same fault: {', '.join(fault.questions)}"] if fault.questions else []
        return "\n".join([fault.first.text(), *places, *also, f"  again: {self.again(fault.first)}"])

    def again(self, finding: Finding) -> str:
        """The line that asks for one finding again, with its numbers."""
        if self.target:
            return f"jaxprim check {self.target} --only {finding.question} --seed {self.seed}"
        return f'jaxprim.check({finding.subject}, ..., only="{finding.question}", seed={self.seed})'

    def headline(self) -> str:
        """One line: the number of questions by answer, and of examples."""
        counts = Counter(row.status for row in self.rows)
        examples = len(self.examples)
        others = [status for status in WORST_FIRST if status != "pass" and counts[status]]
        said = [f"{counts['pass']} of {counts.total() - counts['skipped']} questions pass"]
        said += [f"{counts[status]} {status.upper() if status in BAD else status}" for status in others]
        return f"{self.subject}: {', '.join(said)}, at {examples} example{'s' * (examples != 1)} (seed {self.seed})"

    def _table(self) -> Iterator[str]:
        yield from (f"at {example}" for example in self.examples)
        asked = [row for row in self.rows if row.status != "skipped"]
        width = max((len(row.question) for row in asked), default=0)
        if asked:
            yield f"  {'':<9}  {'':<{width}}  compared  {WHAT_IT_RESTS_ON}"
        for row in asked:
            compared, words = row.cells()
            yield f"  {row.status:<9}  {row.question:<{width}}  {compared:>8}  {words}"
        for reason, names in skipped(self.findings).items():
            yield f"  {'skipped':<9}  {', '.join(names)}: {reason}"

    def __repr__(self) -> str:
        """The text, broken between words where it is shown on a terminal."""
        watched = sys.stdout is not None and sys.stdout.isatty()  # a process may have no standard output
        return broken(self.text(), shutil.get_terminal_size().columns) if watched else self.text()

    def _repr_html_(self) -> str:
        """The page, in a frame so that its style does not reach the notebook around it."""
        return f'<iframe srcdoc="{escape(self.html())}" style="width:100%;height:40em;border:0"></iframe>'

    # ------------------------------------------------------------------------------------------------------- as data
    def to_json(self) -> str:
        """The report as JSON; ``Report.from_json`` reads it back.

        Example:
            >>> import jaxprim
            >>> report = jaxprim.check(lambda x: x * x, 3.0)
            >>> jaxprim.Report.from_json(report.to_json()) == report
            True
        """
        return codec.dumps(self.record())

    def record(self) -> dict[str, Any]:
        """The report as dictionaries, lists and plain values, with ``ok``."""
        pictures = [{"kind": type(p).__name__, **codec.encode(p)} for p in self.pictures]
        return {"format": FORMAT, "ok": self.ok, **codec.encode(replace(self, pictures=())), "pictures": pictures}

    @staticmethod
    def from_json(text: str) -> Report:
        """The report that ``to_json`` wrote.

        Raises:
            BadCall: the text is not a report, or has the format of another version of jaxprim.
        """
        try:
            record = json.loads(text)
        except ValueError as error:
            raise BadCall(message("Report.from_json: this is not JSON.", got=str(error))) from error
        return Report.from_record(record)

    @staticmethod
    def from_record(record: Mapping[str, Any]) -> Report:
        """The report that ``record`` made. Raises BadCall as `from_json` does."""
        _require_format(record)
        kept = codec.decode({key: value for key, value in record.items() if key not in ("format", "ok")})
        kept["findings"] = tuple(map(_finding, kept.get("findings", ())))
        kept["pictures"] = tuple(map(_picture, kept["pictures"]))
        kept["rules"] = tuple(RuleInfo(**rule) for rule in kept.get("rules", ()))
        return Report(**kept)

    def html(self) -> str:
        """The report as one HTML page that needs no other file."""
        from jaxprim.checking.reports import page

        return page.render([self])


def broken(text: str, width: int) -> str:
    """Text with long lines broken between words; what follows is indented like the last column of its line.

    The line that asks a question again stays whole, to be copied.
    """
    return "\n".join(
        line if line.lstrip().startswith("again: ") else _broken(line, max(width, NARROWEST))
        for line in text.splitlines()
    )


def _broken(line: str, width: int) -> str:
    own, column = len(line) - len(line.lstrip()), _LAST_COLUMN.match(line)
    start = column.end() if column is not None and own < column.end() <= width - ROOM else own + 2
    return textwrap.fill(line, width, subsequent_indent=" " * start, break_long_words=False, break_on_hyphens=False)


def _require_format(record: Mapping[str, Any]) -> None:
    """Refuse anything but one report in the current format."""
    found = record.get("format") if isinstance(record, dict) else None
    if found != FORMAT:
        raise BadCall(
            message(
                "Report.from_json: unsupported report format.",
                got="no format" if found is None else f"format {found}",
                expected=f"format {FORMAT}",
                why="in format 1, statuses had other names" if found == 1 else None,
                write="jaxprim check FILE --json > reports.json  # by this version of jaxprim",
            )
        )
    if "reports" in record:
        raise BadCall(
            message(
                "Report.from_json: got several reports.",
                got="the output of `jaxprim check --json`",
                expected="one report",
                write='[Report.from_record(record) for record in json.loads(text)["reports"]]',
            )
        )


def _finding(record: Mapping[str, Any]) -> Finding:
    kept = dict(record)
    kept["evidence"] = tuple(Evidence(**item) for item in record.get("evidence", ()))
    return Finding(**kept)


def _picture(record: Mapping[str, Any]) -> Lines | Heat:
    kept = dict(record)
    if kept.pop("kind") == Heat.__name__:
        return Heat(**kept)
    kept["series"] = tuple(Series(**item) for item in record["series"])
    return Lines(**kept)
