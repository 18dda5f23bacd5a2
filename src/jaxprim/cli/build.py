"""``jaxprim build``: compile the kernels of a package ahead, so that its users need no compiler."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from jaxprim.kernels import Kernel
    from jaxprim.kernels.build_ahead import Made

EXIT_CODES = """
\b
Exit codes:
  0  every kernel was built
  1  a kernel does not compile
  2  the command line is wrong, or there is no such file, module or kernel
  4  a file or module could not be imported
"""


@click.command("build", short_help="Compile kernels ahead, for a package.", epilog=EXIT_CODES)
@click.argument("targets", metavar="FILE_OR_MODULE...", nargs=-1, required=True)
@click.option(
    "--out", type=click.Path(path_type=Path), help="The folder for the libraries. Default: _kernels, beside the module."
)
@click.option(
    "--type",
    "types",
    multiple=True,
    metavar="[KERNEL.]T=DTYPE,...",
    help="The dtypes for a type variable. Default: all.",
)
@click.option(
    "--call",
    "calls",
    multiple=True,
    metavar="MODULE:FUNCTION",
    help="Call a function after the import: one that makes kernels, and takes no argument.",
)
@click.option(
    "--orders",
    type=click.IntRange(0, 5),
    default=0,
    help="The highest derivative to build, of kernels with differentiable=.",
)
@click.option("--platform", help="The platform that the compiler must build for, such as linux-aarch64.")
@click.option("--print-tag", is_flag=True, help="Print the platform for the name of a wheel, in the last line.")
def command(
    targets: tuple[str, ...],
    out: Path | None,
    types: tuple[str, ...],
    calls: tuple[str, ...],
    orders: int,
    platform: str | None,
    print_tag: bool,
) -> None:
    """Compile the kernels of files and modules into libraries, with a manifest.

    A kernel finds its library there, and then needs no compiler. Nothing is loaded, and no device is used.
    """
    import jax

    from jaxprim._errors import KernelError
    from jaxprim.kernels import build_ahead, toolchain

    jax.config.update("jax_platforms", "cpu")  # where the module itself computes something when it is imported
    wanted = dict(map(_type, types))
    jobs = _jobs(targets, calls)
    try:
        machine = None if platform is None else toolchain.machine_of(platform)
        for target, module, kernels in jobs:
            folder = out or _beside(module)
            click.echo(f"{target}: {len(kernels)} kernel{'s' * (len(kernels) != 1)}, into {folder}")
            made = build_ahead.build(kernels, folder, types=wanted, machine=machine, orders=orders, note=_note)
            machine = machine or build_ahead.machine_of(made)
        if print_tag:
            click.echo((machine or toolchain.this_machine()).tag)
    except KernelError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)


def _note(made: Made) -> None:
    types = ", ".join(f"{name} = {dtype}" for name, dtype in made.variant.dtypes.items())
    what = ", ".join(filter(None, [types, made.variant.level]))
    name = made.variant.source.name + (f" for {what}" if what else "")
    click.echo(f"  {name}: " + ("does not compile" if made.row is None else made.row.library))


def _type(text: str) -> tuple[str, list[str]]:
    name, equals, dtypes = text.partition("=")
    found = [dtype.strip() for dtype in dtypes.split(",") if dtype.strip()]
    if not equals or not name.strip() or not found:
        raise click.BadParameter(f"{text!r} is not of the form T=f32,f64", param_hint="--type")
    return name.strip(), found


def _jobs(targets: tuple[str, ...], calls: tuple[str, ...]) -> list[tuple[str, ModuleType, list[Kernel]]]:
    """For each target its module, and the kernels that its file, or the folder of a package, makes on import or when called.

    A module may import that of a later target, so the kernels are sorted when all are there.
    """
    from jaxprim.checking import targets as finding
    from jaxprim.cli import common
    from jaxprim.kernels.kernel import recording

    with recording() as made, common.usage_errors():
        modules = [finding.load(_package_of(target)) for target in targets]
        for name in calls:
            _call(name)
    kernels = [kernel for kernel in made if kernel.source is not None]
    jobs: list[tuple[str, ModuleType, list[Kernel]]] = []
    for target, module in zip(targets, modules, strict=True):
        home = Path(str(module.__file__)).resolve()
        found = [kernel for kernel in kernels if _is_inside(Path(kernel.file).resolve(), home)]
        if not found:
            raise click.UsageError(
                f"{target}: it makes no kernel that can be built ahead when it is imported; "
                "for kernels that a function makes, add --call MODULE:FUNCTION"
            )
        jobs.append((target, module, found))
    return jobs


def _call(name: str) -> None:
    """Call a function of a module that makes kernels."""
    module, colon, function = name.partition(":")
    if not colon or not module or not function.isidentifier():
        raise click.BadParameter(f"{name!r} is not of the form MODULE:FUNCTION", param_hint="--call")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise click.BadParameter(f"{name}: {error}", param_hint="--call") from None
    found()


def _is_inside(path: Path, home: Path) -> bool:
    """Whether a file is that of a module, or lies in the folder of a package."""
    return path == home or (home.stem == "__init__" and home.parent in path.parents)


def _package_of(target: str) -> str:
    """The `__init__.py` of a folder that is a package; any other target unchanged."""
    init = Path(target) / "__init__.py"
    return str(init) if init.is_file() else target


def _beside(module: ModuleType) -> Path:
    from jaxprim.kernels.ahead import FOLDER

    return Path(str(module.__file__)).parent / FOLDER
