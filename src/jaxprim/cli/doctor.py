"""``jaxprim doctor``: the JAX version, whether it has what jaxprim needs, the platforms, and the compilers."""

from __future__ import annotations

import sys

import click

from jaxprim import _doctor
from jaxprim.cli import common


@click.command("doctor", short_help="Show what this JAX and this machine provide.")
def command() -> None:
    """Show the JAX version, what it lacks that jaxprim needs, the platforms, and the compilers."""
    from rich.text import Text

    table = common.plain_table(heading=False)
    for label, value, ok in _doctor.facts():
        table.add_row(Text(label, "bold"), Text(value, "" if ok else "red"))
    console = common.open_console()
    console.print(table)
    gone = _doctor.missing()
    for line in gone:
        console.print(Text(f"this JAX lacks {line}", "bold red"), soft_wrap=True)
    sys.exit(common.BAD if gone else common.OK)
