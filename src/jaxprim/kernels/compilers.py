"""Find a language's compiler, run it, and say what its failure means."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from jaxprim._errors import KernelError, message
from jaxprim._origin import shorten
from jaxprim.kernels.languages import Language


def compiler(language: Language) -> tuple[str, ...]:
    """The compiler and its first options: what the language's environment variable says, or else the first one found.

    As make and CMake do, the variable is split into words: ``ccache g++``, or ``g++ -m64``.
    """
    named = os.environ.get(language.variable, "").strip()
    more = language.microsoft_compilers if platform.system() == "Windows" else ()
    wanted = [(named,), _words(named)] if named else [(name,) for name in (*language.compilers, *more)]
    for first, *options in wanted:
        found = shutil.which(first)
        if found is not None:
            return (found, *options)
    raise no_compiler(language)


def _words(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text)) or (text,)
    except ValueError:  # a quote that is not closed
        return (text,)


def no_compiler(language: Language, built_ahead: Mapping[str, str] | None = None) -> KernelError:
    """The error where there is no compiler.

    Args:
        language: the language that nothing compiles.
        built_ahead: why a library that was built ahead does not do, if there is one: a headline, and facts.
    """
    named = os.environ.get(language.variable, "").strip()
    wanted = [named] if named else language.compilers
    install = language.install.get(platform.system(), language.install.get(""))
    if built_ahead is not None:
        return KernelError(
            message(
                f"{built_ahead['headline']}, and no {language.name} compiler was found.",
                got=built_ahead["got"],
                expected=built_ahead["expected"],
                why=f"with {' or '.join(wanted)} on the PATH it would be compiled here",
                write="jaxprim build MODULE  # where there is a compiler",
            )
        )
    return KernelError(
        message(
            f"no {language.name} compiler was found.",
            got=f"none of {', '.join(wanted)} on the PATH",
            expected=f"{' or '.join(language.compilers)}, or its path in {language.variable}",
            write=install,
        )
    )


@lru_cache(maxsize=16)
def version(words: tuple[str, ...]) -> str:
    """The version that a compiler reports."""
    done = run([*words, "--version"])
    return done.stdout or done.stderr


def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a compiler, with messages in English so that users can search for them.

    Bytes that are no UTF-8, as in names of files, come as the surrogates with which Python names such files.
    """
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        return subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="surrogateescape", check=False, env=environment
        )
    except (OSError, ValueError) as error:  # ValueError: a byte 0 in an option
        raise KernelError(
            message(
                "the compiler can't be run.",
                got=f"{shorten(command[0])}: {error}",
                expected="a program that runs on this machine, and options that it can be given",
            )
        ) from None


def readable(text: str) -> str:
    """A compiler's text, without the surrogates that cannot be printed."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def failure(name: str, tool: str, output: str, work: Path, prototype: str) -> KernelError:
    """The error for a source that does not compile. `work` is the folder of the files that jaxprim wrote."""
    text = readable(output).replace(f"{work}{os.sep}", "jaxprim's ").rstrip()
    lines = text.splitlines()
    if "No space left on device" in text:
        return no_space(str(work.parent), "No space left on device")
    shown = "\n".join(f"    {line}" for line in lines[:40])
    more = f"\n    ... {len(lines) - 40} more lines" if len(lines) > 40 else ""
    own = ("jaxprim's handler", "jaxprim_kept.h")
    is_handler = any("error:" in line and any(file in line for file in own) for line in lines)
    return KernelError(
        message(
            f"{name}: it does not compile.",
            got=f"{Path(tool).name} says:\n{shown}{more}",
            expected=f"a function declared as {prototype}" if is_handler and prototype else None,
        )
    )


def no_space(folder: str, why: str) -> KernelError:
    """The error for a cache that cannot be written."""
    return KernelError(
        message(
            "compiled kernels can't be stored.",
            got=f"{shorten(folder)}: {why}",
            expected="a folder with space left, in which this user may write files and lock them",
            write="JAXPRIM_CACHE=/path/to/a/folder  # in the environment",
        )
    )
