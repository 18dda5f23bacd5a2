"""One run of ``jaxprim check``: shows findings as they come, and keeps the reports."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from jaxprim._primitive import Primitive
from jaxprim._rules import rules_of
from jaxprim.checking import Finding, Report
from jaxprim.checking.case import Case
from jaxprim.checking.questions import Question
from jaxprim.checking.reports import expected, measure
from jaxprim.checking.reports.report import FORMAT
from jaxprim.checking.run import ask, cases
from jaxprim.checking.subject import NoExamples, Subject
from jaxprim.cli import parallel, terminal
from jaxprim.cli.common import BAD, OK, UNCHECKED
from jaxprim.derive import explain as explain_rules


@dataclass
class CheckRun:
    """One run of `check`: its options, and the reports so far."""

    console: Console
    target: str
    seed: int
    questions: tuple[Question, ...]
    pictures: bool
    records: expected.Records = field(default_factory=dict[str, dict[str, str]])
    workers: parallel.Workers | None = None
    reports: list[Report] = field(default_factory=list[Report])
    unchecked: dict[str, str] = field(default_factory=dict[str, str])
    failed: bool = False

    def check(self, position: int, primitive: Primitive) -> None:
        """Show the rules of a primitive, ask the questions, and show the failures."""
        self.console.print(terminal.rules(primitive.name, explain_rules(rules_of(primitive)).rows))
        subject = Subject.of(primitive)
        try:
            asked = cases(subject, subject.examples(), self.seed)
        except NoExamples as error:
            self._leave(subject, str(error), "yellow")
        except Exception as error:  # noqa: BLE001 - def_examples is the author's code
            self.failed = True
            self._leave(subject, f"{subject.name}: def_examples failed.\n{type(error).__name__}: {error}", "bold red")
        else:
            self._ask(position, subject, asked)

    def _leave(self, subject: Subject, why: str, style: str) -> None:
        self.unchecked[subject.name] = why
        self.console.print(Text(why, style), soft_wrap=True)
        self.console.print()

    def _ask(self, position: int, subject: Subject, asked: Sequence[Case]) -> None:
        report = Report(subject.name, self.seed, target=terminal.full_target(self.target, subject.name))
        progress = terminal.Progress(
            self.console, len(asked) * len(self.questions), [question.name for question in self.questions]
        )
        with Live(console=self.console, get_renderable=lambda: progress.render(report.findings), redirect_stdout=False,
                  redirect_stderr=False, refresh_per_second=8) as live:  # fmt: skip
            for finding in self._findings(position, asked):
                report = replace(report, findings=(*report.findings, finding))
                live.refresh()
            report = expected.apply(report, self.records)
        if self.pictures:
            drawn = measure.pictures(asked[0], report.findings)
            report = replace(report, pictures=drawn)
        self._show(report, progress.seconds())

    def _findings(self, position: int, asked: Sequence[Case]) -> Iterator[Finding]:
        if self.workers is None:
            yield from ask(asked, self.questions)
            return
        for finding, printed in self.workers.ask(position, len(asked), self.seed, self.questions):
            sys.stdout.write(printed)  # captured, like the output of this process
            yield finding

    def _show(self, report: Report, seconds: float) -> None:
        self.reports.append(report)
        self.console.print(
            "" if self.console.is_terminal else "\n"
        )  # rich ends a live table with a line break only in a terminal
        for note in terminal.notes(report):
            self.console.print(note, soft_wrap=True)
        width = self.console.width if self.console.is_terminal else None  # a pipe gets whole lines
        for bad in terminal.breadcrumbs(report, width):
            self.console.print(bad, soft_wrap=True)
        self.console.print(terminal.verdict(report, seconds), soft_wrap=True)

    def record(self) -> dict[str, Any]:
        """All reports, for `--json`."""
        records = [report.record() for report in self.reports]
        return {"format": FORMAT, "ok": self.code() == OK, "reports": records, "unchecked": self.unchecked}

    def code(self) -> int:
        """The exit code."""
        if self.failed or not all(report.ok for report in self.reports):
            return BAD
        return UNCHECKED if self.unchecked else OK
