"""``jaxprim check``: its options and its output. The run itself is in `check_run`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from jaxprim._errors import BadCall
from jaxprim.checking import Report, options, targets
from jaxprim.checking.questions import QUESTIONS, Question, Speed
from jaxprim.checking.reports import expected
from jaxprim.cli import common, parallel, terminal
from jaxprim.cli.check_run import CheckRun

EXIT_CODES = """
\b
Exit codes:
  0  nothing bad was found
  1  a question failed, or a recorded failure no longer occurs
  2  the command line is wrong, or there is no such file, module or primitive
  3  nothing bad was found, but a primitive without examples was not checked
  4  the file or module could not be imported
"""
MARKS = f"\b\nMarks in the table:\n{terminal.legend()}\n"
_QUESTION = click.Choice([question.name for question in QUESTIONS])


@click.command("check", short_help="Check primitives on their examples.", epilog=f"{MARKS}\n{EXIT_CODES}")
@common.target_argument
@click.option("--seed", default=options.SEED, show_default=True, help="Random seed.")
@click.option(
    "--only", multiple=True, type=_QUESTION, metavar="QUESTION",
    help="Ask only this question; may be given several times. `jaxprim questions` lists them.",
)  # fmt: skip
@click.option("--skip", multiple=True, type=_QUESTION, metavar="QUESTION", help="Do not ask this question.")
@click.option("--fast", "speed", flag_value="fast", help="Ask only the quick questions.")
@click.option("--thorough", "speed", flag_value="thorough", help="Ask every question.")
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1), help="Number of processes.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the reports as JSON, and nothing else, to standard output."
)
@click.option("--html", "page", type=click.Path(dir_okay=False, path_type=Path), help="Also write an HTML page.")
@common.show_output_option
def command(
    target: str, seed: int, only: tuple[str, ...], skip: tuple[str, ...], speed: Speed | None, jobs: int, as_json: bool,
    page: Path | None, show_output: bool,
) -> None:  # fmt: skip
    """Check primitives on their examples (def_examples): every rule against the implementation, and the rules against each other.

    The file is imported under its own name, so code under `if __name__ == "__main__"` does not run. Known failures
    are recorded in pyproject.toml, under [tool.jaxprim.expected-failures.NAME], as QUESTION = "reason".
    """
    console = common.open_console(stderr=as_json)
    run = CheckRun(console, target, seed, _questions(only, skip, speed), page is not None)
    with common.capture_output() as output:
        _run(run, target, jobs)
    if page is not None:
        _write(console, run.reports, page)
    if as_json:
        print(json.dumps(run.record(), indent=1, ensure_ascii=False))
    common.show_captured(console, output, show=show_output)
    sys.exit(run.code())


def _run(run: CheckRun, target: str, jobs: int) -> None:
    """Check every primitive of the target, in other processes if more than one job is requested."""
    primitives = common.find_primitives(target)
    run.records = _records(target)
    with ExitStack() as stack:
        if jobs > 1:
            run.workers = stack.enter_context(parallel.workers(target, jobs))
        for position, primitive in enumerate(primitives):
            try:
                run.check(position, primitive)
            except BrokenProcessPool:
                raise click.ClickException(
                    f"{primitive.name}: a process died while it was checked, perhaps in a kernel; --jobs 1 shows where."
                ) from None


def _write(console: Console, reports: Sequence[Report], path: Path) -> None:
    from jaxprim.checking.reports import page

    path.write_text(page.render(reports), encoding="utf-8")
    console.print(Text(f"written: {path}", "dim"))


def _questions(only: Sequence[str], skip: Sequence[str], speed: Speed | None) -> tuple[Question, ...]:
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
