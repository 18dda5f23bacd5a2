"""``jaxprim new``: a package around one primitive, to start from and to publish."""

from __future__ import annotations

from pathlib import Path

import click

from jaxprim._errors import BadCall
from jaxprim.cli import common
from jaxprim.cli.new.project import KINDS, create

EXIT_CODES = """
\b
Exit codes:
  0  the package was written
  2  the command line is wrong, or the name cannot be used
"""


@click.command("new", short_help="Write a package to start from.", epilog=EXIT_CODES)
@click.argument("name")
@click.option("--kind", required=True, type=click.Choice(KINDS), help="Where the kernel comes from.")
def command(name: str, kind: str) -> None:
    """Write a package into ./NAME: a kernel, its rules, examples, tests, and what publishing it needs.

    It passes its own check and its own tests, and builds a wheel that needs no compiler.
    """
    from rich.text import Text

    try:
        files = create(name, kind, Path.cwd())
    except BadCall as error:
        raise click.UsageError(str(error)) from error
    console = common.open_console()
    console.print(Text(f"{name}: {', '.join(map(str, files))}"), soft_wrap=True)
    console.print(Text(f"  cd {name}\n  pip install -e '.[test]'\n  jaxprim check src/{name}\n  pytest"))
