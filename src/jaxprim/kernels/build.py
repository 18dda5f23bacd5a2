"""The library of a source: one that was built ahead, else one from the cache, which is compiled if it is not there.

The cache's key is everything that goes into a library. Many processes may compile the same source at the same time: one
does, and the others wait for it. What a key cannot hold, because only the compiler knows it, is in a manifest beside the
library: see `manifest`. A library comes into the cache with its manifest, in one step, so a process that is killed leaves
either all of it or nothing.
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
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

from jaxprim import _cache
from jaxprim._errors import KernelError, message
from jaxprim.kernels import ahead
from jaxprim.kernels.compile import compile_library, flags
from jaxprim.kernels.compilers import compiler, no_compiler, no_space, version
from jaxprim.kernels.manifest import Manifest, digest
from jaxprim.kernels.source import NATIVE, Source, api_of_headers, read, stem

# The most that the cache holds. What was used longest ago goes first, but nothing that was used a short time ago.
MAX_BYTES = 2**30
_IN_USE_S, _LEFT_OVER_S = 3600, 24 * 3600


# -------------------------------------------------------------------------------------------------------------- library
def library(source: Source) -> tuple[ctypes.CDLL, str]:
    """The loaded library of a source, and the key of what it computes."""
    found = ahead.find(source)
    if isinstance(found, ahead.Built):
        try:
            return _opened(found.path), found.key
        except OSError as error:
            said = str(error).removeprefix(f"{found.path}: ")
            found = ahead.Unfit(found.path, "it can't be loaded", said, "a library that this machine can load")
    try:
        compiler(source.language)
    except KernelError:
        raise no_compiler(source.language, found and found.facts(source.name)) from None
    return _from_cache(source)


def _opened(path: Path) -> ctypes.CDLL:
    """Load a library in a thread of its own.

    A library of another, which it links with, may have been linked with -ffast-math. That changes the arithmetic of the
    thread that loads it: small numbers become 0.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(ctypes.CDLL, str(path)).result()


def _from_cache(source: Source) -> tuple[ctypes.CDLL, str]:
    found = key(source)
    folder = _cache.folder() / f"{stem(source.name)}-{found}"
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


# ------------------------------------------------------------------------------------------------------------------ key
def key(source: Source) -> str:
    """The hash of everything that goes into a library and is known before compiling."""
    words = compiler(source.language)
    options = [*words[1:], *flags(source, words)]
    parts: list[Any] = [
        api_of_headers(),  # not JAX's own version: a library serves every JAX that has this version of XLA's API
        source.language.name,
        version(words),
        platform.machine(),
        source.text,
        source.handler,
        source.exports,
        (NATIVE / "jaxprim_kernel.h").read_text(encoding="utf-8"),
        options,
        [str(folder) for folder in source.include],
        source.libraries,
        [(name, os.environ.get(name)) for name in source.language.environment],
        [(str(file), read(file)) for file in source.files],
        _machine() if any("=native" in flag for flag in options) else "",
        str(Path.cwd()) if _depends_on_folder(options, source) else "",
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def _machine() -> list[str]:
    """What `native` means here. Code compiled for it may not run on a machine with other processors."""
    return [platform.node(), platform.processor(), *sorted(ahead.features())]


_TAKES_PATH = re.compile(r"-(?:I|L|B|F|isystem|iquote|idirafter|include|imacros|isysroot|iprefix)(?=.)|@")


def _depends_on_folder(options: list[str], source: Source) -> bool:
    """Whether something that the compiler is told means another file in another current folder."""
    paths = [os.environ.get(name, "") for name in source.language.environment if name.endswith("PATH")]
    listed = [part for path in paths if path for part in path.split(os.pathsep)]
    pieces = [piece for flag in options for piece in re.split(r"[=,]", flag)]
    given = [_TAKES_PATH.sub("", piece, count=1) for piece in pieces]
    return any(not Path(part).is_absolute() for part in listed) or any(
        path and not Path(path).is_absolute() and os.access(path, os.F_OK) for path in given
    )


# -------------------------------------------------------------------------------------------------------------- cache
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


def _compile(source: Source, work: Path) -> None:
    """Write a library and its manifest into a folder."""
    made, content, manifest = compile_library(source, work)
    kept = {"library": made.name, "digest": content, **manifest.to_json()}
    (work / "manifest.json").write_text(json.dumps(kept), encoding="utf-8")


def _lock(file: Path) -> contextlib.AbstractContextManager[Any]:
    """Lets one process compile a source while others wait for it."""
    try:
        import filelock  # a library that is there does not need it
    except ImportError:  # a checkout on a machine with JAX alone: each process compiles for itself
        return contextlib.nullcontext()
    return filelock.FileLock(file)


def _build_once(source: Source, folder: Path) -> None:
    locked = _lock(folder.parent / f".{folder.name[-2:]}.lock")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked:
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
    for entry in _cache.left_over(root):
        if now - entry.used_s > _LEFT_OVER_S:
            _cache.remove(entry)
    kept = _cache.entries(root)
    excess = sum(entry.bytes for entry in kept) - MAX_BYTES
    for entry in kept:
        if excess <= 0 or now - entry.used_s < _IN_USE_S:
            return
        _cache.remove(entry)
        excess -= entry.bytes
