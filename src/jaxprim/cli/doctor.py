"""``jaxprim doctor``: which JAX this is, whether it has what jaxprim needs, which platforms, and which compilers."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import click
import jax
from rich.text import Text

from jaxprim import _jax
from jaxprim.cli import common, terminal


@click.command("doctor", short_help="Say what this JAX and this machine have.")
def command() -> None:
    """Say which JAX this is, whether it has the hooks that jaxprim needs, which platforms, and which compilers."""
    table = terminal.plain_table(heading=False)
    for label, value, ok in _facts():
        table.add_row(Text(label, "bold"), Text(value, "" if ok else "red"))
    console = common.open_console()
    console.print(table)
    gone = _jax.missing_hooks()
    for hook in gone:
        console.print(Text(f"this JAX has no hook for {hook}", "bold red"))
    sys.exit(common.BAD if gone else common.OK)


def _facts() -> Iterator[tuple[str, str, bool]]:
    """What a bug report needs to say: a label, a value, and whether the value is as it should be."""
    yield "jaxprim", _version("jaxprim"), True
    yield "JAX", f"{jax.__version__} (jaxlib {_version('jaxlib')}, NumPy {_version('numpy')})", True
    yield "Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}", True
    gone = _jax.missing_hooks()
    known = len(_jax.HOOKS)
    yield "hooks", f"{known - len(gone)} of {known} hooks of JAX are there", not gone
    try:
        kinds = [f"{device.platform}: {device.device_kind}" for device in jax.devices()]
        yield "devices", ", ".join(dict.fromkeys(kinds)) + f" ({len(kinds)}), default {jax.default_backend()}", True
    except RuntimeError as error:  # a platform was asked for that is not there
        yield "devices", str(error), False
    yield "64-bit types", "on" if jax.config.read("jax_enable_x64") else "off", True
    for what, names in (("C++ compilers", ("c++", "g++", "clang++")), ("CUDA compiler", ("nvcc",))):
        yield what, ", ".join(filter(None, map(shutil.which, names))) or "none found", True


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
