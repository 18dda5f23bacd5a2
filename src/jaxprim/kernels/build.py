"""Compile a source into a library, once. The cache's key is everything that goes into the library.

Many processes may compile the same source at the same time: one does, and the others wait for it. What a key cannot hold,
because only the compiler knows it, is in a manifest beside the library: see `manifest`. A library comes into the cache
with its manifest, in one step, so a process that is killed leaves either all of it or nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax

from jaxprim._errors import KernelError, message
from jaxprim._origin import shorten
from jaxprim.kernels.compilers import compiler, failure, no_space, run, version
from jaxprim.kernels.languages import CPP, Language
from jaxprim.kernels.manifest import Manifest, add_headers, add_linked, digest

NATIVE = Path(__file__).parent / "native"
LINE = '#line 1 "<kernel>"'  # stands in a source where the compiler gets the author's file and line
HANDLER = "handler.h"
# The most that the cache holds. What was used longest ago goes first, but nothing that was used a short time ago.
MAX_BYTES = 2**30
_IN_USE_S, _LEFT_OVER_S = 3600, 24 * 3600


@dataclass(frozen=True)
class Source:
    """What a library is made of.

    Attributes:
        name: the kernel's name, for folders and messages.
        text: the main source.
        language: the language of the main source.
        files: more sources to compile into the library.
        flags: more options for the compiler.
        include: more folders with headers.
        libraries: what to link with: a name such as ``m``, or a path.
        prototype: the declaration that the author's function must have, for messages.
        handler: the generated part, which comes after the main source.
        exports: the symbols that are looked up in the library, as patterns. All others are its own: the loader never
            takes another library's for them, nor them for another library's.
        place: the author's file and line, as `#line` wants them, which stand for `LINE` in the main source. The key
            does not hold them: a source that moves is not compiled again.
    """

    name: str
    text: str
    language: Language = CPP
    files: tuple[Path, ...] = ()
    flags: tuple[str, ...] = ()
    include: tuple[Path, ...] = ()
    libraries: tuple[str, ...] = ()
    prototype: str = ""
    handler: str = ""
    exports: tuple[str, ...] = ("*",)
    place: str = LINE


# -------------------------------------------------------------------------------------------------------------- cache
def cache_folder() -> Path:
    """The folder for compiled kernels: JAXPRIM_CACHE, or else a folder in the user's cache."""
    if os.environ.get("JAXPRIM_CACHE"):
        return Path(os.environ["JAXPRIM_CACHE"])
    return Path(_extra("platformdirs").user_cache_dir("jaxprim")) / "kernels"


def _extra(module: str) -> Any:
    try:
        return __import__(module)
    except ImportError:
        raise KernelError(
            message(
                f"compiling a kernel needs {module}, which is not installed.",
                why="jaxprim itself needs only JAX and NumPy; the packages that kernels need are an extra",
                write="pip install 'jaxprim[kernels]'",
            )
        ) from None


