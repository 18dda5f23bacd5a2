"""``jaxprim check``: its options. The run itself is in `check_run`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jaxprim._defaults import SEED
from jaxprim.checking.names import names
from jaxprim.checking.reports.status import SIGNS
from jaxprim.cli import common

if TYPE_CHECKING:
    from jaxprim.checking.question import Speed

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
LEGEND = "\n".join(f"  {sign.mark}  {status:<9}  {sign.meaning}" for status, sign in SIGNS.items())
MARKS = f"\b\nMarks in the table:\n{LEGEND}\n"
_QUESTION = click.Choice(names())


@click.command("check", short_help="Check primitives on their examples.", epilog=f"{MARKS}\n{EXIT_CODES}")
@common.target_argument
@click.option("--seed", default=SEED, show_default=True, help="Random seed.")
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
    from jaxprim.cli import check_run

    console = common.open_console(stderr=as_json)
    asked = check_run.questions(only, skip, _speed(fast, thorough))
    if page is not None:
        _require_folder(page)
    run = check_run.CheckRun(console, target, seed, asked, pictures=page is not None, whole=verbose, accuracy=accuracy)
    with common.capture_output() as output:
        try:
            check_run.check_target(run, target, jobs)
        except KeyboardInterrupt:
            run.stopped = True
    if page is not None:
        check_run.write_page(console, run.reports, page)
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
