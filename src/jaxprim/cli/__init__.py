"""The command line. Each command has a file of its own name; `new/` also holds the templates of `jaxprim new`.

These files are what a shell imports to complete a word. So at their top level they import neither JAX nor rich; a
command imports what it needs when it runs.
"""

from __future__ import annotations

import importlib

from jaxprim import _doctor

try:
    import click

    importlib.import_module("rich")  # the commands use it
except ImportError:
    if _doctor.is_asked_for():  # it says what an installation lacks
        raise SystemExit(_doctor.print_report()) from None
    raise

from jaxprim.cli import build, cache, check, doctor, explain, fuzz, new, questions


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=check.EXIT_CODES)
@click.version_option(package_name="jaxprim")
def main() -> None:
    """Custom JAX primitives: show their rules, and check them."""


# The files are not named by their functions, so that `jaxprim.cli.check` stays the module.
for module in (explain, check, fuzz, questions, new, build, cache, doctor):
    main.add_command(module.command)
