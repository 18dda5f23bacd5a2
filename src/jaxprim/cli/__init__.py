"""The command line: ``jaxprim check``, ``fuzz``, ``explain``, ``new``, ``questions``, ``doctor``. It reads reports; it decides nothing."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Generator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from jaxprim import _doctor

try:
    import click
    from rich.console import Console
    from rich.text import Text
except ImportError as error:
    if _doctor.is_asked_for():
        raise SystemExit(_doctor.print_report()) from None
    raise SystemExit(
        f"The jaxprim command line needs click and rich ({error}).\n  write:    pip install 'jaxprim[cli]'"
    ) from None

from jaxprim._errors import BadCall
from jaxprim._primitive import Primitive
from jaxprim._rules import rules_of
from jaxprim.checking import Report, options, targets
from jaxprim.checking.questions import QUESTIONS, Question
from jaxprim.checking.reports import expected
from jaxprim.checking.subject import Subject
from jaxprim.cli import parallel, terminal
from jaxprim.cli.check_run import BAD, NOT_IMPORTED, OK, UNCHECKED, CheckRun
from jaxprim.cli.new import KINDS, create
from jaxprim.derive import report as rules_report
from jaxprim.fuzzing import Fuzzing
from jaxprim.fuzzing import run as fuzzing
from jaxprim.fuzzing.run import DEPTH

EXIT_CODES = """
\b
Exit codes:
  0  nothing bad was found
  1  a finding is bad, or a failure that pyproject.toml records is none any more
  2  the command line is wrong, or there is no such file, module or primitive
  3  nothing bad was found, but a primitive has no examples and was not checked
  4  the file or module could not be imported
"""
FUZZ_EXIT_CODES = """
\b
Exit codes:
  0  all nests that could be asked agree
  1  a nest gives something else than the same nest around the reference
  2  the command line is wrong, or there is no such file, module, primitive or reference
  3  nothing was compared: no examples, or no reference, or no nest that could be asked
  4  the file or module could not be imported
