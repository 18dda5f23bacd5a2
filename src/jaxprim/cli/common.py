"""Shared by the commands: exit codes, the console, finding the target, and capturing the checked file's output."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Generator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any, TextIO, cast

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from jaxprim._primitive import Primitive

# Exit codes; 2 is click's own, for a command line that is wrong.
OK, BAD, UNCHECKED, NOT_IMPORTED = 0, 1, 3, 4
STOPPED = 130  # by Ctrl-C: what a shell reports for a process that SIGINT ends


class _Target(click.Path):
    """A file, a module or a primitive in one of them. The shell completes paths; the rest is found later."""

    name = "target"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value)


target_argument = click.argument("target", metavar="FILE_OR_MODULE[:NAME]", type=_Target())
show_output_option = click.option("--show-output", is_flag=True, help="Show the output of the file and its rules.")


class _Piped:
    """A file that gets no spaces at the ends of lines, with which tables fill their columns."""

    def __init__(self, file: TextIO) -> None:
        self.file = file

    def write(self, text: str) -> int:
        self.file.write(re.sub(r" +$", "", text, flags=re.MULTILINE))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def open_console(*, stderr: bool = False) -> Console:
    """A console that keeps writing to the terminal while the checked file's own output is captured."""
    from rich.console import Console

    file = sys.stderr if stderr else sys.stdout
    return Console(file=file if file.isatty() else cast("TextIO", _Piped(file)), highlight=False)


def plain_table(*, heading: bool = True) -> Table:
    """A table without lines."""
    from rich.table import Table

    return Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=heading, header_style="dim")


class _NotImported(click.ClickException):
    exit_code = NOT_IMPORTED


@contextmanager
def usage_errors() -> Generator[None]:
    """Turn errors in finding a target into click errors with their exit codes."""
    from jaxprim.checking import targets

    try:
        yield
    except targets.NotFound as error:
        raise click.UsageError(str(error)) from error
    except targets.ImportFailed as error:
        raise _NotImported(str(error)) from error


def find_primitives(target: str) -> list[Primitive]:
    """The primitives that the command line names."""
    from jaxprim.checking import targets

    with usage_errors():
        return targets.find(target)


@contextmanager
def capture_output() -> Generator[io.StringIO]:
    """Capture the output of the checked file and its rules, so that it does not drown the report."""
    output = io.StringIO()
    with redirect_stdout(output), redirect_stderr(output):
        yield output


def show_captured(console: Console, output: io.StringIO, *, show: bool) -> None:
    """Print the captured output, or the number of its lines and how to see them."""
    from rich.text import Text

    lines = output.getvalue().splitlines()
    if lines and show:
        console.print(Text("output of the file and its rules:", "bold"))
        console.print(Text("\n".join(lines)))
    elif lines:
        command = click.get_current_context().info_name
        plural = "s" * (len(lines) != 1)
        console.print(
            Text(f"{len(lines)} printed line{plural} hidden; `jaxprim {command} --show-output` shows them", "dim")
        )
