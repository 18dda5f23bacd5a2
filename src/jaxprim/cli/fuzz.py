"""``jaxprim fuzz``: its options. The run itself is in `fuzz_run`."""

from __future__ import annotations

import sys

import click

from jaxprim._defaults import DEPTH, SEED
from jaxprim.cli import common

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
@click.option("--seed", default=SEED, show_default=True, help="Seed of the nests.")
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
    from jaxprim.cli import fuzz_run

    console = common.open_console()
    with common.capture_output() as output:
        code = fuzz_run.fuzz(console, target, examples, seed, depth, reference, nest)
    common.show_captured(console, output, show=show_output)
    sys.exit(code)
