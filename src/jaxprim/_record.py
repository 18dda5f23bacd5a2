"""`jaxprim.record_rules`: show which rules ran, where each was written, and how often it ran."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

from jaxprim._origin import public
from jaxprim._rules import RECORDS

Key = tuple[str, str, str]


@dataclass
class Record:
    """How often each rule was used, by (primitive, rule, where it was written)."""

    counts: Counter[Key] = field(default_factory=Counter)

    def __str__(self) -> str:
        if not self.counts:
            return "no rule of a jaxprim primitive was used"
        rows = [("primitive", "rule", "where", "times"), *((*key, str(n)) for key, n in self.counts.items())]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


@public
@contextmanager
def record_rules(*, quiet: bool = False, file: TextIO | None = None) -> Generator[Record]:
    """Record which rules are used inside the block, and print them at the end of the block.

    A rule counts when it runs eagerly, is staged, or is lowered for compilation. A host function counts every time
    it runs. A function that was compiled before the block is not traced again, so its rules do not count.

    Args:
        quiet: print nothing.
        file: where to print; standard output by default.

    Example:
        >>> import jax, jaxprim
        >>> @jaxprim.primitive
        ... def twice(x):
        ...     return 2 * x
        >>> with jaxprim.record_rules(quiet=True) as record:
        ...     _ = jax.jit(twice)(1.0)
        >>> [(rule, n) for (_, rule, _), n in record.counts.items()]
        [('impl', 1)]
    """
    record = Record()

    def listen(primitive: str, rule: str, origin: str) -> None:
        record.counts[primitive, rule, origin] += 1

    RECORDS.active.append(listen)
    try:
        yield record
    finally:
        RECORDS.active.remove(listen)
        if not quiet:
            print(record, file=file or sys.stdout)
