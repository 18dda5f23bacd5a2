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
from jaxprim.checking import Finding, Report, run
from jaxprim.checking.case import Case
from jaxprim.checking.questions import Question
from jaxprim.checking.reports import expected, measure
from jaxprim.checking.reports.report import FORMAT
from jaxprim.checking.subject import NoExamples, Subject
from jaxprim.cli import parallel, terminal
from jaxprim.cli.common import BAD, OK, STOPPED, UNCHECKED


@dataclass
class CheckRun:
    """One run of `check`: its options, and the reports so far.

    Attributes:
        whole: whether the rules and every row are printed, and not only the rows that need a look.
    """

    console: Console
    target: str
    seed: int
    questions: tuple[Question, ...]
    pictures: bool
    whole: bool = False
    accuracy: float | None = None
    records: expected.Records = field(default_factory=dict[str, dict[str, str]])
    workers: parallel.Workers | None = None
    reports: list[Report] = field(default_factory=list[Report])
    unchecked: dict[str, str] = field(default_factory=dict[str, str])
    failed: bool = False
    stopped: bool = False

    def check(self, position: int, primitive: Primitive) -> None:
        """Show the rules of a primitive, ask the questions, and show the failures."""
        subject = Subject.of(primitive)
        if self.whole:
            self.console.print(terminal.rules(subject.name, subject.rules))
        try:
            asked = run.cases(subject, subject.examples(), self.seed, self.accuracy)
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
        """Ask the questions. What was found until Ctrl-C is kept and shown."""
        begun = replace(run.begun(subject, self.seed), target=terminal.full_target(self.target, subject.name))
        names = [question.name for question in self.questions]
        progress = terminal.Progress(self.console, begun, asked, names, self.records, whole=self.whole)
        try:
            with Live(console=self.console, get_renderable=progress.status, redirect_stdout=False, redirect_stderr=False,
                      refresh_per_second=8, transient=True):  # fmt: skip
                for finding in self._findings(position, asked):
                    progress.add(finding)
            drawn = measure.pictures(asked[0], progress.report.findings) if self.pictures else ()
        except KeyboardInterrupt:
            self.stopped, drawn = True, ()
        found = expected.apply(progress.report.findings, self.records)
        report = replace(progress.report, findings=found, pictures=drawn)
        self._show(report, progress.seconds())
        if self.stopped:
            raise KeyboardInterrupt

    def _findings(self, position: int, asked: Sequence[Case]) -> Iterator[Finding]:
        if self.workers is None:
            yield from run.ask(asked, self.questions)
            return
        for finding, printed in self.workers.ask(position, len(asked), self.seed, self.accuracy, self.questions):
            sys.stdout.write(printed)  # captured, like the output of this process
            yield finding

    def _show(self, report: Report, seconds: float) -> None:
        self.reports.append(report)
        lines = [*(terminal.left_out(report) if self.whole else ()), *terminal.notes(report)]
        width = self.console.width if self.console.is_terminal else None  # a pipe gets whole lines
        found = list(terminal.breadcrumbs(report, width))
        if found:
            lines.append(Text())
        for line in [*lines, *found, *terminal.verdict(report, seconds, width)]:
            self.console.print(line, soft_wrap=True)

    def record(self) -> dict[str, Any]:
        """All reports, for `--json`."""
        records = [report.record() for report in self.reports]
        return {"format": FORMAT, "ok": self.code() == OK, "reports": records, "unchecked": self.unchecked}

    def code(self) -> int:
        """The exit code."""
        if self.stopped:
            return STOPPED
        if self.failed or not all(report.ok for report in self.reports):
            return BAD
        return UNCHECKED if self.unchecked else OK
