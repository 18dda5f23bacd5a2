"""``jaxprim doctor``: the JAX version, whether it has what jaxprim needs, the platforms, and the compilers."""

from __future__ import annotations

import sys

import click

from jaxprim import _doctor
from jaxprim.cli import common


@click.command("doctor", short_help="Show what this JAX and this machine provide.")
def command() -> None:
    """Show versions, what this JAX lacks, devices, compilers and the kernel cache, to paste into an issue."""
    from rich.text import Text

    console = common.open_console()
    for label, value, ok in _doctor.facts():  # no table: in lines that are not broken it can be copied into an issue
        console.print(Text.assemble((f"{label:<14}  ", "bold"), (value, "" if ok else "red")), soft_wrap=True)
    gone = _doctor.missing()
    for line in gone:
        console.print(Text(f"this JAX lacks {line}", "bold red"), soft_wrap=True)
    sys.exit(common.BAD if gone else common.OK)
