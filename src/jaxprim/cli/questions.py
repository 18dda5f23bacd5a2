"""``jaxprim questions``: the questions that a check can ask."""

from __future__ import annotations

import click

from jaxprim.cli import common


@click.command("questions")
def command() -> None:
    """List the questions that `check` asks."""
    from rich.text import Text

    from jaxprim.checking.questions import QUESTIONS

    table = common.plain_table(heading=False)
    for question in QUESTIONS:
        table.add_row(Text(question.name, "bold"), question.sentence)
    common.open_console().print(table)
