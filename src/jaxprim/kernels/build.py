"""Compile a source into a library, once. The cache's key is everything that goes into the library.

Many processes may compile the same source at the same time: one does, and the others wait for it.
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
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax

from jaxprim._errors import KernelError, message
from jaxprim._origin import shorten
from jaxprim.kernels.languages import CPP, Language

NATIVE = Path(__file__).parent / "native"


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
    """

    name: str
    text: str
    language: Language = CPP
    files: tuple[Path, ...] = ()
    flags: tuple[str, ...] = ()
    include: tuple[Path, ...] = ()
    libraries: tuple[str, ...] = ()
    prototype: str = ""


# ---------------------------------------------------------------------------------------------------------- compilers
def compiler(language: Language) -> str:
    """The path of the language's compiler: the one that its environment variable names, or else the first one found."""
    named = os.environ.get(language.variable)
    wanted = [named] if named else language.compilers
    for candidate in wanted:
        found = shutil.which(candidate)
        if found is not None:
            return found
    raise _no_compiler(language, wanted)


def _no_compiler(language: Language, wanted: Sequence[str]) -> KernelError:
    return KernelError(
        message(
            f"no {language.name} compiler was found.",
            got=f"none of {', '.join(wanted)} on the PATH",
            expected=f"{' or '.join(language.compilers)}, or its path in {language.variable}",
            write=language.install.get(platform.system(), language.install.get("")),
        )
    )


@lru_cache(maxsize=16)
def version(path: str) -> str:
    """The version that a compiler reports."""
    done = _run([path, "--version"])
    return done.stdout or done.stderr


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


def key(source: Source) -> str:
    """The hash of everything that goes into a library and is known before compiling."""
    tool = compiler(source.language)
    parts = [
        jax.__version__,
        source.language.name,
        version(tool),
        platform.machine(),
        source.text,
        (NATIVE / "jaxprim_kernel.h").read_text(),
        json.dumps([_flags(source), [str(p) for p in source.include], source.libraries]),
        *(read(file) for file in source.files),
        *(
            [platform.processor() + _cpu()]
            if any(f.startswith(("-march=native", "-mcpu=native")) for f in source.flags)
            else []
        ),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def _cpu() -> str:
    """The processor's features. Code compiled for `native` may not run on a machine with others."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def read(file: Path) -> str:
    """The name and text of a source file."""
    try:
        return f"{file}\0{file.read_text()}"
    except OSError as error:
        raise KernelError(
            message(
                "a kernel's source file can't be read.",
                got=f"{shorten(str(file))}: {error.strerror}",
                expected="a file",
            )
        ) from None


def library(source: Source) -> tuple[ctypes.CDLL, str]:
    """The loaded library of a source, and its key. Compiles it if it is not in the cache."""
    found = key(source)
    stem = re.sub(r"\W+", "_", source.name)
    folder = cache_folder() / f"{stem}-{found}"
    if not _is_fresh(folder):
        _build_once(source, folder)
    # The loader remembers libraries by path. A new library, after a header changed, needs a new path.
    mark = _digest(folder / "headers.json")[:8]
    alias = folder / f"kernel-{mark}.so"
    if not alias.exists():
        with contextlib.suppress(FileExistsError):  # another process made it
            alias.hardlink_to(folder / "kernel.so")
    return _loaded(source, alias), f"{found}.{mark}"


def _loaded(source: Source, path: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise KernelError(
            message(
                f"{source.name}: its library can't be loaded.",
                got=str(error).rpartition(".so: ")[2],
                expected="a library whose symbols are all defined, by its sources or by the libraries it links with",
                why="a function is declared, but no source defines it and its library is not listed",
                write="libraries=['m']  # the library's name, as after -l, or its path",
            )
        ) from None


def _is_fresh(folder: Path) -> bool:
    """Whether a folder holds a library whose headers have not changed since it was compiled."""
    if not (folder / "kernel.so").exists():
        return False
    return all(
        _digest(Path(name)) == digest for name, digest in json.loads((folder / "headers.json").read_text()).items()
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def _build_once(source: Source, folder: Path) -> None:
    _make_folder(folder.parent)
    with _extra("filelock").FileLock(f"{folder}.lock"):  # another process may be compiling the same source
        if _is_fresh(folder):
            return
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as work:
            _compile(source, Path(work))
            _publish(Path(work), folder, _main(source))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise KernelError(
            message(
                "compiled kernels can't be stored.",
                got=f"{shorten(str(folder))}, which is not writable",
                expected="a writable folder",
                write="JAXPRIM_CACHE=/path/to/a/folder  # in the environment",
            )
        )


def _publish(work: Path, folder: Path, main: str) -> None:
    """Put the finished files in place. The library comes last, by a rename, so that nobody sees half of it."""
    folder.mkdir(exist_ok=True)
    for name in ("headers.json", main, "kernel.so"):
        (work / name).replace(folder / name)


# ------------------------------------------------------------------------------------------------------------ compile
def _main(source: Source) -> str:
    """The name of the main source's file."""
    return f"kernel{source.language.suffix}"


def _compile(source: Source, work: Path) -> None:
    main = work / _main(source)
    main.write_text(source.text)
    done = _run([*_command(source, main), "-o", str(work / "kernel.so")])
    if done.returncode != 0:
        raise _does_not_compile(source, main, done.stderr or done.stdout)
    depends = _run([*_command(source, main), "-MM"])
    headers = _headers(depends.stdout, main)
    (work / "headers.json").write_text(json.dumps({str(path): _digest(path) for path in headers}))


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a compiler, with messages in English so that users can search for them."""
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})


def _command(source: Source, main: Path) -> list[str]:
    include = [jax.ffi.include_dir(), str(NATIVE), *map(str, source.include)]
    return [
        compiler(source.language),
        *_flags(source),
        *(f"-I{folder}" for folder in include),
        str(main),
        *(part for file in source.files for part in _file(file)),
        *(library if "/" in library else f"-l{library}" for library in source.libraries),
    ]


def _flags(source: Source) -> list[str]:
    device = source.language.device
    needs_model = device is not None and not any(flag.startswith(device.model_flags) for flag in source.flags)
    return [*source.language.flags, *([device.all_flag] if device and needs_model else []), *source.flags]


def _file(file: Path) -> list[str]:
    return ["-x", "c", str(file), "-x", "none"] if file.suffix == ".c" else [str(file)]


def _headers(rules: str, main: Path) -> list[Path]:
    """The author's own headers, from a compiler's list of the files that the sources depend on."""
    names = [Path(name).resolve() for name in rules.replace("\\\n", " ").split() if not name.endswith(":")]
    given = (Path(jax.ffi.include_dir()).resolve(), NATIVE.resolve(), main.parent.resolve(), Path("/usr"))
    return [name for name in names if not any(name.is_relative_to(folder) for folder in given)]


def _does_not_compile(source: Source, main: Path, output: str) -> KernelError:
    lines = [line.replace(str(main), "jaxprim's handler") for line in output.rstrip().splitlines()]
    shown = "\n".join(f"    {line}" for line in lines[:40])
    more = f"\n    ... {len(lines) - 40} more lines" if len(lines) > 40 else ""
    is_handler = any("jaxprim's handler" in line and "error:" in line for line in lines)
    return KernelError(
        message(
            f"{source.name}: it does not compile.",
            got=f"{Path(compiler(source.language)).name} says:\n{shown}{more}",
            expected=f"a function declared as {source.prototype}" if is_handler and source.prototype else None,
        )
    )
