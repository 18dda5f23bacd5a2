"""The output of the command line: tables that grow while a check runs, and failures."""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from jaxprim._types import RuleInfo
from jaxprim.checking import targets
from jaxprim.checking.case import Case
from jaxprim.checking.questions import find_question
from jaxprim.checking.reports import expected
from jaxprim.checking.reports.report import WHAT_IT_RESTS_ON, Finding, Report, Row, skipped
from jaxprim.checking.reports.status import SIGNS, Status
from jaxprim.cli.common import plain_table
from jaxprim.fuzzing import FuzzReport

# The styles of a mark, and of the words next to it.
MARK_STYLES: dict[Status, str] = {
    "pass": "green", "fail": "bold red", "xpass": "bold red", "xfail": "yellow", "surrogate": "yellow", "skipped": "dim",
}  # fmt: skip
WORD_STYLES: dict[Status, str] = {**MARK_STYLES, "pass": "dim", "fail": "red", "xpass": "red"}
RULE_STYLES = {"given": "green", "derived": "cyan", "missing": "yellow"}
# At most this many operands get a column; a wider table would be unreadable.
MOST_COLUMNS = 6
# A longer name gets none.
NAME_WIDTH = 9
# Notes are shown for up to this many questions.
MOST_WITH_NOTES = 3
# A check that takes longer than this many seconds names its slowest questions.
LONG, MOST_SLOW = 10.0, 3
LABEL_STYLES = {
    "got": "red",
    "expected": "green",
    "hint": "bold yellow",
    "again": "cyan",
    "error": "red",
    "wrong": "red",
}
_LABELLED_LINE = re.compile(r"^(?P<indent> *)(?P<label>[a-z][a-z ]*):(?P<rest> .*)$")


def rules(name: str, infos: Sequence[RuleInfo]) -> RenderableType:
    """The rules of a primitive as a table."""
    table = plain_table()
    table.title, table.title_justify = Text(name, "bold"), "left"
    for heading in ("rule", "", "where it comes from"):
        table.add_column(heading, overflow="fold")
    for info in infos:
        table.add_row(info.rule, Text(info.status, RULE_STYLES[info.status]), _origin(info))
    return Group(table, "")


def _origin(info: RuleInfo) -> Text:
    first = {"given": info.origin, "derived": f"from {info.origin}: {info.why}", "missing": info.why}[info.status]
    lines = [first, *info.notes, *([f"write: {info.write}"] if info.write else [])]
    return Text("\n").join(Text(line, "" if i == 0 else "italic") for i, line in enumerate(lines))


