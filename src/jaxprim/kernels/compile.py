"""Compile a source into a library, in a folder. Where the folder is, and who may use it, is `build`'s and `ahead`'s."""

from __future__ import annotations

import os
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
    found = units(source, words, work)
    manifest = _headers(words, found, language, work)
    objects = [str(work / f"{index}.o") for index in range(len(found))]
    for unit, made in zip(found, objects, strict=True):
        _run_or_raise(toolchain.object_command(words, unit, made), source, work, words)
        if not Path(made).exists():
            raise _wrote_nothing(source, words[0])
    library, started_ns = work / f"library{toolchain.library_suffix(machine)}", time.time_ns()
    linked = _run_or_raise(_link(words, found[0].flags, objects, source, machine, library), source, work, words)
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


def units(source: Source, words: Sequence[str], work: Path) -> list[Unit]:
    """What the compiler is told: one unit for the main source, and one for each other file."""
    # Not -I: the warnings that authors ask for are about their own code.
    system = (jax.ffi.include_dir(), str(NATIVE))
    include = tuple(map(str, source.include))
    last = () if toolchain.is_microsoft(words) else source.language.last_flags
    all_flags = (*flags(source, words), *last)
    in_c = tuple(flag for flag in all_flags if not (flag == "-shared" or re.match(r"[-/]std:?=?\w+\+\+", flag)))
    is_c = [(str(file), file.suffix == ".c") for file in source.files]
    return [
        Unit(str(work / _main(source)), all_flags, include, system),
        *(Unit(file, in_c if of_c else all_flags, include, system, of_c) for file, of_c in is_c),
    ]


def flags(source: Source, words: Sequence[str]) -> list[str]:
    """The options for the compiler, the author's last."""
    language, device = source.language, source.language.device
    needs_model = device is not None and not any(flag.startswith(device.model_flags) for flag in source.flags)
    own = language.microsoft_flags if toolchain.is_microsoft(words) else language.flags
    return [*own, *([device.all_flag] if device and needs_model else []), *faster(source, words), *source.flags]


def faster(source: Source, words: Sequence[str]) -> list[str]:
    """The options for `fast_math` and `native`.

    Raises:
        KernelError: the compiler has none.
    """
    found = list(toolchain.fast_math(words)) if source.fast_math else []
    if source.processor:
        machine = toolchain.target(tuple(words), source.language)
        options = toolchain.for_processor(words, machine, source.processor)
        if not options:
            raise _no_option(source, words, "flags=['/arch:AVX2']  # instead of native=True")
        found += options
    return found


def _no_option(source: Source, words: Sequence[str], write: str, options: Sequence[str] = ()) -> KernelError:
    asked = ["fast_math=True"] * source.fast_math * bool(options) + ["native=True"] * bool(source.processor)
    tool = Path(words[0].replace("\\", "/")).name
    return KernelError(
        message(
            f"{source.name}: this compiler has no option for {' and '.join(asked)}.",
            got=f"{tool}, which does not take {' '.join(options)}" if options else tool,
            expected=f"{' or '.join(source.language.compilers)}, of 2021 or later",
            write=write,
        )
    )


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
    words: Sequence[str], flags: Sequence[str], objects: Sequence[str], source: Source, machine: Machine, made: Path
) -> list[str]:
    return toolchain.library_command(words, flags, objects, source.libraries, source.exports, machine, str(made))


def _run_or_raise(command: list[str], source: Source, work: Path, words: Sequence[str]) -> str:
    done = run(command)
    if done.returncode != 0:
        options = faster(source, words)
        if options and run([*words, *options, "-E", "-x", source.language.name.lower(), os.devnull]).returncode != 0:
            raise _no_option(source, words, "fast_math=False, native=False", options)
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
