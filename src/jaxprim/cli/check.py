"""``jaxprim check``: its options and its output. The run itself is in `check_run`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from jaxprim._errors import BadCall
from jaxprim._primitive import Primitive
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
  130  Ctrl-C; what was found until then is shown
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
@click.option("--fast", is_flag=True, help="Ask only the quick questions.")
@click.option("--thorough", is_flag=True, help="Ask every question.")
@click.option("-v", "--verbose", is_flag=True, help="Show the rules, and the answer to every question.")
@click.option(
    "--accuracy", type=click.FloatRange(0, 1, max_open=True), metavar="ERROR",
    help="Relative error to which the operations compute their functions, such as 1e-5.",
)  # fmt: skip
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1), help="Number of processes.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the reports as JSON, and nothing else, to standard output."
)
@click.option("--html", "page", type=click.Path(dir_okay=False, path_type=Path), help="Also write an HTML page.")
@common.show_output_option
def command(
    target: str, seed: int, only: tuple[str, ...], skip: tuple[str, ...], fast: bool, thorough: bool, verbose: bool,
    accuracy: float | None, jobs: int, as_json: bool, page: Path | None, show_output: bool,
) -> None:  # fmt: skip
    """Check primitives on their examples (def_examples): every rule against the implementation, and the rules against each other.

    A folder stands for all files in it that use jaxprim. A file is imported under its own name, so code under
    `if __name__ == "__main__"` does not run. Known failures are recorded in pyproject.toml, under
    [tool.jaxprim.expected-failures.NAME], as QUESTION = "reason".
    """
    console = common.open_console(stderr=as_json)
    asked = _questions(only, skip, _speed(fast, thorough))
    if page is not None:
        _require_folder(page)
    run = CheckRun(console, target, seed, asked, pictures=page is not None, whole=verbose, accuracy=accuracy)
    with common.capture_output() as output:
        try:
            _run_all(run, target, jobs)
        except KeyboardInterrupt:
            run.stopped = True
    if page is not None:
        _write(console, run.reports, page)
    if as_json:
        print(json.dumps(run.record(), indent=1, ensure_ascii=False))
    common.show_captured(console, output, show=show_output)
    sys.exit(run.code())


def _speed(fast: bool, thorough: bool) -> Speed:
    if fast and thorough:
        raise click.UsageError("--fast asks fewer questions and --thorough more; give one of them.")
    return "fast" if fast else "thorough" if thorough else "normal"


def _require_folder(page: Path) -> None:
    """Refuse a page that could not be written, before the check and not after it."""
    if not page.resolve().parent.is_dir():
        raise click.UsageError(f"--html {page}: there is no folder {page.parent}.")
    if not os.access(page if page.exists() else page.resolve().parent, os.W_OK):
        raise click.UsageError(f"--html {page}: it can't be written.")


def _run_all(run: CheckRun, target: str, jobs: int) -> None:
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


def _write(console: Console, reports: Sequence[Report], path: Path) -> None:
    from jaxprim.checking.reports import page

    path.write_text(page.render(reports), encoding="utf-8")
    console.print(Text(f"written: {path}", "dim"))


def _questions(only: Sequence[str], skip: Sequence[str], speed: Speed) -> tuple[Question, ...]:
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
