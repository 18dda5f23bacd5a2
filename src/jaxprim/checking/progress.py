"""What a check in Python shows while it runs: one line, after two seconds, and only where somebody watches."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TextIO

from jaxprim.checking.reports.findings import Finding

# A shorter check shows nothing.
QUIET = 2.0


def watched(findings: Iterable[Finding], total: int, given: TextIO | None = None) -> Iterator[Finding]:
    """The findings, unchanged. On a terminal and in a notebook a line counts them, and goes away at the end."""
    file: TextIO = given or sys.stderr or io.StringIO()  # a process may have no standard error
    shown, began = 0, time.monotonic()
    try:
        for number, finding in enumerate(findings, start=1):
            seconds = time.monotonic() - began
            if seconds > QUIET and number < total and is_watched(file):
                line = f"checking {finding.subject}: {number} of {total}, {seconds:.0f} s, {finding.question}"
                file.write(f"\r{line.ljust(shown)}")
                file.flush()
                shown = len(line)
            yield finding
    finally:
        if shown:
            file.write(f"\r{' ' * shown}\r")
            file.flush()


def is_watched(file: TextIO) -> bool:
    """Whether a person sees a line that is written again and again: on a terminal, or in a notebook."""
    return file.isatty() or type(file).__module__.startswith("ipykernel")
