"""Which names of JAX jaxprim uses, and which of them the installed JAX lacks.

The names are read from the source of ``_jax/``, the only place that uses JAX's internals, so no list can go out of
date. This file imports no internals of JAX, and of jaxprim only what imports none either, so it still works when
``import jaxprim`` fails.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import platform
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxprim import _cache

SOURCES = Path(__file__).parent / "_jax"
# The releases that were tested, oldest and newest; tests/test_doctor.py holds them to [tool.jaxprim.supported].
OLDEST, NEWEST = "0.8.1", "0.12.0.1"
PIN = f"pip install 'jax>={OLDEST},<={NEWEST}'"


# ------------------------------------------------------------------------------------------------ what the source uses
@dataclass(frozen=True)
class Use:
    """A name of JAX in the source of ``_jax/``.

    Attributes:
        name: the full name of a module, or of something in it: ``jax._src.core.eval_jaxpr``.
        place: where it is first used, as ``_jax/programs.py:64``.
        call: for a call, the number of positional arguments and the keywords; None for a plain use.
        whole: whether these are all arguments of the call, with no ``*`` or ``**``.
    """

    name: str
    place: str
    call: tuple[int, tuple[str, ...]] | None = None
    whole: bool = False


def uses(sources: Path = SOURCES) -> list[Use]:
    """Every name of JAX that is needed, each once, and each of its calls."""
    found = [use for path in sorted(sources.glob("*.py")) for use in _uses_of(path)]
    first = {(use.name, use.call): use for use in reversed(found)}
    return sorted(first.values(), key=lambda use: (use.name, use.call is not None, use.place))


def _uses_of(path: Path) -> Iterator[Use]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: dict[str, str] = {}
    for local, full, line in _imports(tree):
        names[local] = full
        yield Use(full, _place(path, line))
    for node in ast.walk(tree):
        name = _dotted(node, names)
        if isinstance(node, ast.Attribute) and name is not None:
            yield Use(name, _place(path, node.lineno))
        if isinstance(node, ast.Call) and (called := _dotted(node.func, names)) is not None:
            starred = any(isinstance(arg, ast.Starred) for arg in node.args)
            keywords = tuple(keyword.arg for keyword in node.keywords if keyword.arg is not None)
            positional = sum(not isinstance(arg, ast.Starred) for arg in node.args)
            whole = not starred and len(keywords) == len(node.keywords)
            yield Use(called, _place(path, node.lineno), (positional, keywords), whole)


def _imports(tree: ast.Module) -> Iterator[tuple[str, str, int]]:
    """Names that a file imports from JAX: the local name, the full one, the line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "jax":
                    yield alias.asname or "jax", alias.name if alias.asname else "jax", node.lineno
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "jax":
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}", node.lineno


def _dotted(node: ast.AST, names: dict[str, str]) -> str | None:
    """The full name of ``core.eval_jaxpr`` in a file that imports `core`.

    A name inside ``hasattr`` or ``getattr`` is a string, so it is not found. That is intended: it may be missing.
    """
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _dotted(node.value, names)
        return None if owner is None else f"{owner}.{node.attr}"
    return None


def _place(path: Path, line: int) -> str:
    return f"_jax/{path.name}:{line}"


# --------------------------------------------------------------------------------------------- what this JAX lacks
def missing(found: Sequence[Use] | None = None) -> list[str]:
    """What this JAX lacks, one line each: names that are gone, and functions that take other arguments."""
    found = uses() if found is None else found
    gone = {use.name: use for use in found if use.call is None and not _exists(use.name)}
    # If a module or class is gone, do not also list its contents.
    first = {name: use for name, use in gone.items() if not any(name.startswith(f"{other}.") for other in gone)}
    calls = [use for use in found if use.call is not None and _exists(use.name) and _refuses(use)]
    return [
        *[f"{use.name} (used at {use.place})" for use in first.values()],
        *[f"{use.name} takes other arguments now (used at {use.place})" for use in calls],
    ]


def _exists(name: str) -> bool:
    try:
        _find(name)
    except (ImportError, AttributeError):
        return False
    return True


def _find(name: str) -> Any:
    first, *parts = name.split(".")
    value: Any = importlib.import_module(first)
    path = first
    for part in parts:
        path = f"{path}.{part}"
        if isinstance(value, ModuleType) and not hasattr(value, part):
            value = importlib.import_module(path)
        else:
            with warnings.catch_warnings():  # a deprecated name still exists
                warnings.simplefilter("ignore")
                value = getattr(value, part)
    return value


def _refuses(use: Use) -> bool:
    """Whether a function rejects the arguments of a call; False if its signature is unknown."""
    try:
        signature = inspect.signature(_find(use.name))
    except (TypeError, ValueError):
        return False
    positional, keywords = use.call or (0, ())
    bind = signature.bind if use.whole else signature.bind_partial
    try:
        bind(*[None] * positional, **dict.fromkeys(keywords))
    except TypeError:
        return True
    return False


# ----------------------------------------------------------------------------------------- where the import fails
def explain_failed_import(error: Exception) -> None:
    """Called when an import inside jaxprim failed. ``jaxprim doctor`` still runs; any other program gets the reason.

    Returns if JAX lacks nothing: then the error has another cause.
    """
    if is_asked_for():
        raise SystemExit(print_report(error)) from None
    gone = missing()
    if gone:
        raise ImportError(refusal(gone)) from error


