"""One run of ``jaxprim check``: shows findings as they come, and keeps the reports."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from jaxprim._errors import BadCall
from jaxprim._primitive import Primitive
from jaxprim.checking import options, run, targets
from jaxprim.checking.case import Case
from jaxprim.checking.questions import QUESTIONS, Question, Speed
from jaxprim.checking.reports import expected, measure
from jaxprim.checking.reports.report import FORMAT, Finding, Report
from jaxprim.checking.subject import NoExamples, Subject
from jaxprim.cli import common, parallel, terminal
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


def check_target(run: CheckRun, target: str, jobs: int) -> None:
    """Check every primitive of the target; of a folder, those that its files define."""
    with common.usage_errors():
        files = targets.files(target)
    if files is None:
        _run(run, target, jobs, list(enumerate(common.find_primitives(target))))
        return
    for file in files:
        with common.usage_errors():
            found = list(enumerate(targets.primitives(targets.load(str(file)))))
        own = [(position, primitive) for position, primitive in found if not targets.is_imported(primitive, file)]
        if own:
            _run(run, str(file), jobs, own)
    if not run.reports and not run.unchecked:
        raise click.UsageError(f"{target}: no primitive in its {len(files)} files that use jaxprim.")


def _run(run: CheckRun, target: str, jobs: int, primitives: Sequence[tuple[int, Primitive]]) -> None:
    """Check these primitives of a file, in other processes if more than one job is requested."""
    run.target, run.records = target, _records(target)
    with ExitStack() as stack:
        if jobs > 1:
            run.workers = stack.enter_context(parallel.workers(target, jobs))
        for position, primitive in primitives:
            try:
                run.check(position, primitive)
            except BrokenProcessPool:
                raise click.ClickException(
                    f"{primitive.name}: a process died while it was checked, perhaps in a kernel; --jobs 1 shows where."
                ) from None


def write_page(console: Console, reports: Sequence[Report], path: Path) -> None:
    """Write the HTML page."""
    from jaxprim.checking.reports import page

    path.write_text(page.render(reports), encoding="utf-8")
    console.print(Text(f"written: {path}", "dim"))


def questions(only: Sequence[str], skip: Sequence[str], speed: Speed) -> tuple[Question, ...]:
    """The questions that the command line asks for."""
    try:
        return options.questions(only, skip, speed)
    except BadCall as error:
        raise click.UsageError(str(error)) from error


def _records(target: str) -> expected.Records:
    """The expected failures of the project that a file belongs to, or of the current folder."""
    path = Path(targets.split(target)[0])
    try:
        return expected.read(path.parent if path.is_file() else Path(), [question.name for question in QUESTIONS])
    except expected.BadRecord as error:
        raise click.UsageError(str(error)) from error