# ------------------------------------------------------------------------------------------------------------------ key
def key(source: Source) -> str:
    """The hash of everything that goes into a library and is known before compiling."""
    words = compiler(source.language)
    flags = [*words[1:], *_flags(source)]
    parts: list[Any] = [
        jax.__version__,
        source.language.name,
        version(words),
        platform.machine(),
        source.text,
        source.handler,
        source.exports,
        (NATIVE / "jaxprim_kernel.h").read_text(encoding="utf-8"),
        flags,
        [str(folder) for folder in source.include],
        source.libraries,
        [(name, os.environ.get(name)) for name in source.language.environment],
        [(str(file), read(file)) for file in source.files],
        _machine() if any("=native" in flag for flag in flags) else "",
        str(Path.cwd()) if _depends_on_folder(flags, source) else "",
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def _machine() -> list[str]:
    """What `native` means here. Code compiled for it may not run on a machine with other processors."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return [platform.node(), platform.processor(), features]


_TAKES_PATH = re.compile(r"-(?:I|L|B|F|isystem|iquote|idirafter|include|imacros|isysroot|iprefix)(?=.)|@")


def _depends_on_folder(flags: list[str], source: Source) -> bool:
    """Whether something that the compiler is told means another file in another current folder."""
    paths = [os.environ.get(name, "") for name in source.language.environment if name.endswith("PATH")]
    listed = [part for path in paths if path for part in path.split(os.pathsep)]
    pieces = [piece for flag in flags for piece in re.split(r"[=,]", flag)]
    given = [_TAKES_PATH.sub("", piece, count=1) for piece in pieces]
    return any(not Path(part).is_absolute() for part in listed) or any(
        path and not Path(path).is_absolute() and os.access(path, os.F_OK) for path in given
    )


def read(file: Path) -> str:
    """The digest of a source file."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except (OSError, ValueError) as error:
        raise KernelError(
            message(
                "a kernel's source file can't be read.",
                got=f"{shorten(str(file))}: {getattr(error, 'strerror', None) or error}",
                expected="a file",
            )
        ) from None


# -------------------------------------------------------------------------------------------------------------- library
def library(source: Source) -> tuple[ctypes.CDLL, str]:
    """The loaded library of a source, and its key. Compiles it if it is not in the cache."""
    found = key(source)
    stem = re.sub(r"[^A-Za-z0-9_]+", "_", source.name)[:40]
    folder = cache_folder() / f"{stem}-{found}"
    for attempt in range(3):
        kept = _kept(folder)
        if kept is None:
            _build_once(source, folder)
            continue
        path, mark = kept
        try:
            made = _opened(path)
        except OSError as error:
            if path.exists() or attempt == 2:  # else another process has just replaced it
                raise _not_loaded(source, path, str(error)) from None
            continue
        with contextlib.suppress(OSError):  # a cache that only others may write
            os.utime(folder)
        return made, f"{found}.{mark}"
    raise no_space(str(folder.parent), "what was just written is not there, or its sources change all the time")


def _opened(path: Path) -> ctypes.CDLL:
    """Load a library in a thread of its own.

    Code compiled with -ffast-math changes the arithmetic of the thread that loads it: small numbers become 0.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(ctypes.CDLL, str(path)).result()


def _not_loaded(source: Source, path: Path, said: str) -> KernelError:
    said = said.removeprefix(f"{path}: ")
    if "failed to map segment" in said or "Operation not permitted" in said or "Permission denied" in said:
        return no_space(str(path.parent.parent), f"libraries in it can't be run: {said}")
    return KernelError(
        message(
            f"{source.name}: its library can't be loaded.",
            got=said,
            expected="a library whose symbols are all defined, by its sources or by the libraries it links with",
            why="a function is declared, but no source defines it and its library is not listed"
            if "undefined symbol" in said
            else None,
            write="libraries=['m']  # the library's name, as after -l, or its path",
        )
    )


def _kept(folder: Path) -> tuple[Path, str] | None:
    """The library in a folder of the cache and the name of its content; None if it is stale, damaged, or not there."""
    try:
        found = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        manifest = Manifest.from_json(found)
        path = folder / str(found["library"])
        is_whole = digest(str(path)) == found["digest"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return (path, manifest.mark()) if is_whole and manifest.holds() else None


# ------------------------------------------------------------------------------------------------- writing to the cache
def _build_once(source: Source, folder: Path) -> None:
    locked = _extra("filelock").FileLock(folder.parent / f".{folder.name[-2:]}.lock")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked:  # another process may be compiling the same source
            if _kept(folder) is not None:
                return
            work = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
            try:
                _compile(source, work)
                _publish(work, folder)
            finally:
                shutil.rmtree(work, ignore_errors=True)
        _prune(folder.parent)
    except (OSError, NotImplementedError) as error:  # NotImplementedError: a file system without locks
        raise no_space(str(folder.parent), getattr(error, "strerror", None) or str(error)) from None


def _publish(work: Path, folder: Path) -> None:
    """Put a finished folder in place, in one step. A stale one is moved away first."""
    work.chmod(0o755 & ~_umask())
    with contextlib.suppress(FileNotFoundError):
        old = work.with_suffix(".old")
        folder.rename(old)
        shutil.rmtree(old, ignore_errors=True)
    work.rename(folder)


@lru_cache(maxsize=1)
def _umask() -> int:
    """What this user does not give to others. A temporary folder gives nothing to anybody."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "folder"
        made.mkdir()
        return 0o777 & ~made.stat().st_mode


def _prune(root: Path) -> None:
    """Keep the cache small, and take away what killed processes left."""
    now = time.time()
    kept: list[tuple[float, int, Path]] = []
    for folder in _folders(root):
        try:
            used = folder.stat().st_mtime
            size = sum(file.stat().st_size for file in folder.iterdir())
        except OSError:
            continue
        if not folder.name.startswith("."):
            kept.append((used, size, folder))
        elif now - used > _LEFT_OVER_S:
            shutil.rmtree(folder, ignore_errors=True)
    excess = sum(size for _, size, _ in kept) - MAX_BYTES
    for used, size, folder in sorted(kept):
        if excess <= 0 or now - used < _IN_USE_S:
            return
        shutil.rmtree(folder, ignore_errors=True)
        excess -= size


def _folders(root: Path) -> Iterator[Path]:
    yield from (folder for folder in root.iterdir() if folder.is_dir())


# ------------------------------------------------------------------------------------------------------------ compile
def _main(source: Source) -> str:
    """The name of the main source's file."""
    return f"kernel{source.language.suffix}"


def _compile(source: Source, work: Path) -> None:
    """Write a library and its manifest into a folder."""
    _write_sources(source, work)
    main, *others = _units(source, work)
    manifest = _headers([main, *others], source.language, work)
    objects = [str(work / f"{index}.o") for index in range(len(others))]
    for unit, target in zip(others, objects, strict=True):
        _run_or_raise([*unit, "-c", "-o", target], source, work)
    made, started_ns = work / "library.so", time.time_ns()
    linked = _run_or_raise([*main, *objects, *_link(source, work), "-o", str(made)], source, work)
    if manifest is None or not made.exists():
        raise _wrote_nothing(source, main[0])
    add_linked(manifest, linked, str(work), started_ns)
    content = digest(str(made))
    # The loader remembers libraries by path. A new library, after a header changed, needs a new path.
    made.rename(made := work / f"kernel-{content[:12]}.so")
    for target in objects:
        Path(target).unlink()
    kept = {"library": made.name, "digest": content, **manifest.to_json()}
    (work / "manifest.json").write_text(json.dumps(kept), encoding="utf-8")


def _write_sources(source: Source, work: Path) -> None:
    parts = [source.text.replace(LINE, source.place, 1)]
    if source.handler:
        (work / HANDLER).write_text(f'#line 1 "jaxprim\'s handler"\n#pragma GCC system_header\n{source.handler}')
        parts.append(f'#line 1 "jaxprim\'s handler"\n#include "{HANDLER}"')
    text = "\n".join([*parts, ""]).removeprefix("\ufeff")
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


def _units(source: Source, work: Path) -> list[list[str]]:
    """The beginnings of the commands: one for the main source and its like, and one for each file of C."""
    words = compiler(source.language)
    # Not -I: the warnings that authors ask for are about their own code.
    system = [part for folder in (jax.ffi.include_dir(), NATIVE) for part in ("-isystem", str(folder))]
    include = [*(f"-I{folder}" for folder in source.include), *system]
    flags = [*_flags(source), *source.language.last_flags]
    in_c = [flag for flag in flags if not (flag == "-shared" or re.match(r"-std=\w+\+\+", flag))]
    others = [str(file) for file in source.files if file.suffix != ".c"]
    files = [str(file) for file in source.files if file.suffix == ".c"]
    return [
        [*words, *flags, *include, str(work / _main(source)), *others],
        *([*words, *in_c, *include, "-x", "c", file] for file in files),
    ]


def _headers(units: Sequence[list[str]], language: Language, work: Path) -> Manifest | None:
    """What the sources include, as it is now; None if the compiler does not say."""
    manifest = Manifest()
    for unit in units:
        done = run([*unit, "-M", language.verbose])
        if done.returncode != 0 or not done.stdout.strip():
            return None
        add_headers(manifest, done.stdout, done.stderr, str(work))
    return manifest


def _run_or_raise(command: list[str], source: Source, work: Path) -> str:
    done = run(command)
    if done.returncode != 0:
        raise failure(source.name, command[0], done.stderr or done.stdout, work, source.prototype)
    return done.stdout + done.stderr


def _link(source: Source, work: Path) -> list[str]:
    """The options for the linker: what to link with, what to show to others, and to say what it reads."""
    libraries = [name if "/" in name or name.startswith("-") else f"-l{name}" for name in source.libraries]
    if platform.system() == "Darwin":
        shown = [option for name in source.exports for option in ("-exported_symbol", f"_{name}")]
        options = [*shown, "-t"]
    else:
        script = work / "exports"
        script.write_text(f"{{ global: {' '.join(f'{name};' for name in source.exports)} local: *; }};\n")
        options = [f"--version-script={script}", "--verbose"]
    return [*libraries, *(part for option in options for part in ("-Xlinker", option))]


def _flags(source: Source) -> list[str]:
    device = source.language.device
    needs_model = device is not None and not any(flag.startswith(device.model_flags) for flag in source.flags)
    return [*source.language.flags, *([device.all_flag] if device and needs_model else []), *source.flags]


def _wrote_nothing(source: Source, tool: str) -> KernelError:
    return KernelError(
        message(
            f"{source.name}: the compiler wrote no library.",
            got=f"{Path(tool).name} reported success",
            expected=f"one that takes the options of {source.language.compilers[0]}, and no option in flags= that "
            "stops it early",
        )
    )