"""
MARKS = f"\b\nMarks in the table:\n{terminal.legend()}\n"


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
        console.print(terminal.rules(primitive.name, rules_report(rules_of(primitive))))
    _say_hidden(console, output)


# -------------------------------------------------------------------------------------------------------------- check
_QUESTION = click.Choice([question.name for question in QUESTIONS])


@main.command(epilog=f"{MARKS}\n{EXIT_CODES}")
@click.argument("target", metavar="FILE_OR_MODULE[:NAME]")
@click.option("--seed", default=options.SEED, show_default=True, help="Seed of everything random.")
@click.option(
    "--only", multiple=True, type=_QUESTION, metavar="QUESTION",
    help="Ask only this question; may be given several times. `jaxprim questions` lists them.",
)  # fmt: skip
@click.option("--skip", multiple=True, type=_QUESTION, metavar="QUESTION", help="Do not ask this question.")
@click.option("--fast", "speed", flag_value="fast", help="Ask the quick questions alone.")
@click.option("--thorough", "speed", flag_value="thorough", help="Ask every question.")
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1), help="Ask in so many processes.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the reports as JSON, and nothing else, to standard output."
)
@click.option("--html", "page", type=click.Path(dir_okay=False, path_type=Path), help="Also write an HTML page.")
@click.option("--show-output", is_flag=True, help="Show what the file and its rules print.")
def check(
    target: str, seed: int, only: tuple[str, ...], skip: tuple[str, ...], speed: str | None, jobs: int, as_json: bool,
    page: Path | None, show_output: bool,
) -> None:  # fmt: skip
    """Check primitives on their examples (def_examples): every rule against the implementation, and against each other.

    The file is imported under its own name, so what stands under `if __name__ == "__main__"` does not run. Failures
    that are known are recorded in pyproject.toml, under [tool.jaxprim.expected-failures.NAME], as QUESTION = "reason".
    """
    console = _console(stderr=as_json)
    run = CheckRun(console, target, seed, _questions(only, skip, speed), page is not None)
    with ExitStack() as stack:
        output = stack.enter_context(_captured())
        found = _find(target)
        run.records = _records(target)
        if jobs > 1:
            run.workers = stack.enter_context(parallel.workers(target, jobs))
        for position, primitive in enumerate(found):
            try:
                run.check(position, primitive)
            except BrokenProcessPool:
                raise click.ClickException(
                    f"{primitive.name}: a process died while it was checked, perhaps in a kernel; --jobs 1 shows where."
                ) from None
    if page is not None:
        _write(console, run.reports, page)
    if as_json:
        print(json.dumps(run.record(), indent=1, ensure_ascii=False))
    _say_hidden(console, output, show_output)
    sys.exit(run.code())


def _write(console: Console, reports: Sequence[Report], path: Path) -> None:
    from jaxprim.checking.reports.page import page

    path.write_text(page(reports), encoding="utf-8")
    console.print(Text(f"written: {path}", "dim"))


def _questions(only: Sequence[str], skip: Sequence[str], speed: Any) -> tuple[Question, ...]:
    try:
        return options.questions(only, skip, speed or "normal")
    except BadCall as error:
        raise click.UsageError(str(error)) from error


def _records(target: str) -> expected.Records:
    """The expected failures of the project that a file belongs to, or of the current folder."""
    path = Path(targets.split(target)[0])
    try:
        return expected.read(path.parent if path.is_file() else Path(), [question.name for question in QUESTIONS])
    except expected.BadRecord as error:
        raise click.UsageError(str(error)) from error


# --------------------------------------------------------------------------------------------------------------- fuzz
@main.command(epilog=FUZZ_EXIT_CODES)
@click.argument("target", metavar="FILE_OR_MODULE[:NAME]")
@click.option("--examples", default=100, show_default=True, type=click.IntRange(1), help="How many nests.")
@click.option("--seed", default=options.SEED, show_default=True, help="Seed of the nests.")
@click.option("--depth", default=DEPTH, show_default=True, type=click.IntRange(1), help="Layers in a nest, at most.")
@click.option(
    "--reference", metavar="NAME", help="The same function in JAX: a name in that file, or FILE_OR_MODULE:NAME."
)
@click.option("--nest", metavar="LAYERS", help="This nest alone, as a failure spells it.")
@click.option("--show-output", is_flag=True, help="Show what the file and its rules print.")
def fuzz(
    target: str, examples: int, seed: int, depth: int, reference: str | None, nest: str | None, show_output: bool
) -> None:
    """Put primitives into random nests of transformations and control flow, and compare with the same nests around a
    reference: the traceable impl, if no other is given. The first nest that differs is made small.
    """
    console = _console()
    with _captured() as output:
        found = _find(target)
        with _finding():
            believed = None if reference is None else targets.function(reference, targets.split(target)[0])
        results = [_fuzz(console, target, p, believed, examples, seed, depth, nest) for p in found]
    _say_hidden(console, output, show_output)
    sys.exit(max(results, key=(OK, UNCHECKED, BAD).index))


def _fuzz(
    console: Console, target: str, primitive: Primitive, reference: Any, examples: int, seed: int, depth: int,
    nest: str | None,
) -> int:  # fmt: skip
    """Fuzz one primitive; returns its exit code."""
    subject = Subject.of(primitive, reference)
    found = Fuzzing(subject.name, seed, terminal.place(target, subject.name))
    try:
        given = subject.examples()
        with terminal.counting(console, subject.name, 1 if nest else examples) as tell:
            fuzzing.run(found, subject, given, examples, depth, nest, tell)
    except BadCall as error:
        console.print(Text(str(error), "yellow"), soft_wrap=True)
        return UNCHECKED
    for line in terminal.fuzzed(found):
        console.print(line, soft_wrap=True)
    return OK if found.ok else BAD if found.failure is not None else UNCHECKED


# ---------------------------------------------------------------------------------------------------------- questions
@main.command()
def questions() -> None:
    """List the questions that `check` asks."""
    table = terminal.plain_table(heading=False)
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
    """Say which JAX this is, what jaxprim uses of it that is not there, which platforms, and which compilers."""
    table = terminal.plain_table(heading=False)
    for label, value, ok in _doctor.facts():
        table.add_row(Text(label, "bold"), Text(value, "" if ok else "red"))
    console = _console()
    console.print(table)
    gone = _doctor.missing()
    for line in gone:
        console.print(Text(f"this JAX lacks {line}", "bold red"), soft_wrap=True)
    sys.exit(BAD if gone else OK)


# ------------------------------------------------------------------------------------------------------------- shared
def _console(*, stderr: bool = False) -> Console:
    """A console that keeps writing to the terminal while the checked file's own output is captured."""
    return Console(file=sys.stderr if stderr else sys.stdout, highlight=False)


class _NotImported(click.ClickException):
    exit_code = NOT_IMPORTED


def _find(target: str) -> list[Primitive]:
    with _finding():
        return targets.find(target)


@contextmanager
def _finding() -> Generator[None]:
    """Exceptions of `find` as the command line tells them."""
    try:
        yield
    except targets.NotFound as error:
        raise click.UsageError(str(error)) from error
    except targets.ImportFailed as error:
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