def warn_on_another_release() -> None:
    """On an untested JAX, warn at import about missing names, not deep inside the operation that needs one."""
    if not is_tested() and (gone := missing()):
        warnings.warn(refusal(gone, "may fail on"), RuntimeWarning, stacklevel=3)


def is_tested() -> bool:
    """Whether the installed JAX lies between the oldest and the newest tested release."""
    return _figures(OLDEST) <= _figures(version_of("jax")) <= _figures(NEWEST)


def refusal(gone: Sequence[str], does: str = "does not run on") -> str:
    """The message of ``import jaxprim`` on a JAX that lacks something."""
    lines = "".join(f"\n  missing:  {line}" for line in gone)
    return (
        f"jaxprim {version_of('jaxprim')} {does} JAX {version_of('jax')}: it uses internals of JAX that this release does not "
        f"have.{lines}\n  tested:   JAX {OLDEST} to {NEWEST}\n  write:    {PIN}\n  or run:   jaxprim doctor"
    )


def is_asked_for() -> bool:
    """Whether this process is ``jaxprim doctor`` or ``python -m jaxprim doctor``."""
    if sys.argv[1:2] != ["doctor"]:
        return False
    return Path(sys.argv[0]).stem == "jaxprim" or sys.orig_argv[-3:] == ["-m", "jaxprim", "doctor"]


def print_report(error: Exception | None = None) -> int:
    """Print the report without click and rich, which may be missing too. Returns the exit code."""
    out = sys.stdout.write
    for label, value, _ in facts():
        out(f"{label:<14}  {value}\n")
    gone = missing()
    for line in gone:
        out(f"this JAX lacks {line}\n")
    if error is not None and not gone:
        out(f"jaxprim could not be imported: {type(error).__name__}: {error}\n")
    return 1 if gone or error is not None else 0


# -------------------------------------------------------------------------------------------------------------- facts
def facts() -> Iterator[tuple[str, str, bool]]:
    """The facts that a bug report needs: a label, a value, and whether the value is fine."""
    yield "jaxprim", version_of("jaxprim"), True
    yield "JAX", f"{version_of('jax')} (jaxlib {version_of('jaxlib')}, NumPy {version_of('numpy')})", True
    known = is_tested()
    yield "tested on", f"JAX {OLDEST} to {NEWEST}" + ("" if known else ": not this release"), known
    yield "Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}", True
    try:
        import jax
    except Exception as error:  # noqa: BLE001 - doctor must report whatever JAX raises
        yield "JAX import", f"{type(error).__name__}: {error}", False
        return
    used, gone = uses(), missing()
    names = sum(use.call is None for use in used)
    yield "names of JAX", f"{names} are used, {len(gone) or 'none'} missing", not gone
    try:
        kinds = [f"{device.platform}: {device.device_kind}" for device in jax.devices()]
        yield "devices", ", ".join(dict.fromkeys(kinds)) + f" ({len(kinds)}), default {jax.default_backend()}", True
    except RuntimeError as error:  # JAX is set to a platform that is not available
        yield "devices", str(error), False
    yield "64-bit types", "on" if jax.config.read("jax_enable_x64") else "off", True
    for what, variable, commands in _COMPILERS:
        found = [f"{path} ({_said(path)})" for path in map(shutil.which, commands) if path]
        named = os.environ.get(variable)
        yield what, ", ".join(found + [f"{variable}={named}"] * bool(named)) or "none found", True
    for label, packages in _PACKAGES:
        missing_here = any(version_of(name) == _ABSENT for name in packages)
        is_fine = label.startswith("extra") or not missing_here
        yield label, ", ".join(f"{name} {version_of(name)}" for name in packages), is_fine
    yield "kernel cache", _kernel_cache(), True


_COMPILERS = (("C++ compilers", "CXX", ("c++", "g++", "clang++")), ("CUDA compiler", "NVCC", ("nvcc",)))
# What is installed with jaxprim, and with its extras.
_PACKAGES = (
    ("installed", ("click", "filelock", "jinja2", "platformdirs", "rich")),
    ("extra numba", ("numba",)),
    ("extra testing", ("hypothesis", "pytest")),
)
_ABSENT = "not installed"


def _said(compiler: str) -> str:
    """The version of a compiler: the number in the line that has it, which is all that a bug report needs."""
    try:
        done = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False, timeout=20)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return "does not run"
    found = re.search(r"\bV(\d+\.[\d.]+)", done.stdout) or re.search(r"^.*\s(\d+\.[\d.]*\d)", done.stdout)
    return found[1] if found else "no version"


def _kernel_cache() -> str:
    try:
        folder = _cache.folder()
    except ImportError:
        return f"unknown: platformdirs is {_ABSENT}, and {_cache.VARIABLE} is not set"
    kept = _cache.entries(folder)
    return f"{folder}: {len(kept)} kernels, {_cache.size_in_words(sum(entry.bytes for entry in kept))}"


def _figures(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split(".") if part.isdecimal())


def version_of(package: str) -> str:
    """The version of an installed package, or words that say that it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return _ABSENT
