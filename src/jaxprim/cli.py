"""The command line: ``jaxprim explain``, ``jaxprim check``, ``jaxprim new``, ``jaxprim doctor``. It reads reports; it decides nothing."""

from __future__ import annotations

import io
import platform
import shutil
import sys
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

try:
    import click
    from rich.console import Console, Group, RenderableType
    from rich.live import Live
    from rich.spinner import Spinner
    from rich.table import Table
    from rich.text import Text
except ImportError as error:
    raise SystemExit(
        f"The jaxprim command line needs click and rich ({error}).\n  write:    pip install 'jaxprim[cli]'"
    ) from None

import jax

from jaxprim import _jax
from jaxprim._errors import BadCall
from jaxprim._primitive import Primitive
from jaxprim._types import RuleInfo
from jaxprim.checking import Finding, Report, find
from jaxprim.checking.questions import QUESTIONS, Question, named
from jaxprim.checking.report import WHAT_IT_RESTS_ON, Row, not_asked, rows
from jaxprim.checking.run import SEED, ask
from jaxprim.checking.subject import NoExamples, Subject
from jaxprim.derive import report as rules_report
from jaxprim.new import KINDS, create

OK, BAD, USAGE, UNCHECKED, NOT_IMPORTED = 0, 1, 2, 3, 4
EXIT_CODES = """
\b
Exit codes:
  0  nothing bad was found
  1  a finding is bad
  2  the command line is wrong, or there is no such file, module or primitive
  3  nothing bad was found, but a primitive has no examples and was not checked
  4  the file or module could not be imported
"""
STYLES = {"pass": "green", "fail": "bold red", "departure": "yellow", "not asked": "dim"}
MARKS = {"pass": "✓", "fail": "✗", "departure": "≠", "not asked": "-"}
PLAIN_MARKS = {"pass": "+", "fail": "x", "departure": "!", "not asked": "-"}  # a terminal that is not UTF-8
WORDS = {"pass": "dim", "fail": "red", "departure": "yellow"}
STATUS = {"given": "green", "derived": "cyan", "missing": "yellow"}


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES)
@click.version_option(package_name="jaxprim")
def main() -> None:
    """Custom JAX primitives: look at their rules, and check them."""


# ------------------------------------------------------------------------------------------------------------ explain
@main.command(epilog=EXIT_CODES)
@click.argument("target", metavar="FILE_OR_MODULE[:NAME]")
def explain(target: str) -> None:
    """Show every rule of a primitive: given (where), derived (from what), or missing (why, and what to write)."""
    console = _console()
    with _captured() as output:
        found = _find(target)
    for primitive in found:
        console.print(_rules(primitive))
    _say_hidden(console, output)


def _rules(primitive: Primitive) -> RenderableType:
    """The rules of a primitive as a table."""
    table = Table(
        title=f"[bold]{primitive.name}[/]", title_justify="left", box=None, padding=(0, 2, 0, 0), pad_edge=False
    )
    for heading in ("rule", "", "where it comes from"):
        table.add_column(heading, header_style="dim", overflow="fold")
    for info in rules_report(primitive.rules):
        table.add_row(info.rule, Text(info.status, STATUS[info.status]), _origin(info))
    return Group(table, "")


def _origin(info: RuleInfo) -> Text:
    first = {"given": info.origin, "derived": f"from {info.origin}: {info.why}", "missing": info.why}[info.status]
    lines = [first, *info.notes, *([f"write: {info.write}"] if info.write else [])]
    return Text("\n").join(Text(line, "" if i == 0 else "italic") for i, line in enumerate(lines))


# -------------------------------------------------------------------------------------------------------------- check
@main.command(epilog=EXIT_CODES)
@click.argument("target", metavar="FILE_OR_MODULE[:NAME]")
@click.option("--seed", default=SEED, show_default=True, help="Seed of everything random.")
@click.option(
    "--only", multiple=True, type=click.Choice([q.name for q in QUESTIONS]), metavar="QUESTION",
    help="Ask only this question; may be given several times. `jaxprim questions` lists them.",
)  # fmt: skip
@click.option("--show-output", is_flag=True, help="Show what the file and its rules print.")
def check(target: str, seed: int, only: tuple[str, ...], show_output: bool) -> None:
    """Check primitives on their examples (def_examples): every rule against the implementation, and against each other.

    The file is imported under its own name, so what stands under `if __name__ == "__main__"` does not run.
    """
    console = _console()
    questions = tuple(map(named, only)) or QUESTIONS
    with _captured() as output:
        found = _find(target)
        codes = [_check(console, target, primitive, seed, questions) for primitive in found]
    _say_hidden(console, output, show_output)
    sys.exit(BAD if BAD in codes else max(codes))


