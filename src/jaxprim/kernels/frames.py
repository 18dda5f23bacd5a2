"""Where in the author's own file a kernel is made."""

from __future__ import annotations

import linecache
import sys

from jaxprim._errors import shorten


def caller() -> tuple[str, int]:
    """File and line of the nearest frame outside of jaxprim's kernels."""
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).startswith("jaxprim."):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


def origin() -> str:
    file, line = caller()
    return f"{shorten(file)}:{line}"


def place_of(source: str) -> tuple[str, int] | None:
    """File and line at which a source stands word by word in the caller's file."""
    file, _ = caller()
    whole = "".join(linecache.getlines(file))
    at = whole.find(source) if source.strip() else -1
    return None if at < 0 else (file, whole.count("\n", 0, at) + 1)
