"""The folder of compiled kernels in the user's cache: where it is, what is in it, and taking things out.

It imports nothing from jaxprim, so `jaxprim doctor` can use it where the import of jaxprim fails.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "JAXPRIM_CACHE"
# The folder of a kernel; and what a process that was killed while it wrote one has left. Nothing else is ever removed:
# the variable may name a folder that holds other things too.
_KEPT = re.compile(r"(?P<name>\w+)-(?P<key>[0-9a-f]{24})")
_LEFT_OVER = re.compile(r"\.\w+-[0-9a-f]{24}-\w{8}(\.old)?")


@dataclass(frozen=True)
class Entry:
    """A compiled kernel in the cache.

    Attributes:
        path: its folder.
        name: the kernel's name, as far as a file name can hold it.
        bytes: the size of its files.
        used_s: when it was last used, in seconds since 1970.
    """

    path: Path
    name: str
    bytes: int
    used_s: float


def folder() -> Path:
    """The folder for compiled kernels: `VARIABLE`, or else a folder in the user's cache."""
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE])
    import platformdirs

    return Path(platformdirs.user_cache_dir("jaxprim")) / "kernels"


def entries(root: Path) -> list[Entry]:
    """The kernels in a cache, what was used longest ago first."""
    found = [entry for path, match in _matching(root, _KEPT) if (entry := _entry(path, match["name"])) is not None]
    return sorted(found, key=lambda entry: (entry.used_s, entry.path))


def left_over(root: Path) -> list[Entry]:
    """What processes are writing now, or have left there when they were killed."""
    found = [_entry(path, path.name) for path, _ in _matching(root, _LEFT_OVER)]
    return [entry for entry in found if entry is not None]


def _matching(root: Path, pattern: re.Pattern[str]) -> Iterator[tuple[Path, re.Match[str]]]:
    try:
        paths = list(root.iterdir())
    except OSError:
        return
    for path in paths:
        match = pattern.fullmatch(path.name)
        if match is not None and path.is_dir() and not path.is_symlink():
            yield path, match


def _entry(path: Path, name: str) -> Entry | None:
    try:
        return Entry(path, name, sum(file.stat().st_size for file in path.iterdir()), path.stat().st_mtime)
    except OSError:  # another process has just removed it
        return None


def remove(entry: Entry) -> None:
    """Take a kernel out. A process that has loaded it keeps it, where a file in use can be removed."""
    shutil.rmtree(entry.path, ignore_errors=True)


def size_in_words(count: int) -> str:
    """A number of bytes as people read it."""
    value = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"
