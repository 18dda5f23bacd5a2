"""What a library is made of, and the name of all that: the key of a library that was built ahead."""

from __future__ import annotations

import hashlib
import json
import re
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
LINE = '#line 1 "<kernel>"'  # stands in a source where the compiler gets the author's file and line
# What Python and a compiled handler agree on: the symbols that are looked up, the attributes of a call and their order,
# and the arguments of `BIND`. A library that was built ahead by another release of jaxprim is used if this is the same, so
# it counts up when handler.py or native/jaxprim_kernel.h change any of that.
CONTRACT = 1
# The version of XLA's API that a generated handler reports, as native/jaxprim_kernel.h says.
HANDLER_API = (0, 2)


@dataclass(frozen=True)
class Source:
    """What a library is made of.

    Attributes:
        name: the kernel's name, for folders and messages.
        text: the main source.
        language: the language of the main source.
        signature: the kernel's signature, without type variables.
        dtypes: what its type variables stand for.
        main: the file that the main source includes, if the author's function is in a file.
        files: more sources to compile into the library.
        flags: more options for the compiler.
        fast_math: whether the compiler may change the order of arithmetic, and forget NaN and infinity.
        processor: what it may use beyond what every processor of its kind has: "native" for all that this machine's
            has, or one of the levels of `toolchain.levels`.
        include: more folders with headers.
        libraries: what to link with: a name such as ``m``, or a path.
        prototype: the declaration that the author's function must have, for messages.
        handler: the generated part, which comes after the main source.
        contract: what the handler is written from. Another release of jaxprim may write another text from it.
        exports: the symbols that are looked up in the library, as patterns. All others are its own: the loader never
            takes another library's for them, nor them for another library's.
        place: the author's file and line, as `#line` wants them, which stand for `LINE` in the main source. The key
            does not hold them: a source that moves is not compiled again.
        beside: the folders in which a library of it that was built ahead may be.
    """

    name: str
    text: str
    language: Language = CPP
    signature: str = ""
    dtypes: tuple[tuple[str, str], ...] = ()
    main: Path | None = None
    files: tuple[Path, ...] = ()
    flags: tuple[str, ...] = ()
    fast_math: bool = False
    processor: str = ""
    include: tuple[Path, ...] = ()
    libraries: tuple[str, ...] = ()
    prototype: str = ""
    handler: str = ""
    contract: tuple[str, ...] = ()
    exports: tuple[str, ...] = ("*",)
    place: str = LINE
    beside: tuple[Path, ...] = ()

    @property
    def api(self) -> tuple[int, int]:
        """The version of XLA's API that the library reports: a handler of the author's own has that of the headers."""
        return HANDLER_API if self.handler else api_of_headers()


def fingerprint(source: Source) -> str:
    """The name of everything that an author wrote for a library. It is the same on every machine, with every compiler.

    It holds no path: an installed package lies elsewhere than the project that it was built from.
    """
    text = source.text if source.main is None else source.text.replace(str(source.main), "main")
    parts: list[Any] = [
        CONTRACT,
        source.language.name,
        text,
        source.contract,
        source.exports,
        source.flags,
        source.fast_math,
        source.processor,
        [Path(name).name if "/" in name else name for name in source.libraries],
        [read(file) for file in ([source.main] if source.main else []) + list(source.files)],
    ]
    return hashlib.sha256(json.dumps(parts).encode(errors="surrogatepass")).hexdigest()[:24]


def stem(name: str) -> str:
    """A kernel's name as part of the name of a file."""
    return _plain(name)[:40]


def target_name(name: str, key: str) -> str:
    """The name of a kernel's handler for XLA, which takes no space, quote or letter of another alphabet."""
    return f"jaxprim.{_plain(name)[:60]}.{key}"


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", "_", name)


def read(file: Path) -> str:
    """The digest of a source file."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except (OSError, ValueError) as error:
        raise KernelError(
            message(
                "a kernel's source file can't be read.",
                got=f"{shorten(str(file))}: {getattr(error, 'strerror', None) or error}",
                expected="a file, from the working directory on where its path is relative",
                write=f"Path(__file__).parent / '{Path(file).name}'  # beside the Python file, from wherever that runs",
            )
        ) from None


@lru_cache(maxsize=1)
def api_of_headers() -> tuple[int, int]:
    """The version of XLA's API for handlers, of the headers that JAX brings. XLA refuses a handler of a later one."""
    header = Path(jax.ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h"
    text = header.read_text(encoding="utf-8", errors="replace")
    found = [re.search(rf"^#define XLA_FFI_API_{part} (\d+)", text, re.MULTILINE) for part in ("MAJOR", "MINOR")]
    major, minor = (int(row[1]) if row else 0 for row in found)
    return major, minor


def show_api(version: Sequence[int]) -> str:
    """A version as it is written: ``0.2``."""
    return ".".join(map(str, version))
