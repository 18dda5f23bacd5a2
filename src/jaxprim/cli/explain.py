"""``jaxprim explain``: the rules of the primitives in a file."""

from __future__ import annotations

import click

from jaxprim.cli import common

EXIT_CODES = """
\b
Exit codes:
  0  the rules were shown
  2  the command line is wrong, or there is no such file, module or primitive
  4  the file or module could not be imported
"""


@click.command("explain", short_help="Show which rules are given, derived or missing.", epilog=EXIT_CODES)
@common.target_argument
@common.show_output_option
def command(target: str, show_output: bool) -> None:
    """Show every rule of a primitive: given (where), derived (from what), or missing (why, and what to write)."""
    from jaxprim._rules import rules_of
    from jaxprim.cli import terminal
    from jaxprim.derive import explain as explain_rules

    console = common.open_console()
    with common.capture_output() as output:
        primitives = common.find_primitives(target)
    for primitive in primitives:
        console.print(terminal.rules(primitive.name, explain_rules(rules_of(primitive)).rows))
    common.show_captured(console, output, show=show_output)
