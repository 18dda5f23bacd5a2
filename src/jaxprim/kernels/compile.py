"""Compile a source into a library, in a folder. Where the folder is, and who may use it, is `build`'s and `ahead`'s."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path

import jax

from jaxprim._errors import KernelError, message
from jaxprim.kernels import toolchain
from jaxprim.kernels.compilers import compiler, failure, run
from jaxprim.kernels.languages import Language
from jaxprim.kernels.manifest import Manifest, add_headers, add_linked, digest
from jaxprim.kernels.source import LINE, NATIVE, Source
from jaxprim.kernels.toolchain import Machine, Unit

HANDLER = "handler.h"


def compile_library(source: Source, work: Path) -> tuple[Path, str, Manifest]:
    """Write a library into a folder.

    Returns:
        the library, the digest of its content, and everything that it was made from.
    """
    words, language = compiler(source.language), source.language
    machine = toolchain.target(words, language)
    _write_sources(source, work)
    main, *others = units(source, work, is_microsoft=toolchain.is_microsoft(words))
    manifest = _headers(words, [main, *others], language, work)
    objects = [str(work / f"{index}.o") for index in range(len(others))]
    for unit, made in zip(others, objects, strict=True):
        _run_or_raise(toolchain.object_command(words, unit, made), source, work)
    library, started_ns = work / f"library{toolchain.library_suffix(machine)}", time.time_ns()
    linked = _run_or_raise(_link(words, main, objects, source, machine, library), source, work)
    if manifest is None or not library.exists():
        raise _wrote_nothing(source, words[0])
    add_linked(manifest, linked, str(work), started_ns)
    content = digest(str(library))
    # The loader remembers libraries by path. A new library, after a header changed, needs a new path.
    library = library.rename(work / f"kernel-{content[:12]}{library.suffix}")
    for made in objects:
        Path(made).unlink()
    return library, content, manifest


def _write_sources(source: Source, work: Path) -> None:
    parts = [source.text.replace(LINE, source.place, 1)]
    if source.handler:
        (work / HANDLER).write_text(f'#line 1 "jaxprim\'s handler"\n#pragma GCC system_header\n{source.handler}')
        parts.append(f'#line 1 "jaxprim\'s handler"\n#include "{HANDLER}"')
    text = "\n".join([*parts, ""]).removeprefix("\ufeff")
    (work / "exports").write_text(toolchain.version_script(source.exports))
    try:
        (work / _main(source)).write_text(text, encoding="utf-8")
    except UnicodeEncodeError as error:
        raise KernelError(
            message(
                f"{source.name}: its source can't be written as UTF-8.",
                got=repr(text[max(0, error.start - 20) : error.end + 20]),
                expected="a text without lone surrogates",
            )
        ) from None


def _main(source: Source) -> str:
    """The name of the main source's file."""
    return f"kernel{source.language.suffix}"


def units(source: Source, work: Path, *, is_microsoft: bool = False) -> list[Unit]:
    """What the compiler is told: one unit for the main source and its like, and one for each file of C."""
    # Not -I: the warnings that authors ask for are about their own code.
    system = (jax.ffi.include_dir(), str(NATIVE))
    include = tuple(map(str, source.include))
    all_flags = (*flags(source, is_microsoft=is_microsoft), *(() if is_microsoft else source.language.last_flags))
    in_c = tuple(flag for flag in all_flags if not (flag == "-shared" or re.match(r"[-/]std:?=?\w+\+\+", flag)))
    others = [str(file) for file in source.files if file.suffix != ".c"]
    files = [str(file) for file in source.files if file.suffix == ".c"]
    return [
        Unit((str(work / _main(source)), *others), all_flags, include, system),
        *(Unit((file,), in_c, include, system, is_c=True) for file in files),
    ]


def flags(source: Source, *, is_microsoft: bool = False) -> list[str]:
    """The options for the compiler, the author's last."""
    language, device = source.language, source.language.device
    needs_model = device is not None and not any(flag.startswith(device.model_flags) for flag in source.flags)
    own = language.microsoft_flags if is_microsoft else language.flags
    return [*own, *([device.all_flag] if device and needs_model else []), *source.flags]


def _headers(words: Sequence[str], found: Sequence[Unit], language: Language, work: Path) -> Manifest | None:
    """What the sources include, as it is now; None if the compiler does not say."""
    manifest = Manifest()
    for unit in found:
        done = run(toolchain.headers_command(words, unit, language.verbose))
        rules = toolchain.included(words, done.stdout)
        if done.returncode != 0 or rules is None:
            return None
        add_headers(manifest, rules, done.stderr, str(work))
    return manifest


def _link(
    words: Sequence[str], main: Unit, objects: Sequence[str], source: Source, machine: Machine, made: Path
) -> list[str]:
    return toolchain.library_command(words, main, objects, source.libraries, source.exports, machine, str(made))


def _run_or_raise(command: list[str], source: Source, work: Path) -> str:
    done = run(command)
    if done.returncode != 0:
        raise failure(source.name, command[0], done.stderr or done.stdout, work, source.prototype)
    return done.stdout + done.stderr


def _wrote_nothing(source: Source, tool: str) -> KernelError:
    return KernelError(
        message(
            f"{source.name}: the compiler wrote no library.",
            got=f"{Path(tool).name} reported success",
            expected=f"one that takes the options of {source.language.compilers[0]}, and no option in flags= that "
            "stops it early",
        )
    )