def _check(console: Console, target: str, primitive: Primitive, seed: int, questions: Sequence[Question]) -> int:
    """Explain and check one primitive; returns its exit code."""
    console.print(_rules(primitive))
    subject = Subject.of(primitive)
    try:
        examples = [(subject.split(*example)) for example in subject.examples()]
    except NoExamples as error:
        return _say(console, str(error), "yellow", UNCHECKED)
    except Exception as error:  # noqa: BLE001 - def_examples is the author's code
        return _say(
            console, f"{primitive.name}: def_examples failed.\n{type(error).__name__}: {error}", "bold red", BAD
        )
    findings: list[Finding] = []
    view = Progress(console, len(examples) * len(questions), [question.name for question in questions])
    with Live(console=console, get_renderable=lambda: view.render(findings), redirect_stdout=False, redirect_stderr=False,
              refresh_per_second=8) as live:  # fmt: skip
        for finding in ask(subject, examples, seed, questions):
            findings.append(finding)
            live.refresh()
    console.print()
    report = Report(subject.name, seed, tuple(findings))
    for finding, text in report.breadcrumbs().items():
        console.print(_bad(finding, text, target, seed), soft_wrap=True)
    style = "bold green" if report.ok else "bold red"
    console.print(Text(report.headline(), style), f"in {view.seconds():.1f} s\n", soft_wrap=True)
    return OK if report.ok else BAD


def _say(console: Console, message: str, style: str, code: int) -> int:
    console.print(Text(message, style), soft_wrap=True)
    console.print()
    return code


class Progress:
    """The table of a check that is under way; its last state is what remains on the screen."""

    def __init__(self, console: Console, total: int, questions: Sequence[str]) -> None:
        self.total, self.questions = total, questions
        self.start = time.perf_counter()
        unicode = console.encoding.startswith("utf")
        self.marks, self.spinner = (MARKS, Spinner("dots")) if unicode else (PLAIN_MARKS, Spinner("line"))

    def seconds(self) -> float:
        """How long the check has taken so far."""
        return time.perf_counter() - self.start

    def render(self, findings: Sequence[Finding]) -> RenderableType:
        """Every question with a mark for each example."""
        examples = list(dict.fromkeys(finding.example for finding in findings))
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        table.add_column("question", no_wrap=True)
        table.add_column("", no_wrap=True)
        table.add_column("compared", justify="right", no_wrap=True, style="dim")
        table.add_column(WHAT_IT_RESTS_ON, overflow="fold")
        done = rows(findings)
        for row in done:
            if row.status != "not asked":
                compared, words = row.cells()
                table.add_row(row.question, _marks(row, self.marks), compared, Text(words, WORDS[row.status]))
        skipped = [Text(f"- {', '.join(names)}: {why}", "dim") for why, names in not_asked(findings).items()]
        parts: list[RenderableType] = [*[Text(f"at {example}", "dim") for example in examples], table, *skipped]
        if len(findings) < self.total:
            asking = self.questions[len(findings) % len(self.questions)]
            self.spinner.update(text=f"{asking}  {len(findings)}/{self.total}  {self.seconds():.0f} s")
            parts.append(self.spinner)
        return Group(*parts)


def _marks(row: Row, marks: Mapping[str, str]) -> Text:
    return Text(" ").join(Text(marks[finding.status], STYLES[finding.status]) for finding in row.findings)