class Progress:
    """A running check: finished rows are printed for good, and one line below them says what is asked now.

    So it fits any screen, however many questions there are.
    """

    def __init__(
        self,
        console: Console,
        report: Report,
        cases: Sequence[Case],
        questions: Sequence[str],
        records: expected.Records,
        *,
        whole: bool,
    ) -> None:
        """Of the rows, only those that need a look are printed, unless the ``whole`` table is wanted."""
        self.console, self.report, self.cases, self.questions = console, report, cases, questions
        self.records, self.whole = records, whole
        self.start = time.perf_counter()
        self.unicode = console.encoding.startswith("utf")
        self.spinner = Spinner("dots" if self.unicode else "line")
        names = [name for name in cases[0].point.names if len(name) <= NAME_WIDTH] if cases else []
        self.columns = names[:MOST_COLUMNS] if len(names) > 1 else []
        self._printed = False

    def seconds(self) -> float:
        """How long the check has taken so far."""
        return time.perf_counter() - self.start

    def status(self) -> RenderableType:
        """The line below the rows; nothing at the end."""
        asked, total = len(self.report.findings), len(self.questions) * len(self.cases)
        if asked == total:
            return Text()
        asking = self.questions[asked // len(self.cases)]
        self.spinner.update(text=f"{self.report.subject}: {asking}  {asked}/{total}  {self.seconds():.0f} s")
        return self.spinner

    def add(self, finding: Finding) -> None:
        """Take a finding, and print its row if it is the last of its question."""
        self.report = replace(self.report, findings=(*self.report.findings, finding))
        found = [each for each in self.report.findings if each.question == finding.question]
        row = Row(finding.question, expected.apply(found, self.records))
        if len(found) < len(self.cases) or not (self.whole or row.status not in ("pass", "skipped")):
            return
        if not self._printed:
            self._print_heading()
        table = self._table(heading=False)
        table.add_row(*self._row(row))
        self.console.print(table)

    def _print_heading(self) -> None:
        self._printed = True
        for example in self.report.examples:
            self.console.print(Text(f"at {example}", "dim"), soft_wrap=not self.console.is_terminal)
        self.console.print(self._table(heading=True))

    def _table(self, *, heading: bool) -> Table:
        """A table whose columns are as wide in each row, although each row is printed as a table of its own."""
        table = plain_table(heading=heading)
        names = max((len(name) for name in self.questions), default=0)
        table.add_column("question", no_wrap=True, width=names)
        table.add_column("", no_wrap=True, width=2 * len(self.cases) - 1)
        for name in self.columns:
            table.add_column(Text(name), width=len(name), justify="center", no_wrap=True)
        table.add_column("compared", justify="right", no_wrap=True, style="dim", width=len("compared"))
        table.add_column(WHAT_IT_RESTS_ON, overflow="fold")
        return table

    def _row(self, row: Row) -> Iterator[RenderableType]:
        yield row.question
        yield Text(" ").join(self._mark(finding.status) for finding in row.findings)
        yield from (self._mark(row.operand(name)) for name in self.columns)
        compared, words = row.cells()
        yield compared
        yield Text(words, WORD_STYLES[row.status])

    def _mark(self, status: Status | None) -> Text:
        if status is None:
            return Text()
        sign = SIGNS[status]
        return Text(sign.mark if self.unicode else sign.plain, MARK_STYLES[status])


def breadcrumbs(report: Report, width: int | None = None) -> Iterator[RenderableType]:
    """Each bad fault: the question, the numbers, the likely cause, and the line that reproduces it.

    With a width, lines are wrapped between words and indented. The line that reproduces it stays whole, to be copied.
    """
    for finding, said in report.breadcrumbs().items():
        head, *body = said.splitlines()
        lines = [
            Text(_wrapped(head, width, "  "), "bold red"),
            Text(_wrapped(f"  {find_question(finding.question).sentence}", width, "  "), "italic"),
        ]
        lines += [_line(line, width) for line in body]
        yield Group(*lines, "")


def _line(line: str, width: int | None = None) -> Text:
    found = _LABELLED_LINE.match(line)
    if found is None:
        return Text(_wrapped(line, width, " " * (len(line) - len(line.lstrip()))))
    style = LABEL_STYLES.get(found["label"], "")
    rest = found["rest"]
    if found["label"] != "again":
        start = len(line) - len(rest.lstrip())
        rest = _wrapped(line, width, " " * start)[found.start("rest") :]
    return Text.assemble(found["indent"], (f"{found['label']}:", f"dim {style}"), (rest, style))


def _wrapped(line: str, width: int | None, indent: str) -> str:
    """A line, broken between words; later lines have this indent. Without a width it stays whole."""
    if width is None:
        return line
    return textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def left_out(report: Report) -> Iterator[Text]:
    """The questions that were skipped, by reason."""
    yield from (Text(f"- {', '.join(names)}: {why}", "dim") for why, names in skipped(report.findings).items())


def notes(report: Report) -> Iterator[Text]:
    """The notes, if only a few questions were asked; otherwise there would be too many."""
    if len(report.rows) <= MOST_WITH_NOTES:
        for row in report.rows:
            yield from (Text(f"  {row.question}: {note}", "dim") for note in row.notes if row.status == "pass")


def verdict(report: Report, seconds: float, width: int | None = None) -> Iterator[Text]:
    """The last lines of a report: each bad fault, and the number of questions by answer."""
    for line in report.summary():
        yield Text(_wrapped(line, width, "  "), "bold red")
    slowest = f" ({_slowest(report)})" if seconds > LONG else ""
    first = report.headline()
    said = _wrapped(f"{first} in {seconds:.1f} s{slowest}", width, "  ")
    text = Text(said)
    text.stylize("bold green" if report.ok else "bold red", 0, len(first))
    yield text


def _slowest(report: Report) -> str:
    """The questions that took the longest."""
    by_time = sorted(report.rows, key=lambda row: -row.seconds)[:MOST_SLOW]
    return "slowest: " + ", ".join(f"{row.question} {row.seconds:.1f} s" for row in by_time)


def full_target(target: str, name: str) -> str:
    """The name of one primitive of a target on the command line."""
    return target if targets.split(target)[1] else f"{target}:{name}"


@contextmanager
def progress_bar(console: Console, name: str, total: int) -> Generator[Callable[[], None]]:
    """A bar that is shown while nests run, and removed afterwards."""
    columns = (SpinnerColumn("line"), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with ProgressBar(*columns, TimeElapsedColumn(), console=console, transient=True, redirect_stdout=False,
                     redirect_stderr=False, disable=not console.is_terminal) as bar:  # fmt: skip
        task = bar.add_task(name, total=total)
        yield lambda: bar.advance(task)


def fuzz_lines(found: FuzzReport) -> Iterator[Text]:
    """The result of fuzzing, and why nests could not be run."""
    head, *body = found.text().splitlines()
    yield Text(head, "bold green" if found.ok else "bold red" if found.failure else "yellow")
    yield from map(_line, body)
    if found.compared or found.failure is not None:  # else the text has them
        yield from (Text(line, "dim") for line in found.reasons())
