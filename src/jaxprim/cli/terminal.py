"""The output of the command line: tables that grow while a check runs, and failures."""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from jaxprim._types import RuleInfo
from jaxprim.checking import targets
from jaxprim.checking.questions import find_question
from jaxprim.checking.reports.report import WHAT_IT_RESTS_ON, Finding, Report, Row, operands, rows, skipped
from jaxprim.checking.reports.status import SIGNS, Status
from jaxprim.fuzzing import FuzzReport

# The styles of a mark, and of the words next to it.
MARK_STYLES: dict[Status, str] = {
    "pass": "green", "fail": "bold red", "xpass": "bold red", "xfail": "yellow", "surrogate": "yellow", "skipped": "dim",
}  # fmt: skip
WORD_STYLES: dict[Status, str] = {**MARK_STYLES, "pass": "dim", "fail": "red", "xpass": "red"}
RULE_STYLES = {"given": "green", "derived": "cyan", "missing": "yellow"}
# At most this many operands get a column; a wider table would be unreadable.
MOST_COLUMNS = 6
NAME_WIDTH = 9
# Notes are shown for up to this many questions.
MOST_WITH_NOTES = 3
LABEL_STYLES = {
    "got": "red",
    "expected": "green",
    "hint": "bold yellow",
    "again": "cyan",
    "error": "red",
    "wrong": "red",
}
_LABELLED_LINE = re.compile(r"^(?P<indent> *)(?P<label>[a-z][a-z ]*):(?P<rest> .*)$")


def plain_table(*, heading: bool = True) -> Table:
    """A table without lines."""
    return Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=heading, header_style="dim")


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
    """The table of a running check; its last state stays on the screen."""

    def __init__(self, console: Console, total: int, questions: Sequence[str]) -> None:
        self.total, self.questions = total, questions
        self.start = time.perf_counter()
        self.unicode = console.encoding.startswith("utf")
        self.spinner = Spinner("dots" if self.unicode else "line")

    def seconds(self) -> float:
        """How long the check has taken so far."""
        return time.perf_counter() - self.start

    def render(self, findings: Sequence[Finding]) -> RenderableType:
        """The table: every question with a mark for each example, and for each operand with a status of its own."""
        examples = list(dict.fromkeys(finding.example for finding in findings))
        names = operands(findings)
        columns = names[:MOST_COLUMNS] if len(names) > 1 else []
        table = self._table(columns)
        for row in rows(findings):
            if row.status != "skipped":
                table.add_row(*self._row(row, columns))
        left = [Text(f"- {', '.join(names)}: {why}", "dim") for why, names in skipped(findings).items()]
        parts: list[RenderableType] = [*[Text(f"at {example}", "dim") for example in examples], table, *left]
        if len(findings) < self.total:
            asking = self.questions[len(findings) % len(self.questions)]
            self.spinner.update(text=f"{asking}  {len(findings)}/{self.total}  {self.seconds():.0f} s")
            parts.append(self.spinner)
        return Group(*parts)

    def _table(self, columns: Sequence[str]) -> Table:
        table = plain_table()
        table.add_column("question", no_wrap=True)
        table.add_column("", no_wrap=True)
        for name in columns:
            table.add_column(Text(name), max_width=NAME_WIDTH, justify="center", no_wrap=True, overflow="ellipsis")
        table.add_column("compared", justify="right", no_wrap=True, style="dim")
        table.add_column(WHAT_IT_RESTS_ON, overflow="fold")
        return table

    def _row(self, row: Row, columns: Sequence[str]) -> Iterator[RenderableType]:
        yield row.question
        yield Text(" ").join(self._mark(finding.status) for finding in row.findings)
        yield from (self._mark(row.operand(name)) for name in columns)
        compared, words = row.cells()
        yield compared
        yield Text(words, WORD_STYLES[row.status])

    def _mark(self, status: Status | None) -> Text:
        if status is None:
            return Text()
        sign = SIGNS[status]
        return Text(sign.mark if self.unicode else sign.plain, MARK_STYLES[status])


def breadcrumbs(report: Report, width: int | None = None) -> Iterator[RenderableType]:
    """Each bad finding: the question, the numbers, the likely cause, and the line that reproduces it.

    With a width, long facts are wrapped and indented. The line that reproduces it stays whole, to be copied.
    """
    for finding, said in report.breadcrumbs().items():
        head, *body = said.splitlines()
        lines = [Text(head, "bold red"), Text(f"  {find_question(finding.question).sentence}", "italic")]
        lines += [_line(line, width) for line in body]
        yield Group(*lines, "")


def _line(line: str, width: int | None = None) -> Text:
    found = _LABELLED_LINE.match(line)
    if found is None:
        return Text(line)
    style = LABEL_STYLES.get(found["label"], "")
    rest = found["rest"]
    if width is not None and found["label"] != "again":
        start = len(line) - len(rest.lstrip())
        rest = textwrap.fill(line, width, subsequent_indent=" " * start, break_long_words=False)[found.start("rest") :]
    return Text.assemble(found["indent"], (f"{found['label']}:", f"dim {style}"), (rest, style))


def notes(report: Report) -> Iterator[Text]:
    """The notes, if only a few questions were asked; otherwise there would be too many."""
    if len(report.rows) <= MOST_WITH_NOTES:
        for row in report.rows:
            yield from (Text(f"  {row.question}: {note}", "dim") for note in row.notes if row.status == "pass")


def verdict(report: Report, seconds: float) -> Text:
    """The last line of a report."""
    return Text.assemble((report.headline(), "bold green" if report.ok else "bold red"), f" in {seconds:.1f} s\n")


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


def legend() -> str:
    """The meanings of the marks in a table."""
    return "\n".join(f"  {sign.mark}  {status:<9}  {sign.meaning}" for status, sign in SIGNS.items())