def _bad(finding: Finding, text: str, target: str, seed: int) -> RenderableType:
    """A bad finding: the question in words, the breadcrumb, and the line that reproduces it."""
    head, *body = text.splitlines()
    where = target if ":" in target else f"{target}:{finding.subject}"
    again = f"  again:     jaxprim check {where} --only {finding.question} --seed {seed}"
    return Group(
        Text(head, "bold red"), Text(f"  {named(finding.question).sentence}", "italic"), *body, Text(again), ""
    )


# ---------------------------------------------------------------------------------------------------------- questions
@main.command()
def questions() -> None:
    """List the questions that `check` asks."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    for question in QUESTIONS:
        table.add_row(Text(question.name, "bold"), question.sentence)
    _console().print(table)


# ---------------------------------------------------------------------------------------------------------------- new
@main.command(epilog=EXIT_CODES)
@click.argument("name")
@click.option("--kind", required=True, type=click.Choice(KINDS), help="Where the kernel comes from.")
def new(name: str, kind: str) -> None:
    """Write a small project into ./NAME: a kernel, its rules, examples, tests, a README. It passes its own check."""
    try:
        files = create(name, kind, Path.cwd())
    except BadCall as error:
        raise click.UsageError(str(error)) from error
    console = _console()
    console.print(Text(f"{name}: {', '.join(map(str, files))}"), soft_wrap=True)
    console.print(Text(f"  cd {name}\n  jaxprim check {name}.py\n  pytest"))


# ------------------------------------------------------------------------------------------------------------- doctor
@main.command()
def doctor() -> None:
    """Say which JAX this is, whether it has the hooks that jaxprim needs, which platforms, and which compilers."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    for label, value, ok in _facts():
        table.add_row(Text(label, "bold"), Text(value, "" if ok else "red"))
    console = _console()
    console.print(table)
    gone = _jax.missing_hooks()
    for hook in gone:
        console.print(Text(f"this JAX has no hook for {hook}", "bold red"))
    sys.exit(BAD if gone else OK)


def _facts() -> Iterator[tuple[str, str, bool]]:
    """What a bug report needs to say: a label, a value, and whether the value is as it should be."""
    yield "jaxprim", _version("jaxprim"), True
    yield "JAX", f"{jax.__version__} (jaxlib {_version('jaxlib')}, NumPy {_version('numpy')})", True
    yield "Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}", True
    gone = _jax.missing_hooks()
    known = len(_jax.HOOKS)
    yield "hooks", f"{known - len(gone)} of {known} hooks of JAX are there", not gone
    try:
        kinds = [f"{device.platform}: {device.device_kind}" for device in jax.devices()]
        yield "devices", ", ".join(dict.fromkeys(kinds)) + f" ({len(kinds)}), default {jax.default_backend()}", True
    except RuntimeError as error:  # a platform was asked for that is not there
        yield "devices", str(error), False
    yield "64-bit types", "on" if jax.config.read("jax_enable_x64") else "off", True
    for what, names in (("C++ compilers", ("c++", "g++", "clang++")), ("CUDA compiler", ("nvcc",))):
        yield what, ", ".join(filter(None, map(shutil.which, names))) or "none found", True


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


# ------------------------------------------------------------------------------------------------------------- shared
def _console() -> Console:
    """A console that keeps writing to the terminal while the checked file's own output is captured."""
    return Console(file=sys.stdout, highlight=False)


class _NotImported(click.ClickException):
    exit_code = NOT_IMPORTED


def _find(target: str) -> list[Primitive]:
    try:
        return find.find(target)
    except find.NotFound as error:
        raise click.UsageError(str(error)) from error
    except find.ImportFailed as error:
        raise _NotImported(str(error)) from error


@contextmanager
def _captured() -> Generator[io.StringIO]:
    """What the checked file and its rules print is kept apart, so that it does not drown the report."""
    output = io.StringIO()
    with redirect_stdout(output), redirect_stderr(output):
        yield output


def _say_hidden(console: Console, output: io.StringIO, show: bool = False) -> None:
    lines = output.getvalue().splitlines()
    if lines and show:
        console.print(Text("what the file and its rules printed:", "bold"))
        console.print(Text("\n".join(lines)))
    elif lines:
        plural = "s" * (len(lines) != 1)
        console.print(
            Text(f"{len(lines)} printed line{plural} hidden; `jaxprim check --show-output` shows them", "dim")
        )
