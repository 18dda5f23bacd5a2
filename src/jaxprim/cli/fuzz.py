"""``jaxprim fuzz``: random nests of transformations around the primitives in a file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from jaxprim._errors import BadCall
from jaxprim._primitive import Primitive
from jaxprim.checking import options, targets
from jaxprim.checking.subject import Subject
from jaxprim.cli import common, terminal
from jaxprim.cli.common import BAD, OK, UNCHECKED
from jaxprim.fuzzing import FuzzReport, run
from jaxprim.fuzzing.run import DEPTH

EXIT_CODES = """
\b
Exit codes:
  0  all nests that could be run agree
  1  a nest does not agree with the same nest around the reference
  2  the command line is wrong, or a file, primitive or reference is missing
  3  nothing was compared: no example, no reference, or no nest could be run
  4  the file or module could not be imported
"""


@click.command("fuzz", short_help="Compare random nests of transformations.", epilog=EXIT_CODES)
@common.target_argument
@click.option("--examples", default=100, show_default=True, type=click.IntRange(1), help="Number of nests.")
@click.option("--seed", default=options.SEED, show_default=True, help="Seed of the nests.")
@click.option("--depth", default=DEPTH, show_default=True, type=click.IntRange(1), help="Layers in a nest, at most.")
@click.option(
    "--reference", metavar="NAME", help="The same function in JAX: a name in that file, or FILE_OR_MODULE:NAME."
)
@click.option("--nest", metavar="LAYERS", help="Run only this nest, written as in the report of a failure.")
@common.show_output_option
def command(
    target: str, examples: int, seed: int, depth: int, reference: str | None, nest: str | None, show_output: bool
) -> None:
    """Put primitives into random nests of transformations and control flow, and compare with the same nests around a
    reference: the traceable impl, if no other is given. The first nest that differs is reduced to a small one.
    """
    console = common.open_console()
    with common.capture_output() as output:
        primitives = common.find_primitives(target)
        with common.usage_errors():
            plain = None if reference is None else targets.function(reference, targets.split(target)[0])
        wanted = _Wanted(target, plain, examples, seed, depth, nest)
        codes = [_fuzz(console, primitive, wanted) for primitive in primitives]
    common.show_captured(console, output, show=show_output)
    sys.exit(max(codes, key=(OK, UNCHECKED, BAD).index))


@dataclass(frozen=True)
class _Wanted:
    """The options of the command line."""

    target: str
    reference: Callable[..., Any] | None
    examples: int
    seed: int
    depth: int
    nest: str | None


def _fuzz(console: Console, primitive: Primitive, wanted: _Wanted) -> int:
    """Fuzz one primitive; returns its exit code."""
    subject = Subject.of(primitive, wanted.reference)
    found = FuzzReport(subject.name, wanted.seed, terminal.full_target(wanted.target, subject.name))
    try:
        given = subject.examples()
        with terminal.progress_bar(console, subject.name, 1 if wanted.nest else wanted.examples) as tell:
            run.run(found, subject, given, wanted.examples, wanted.depth, wanted.nest, tell)
    except BadCall as error:
        console.print(Text(str(error), "yellow"), soft_wrap=True)
        return UNCHECKED
    for line in terminal.fuzz_lines(found):
        console.print(line, soft_wrap=True)
    return OK if found.ok else BAD if found.failure is not None else UNCHECKED
