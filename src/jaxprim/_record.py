"""`jaxprim.record_rules`: let people look at which rule ran, where from, how often."""

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
    """What was recorded: how often each rule was used, by (primitive, rule, where it was written)."""

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
    """Record which rules are used inside the block, and print them at its end.

    A rule counts when it is used: run eagerly, staged, or lowered for compilation. A host function counts every time
    it runs. A function that was compiled before the block runs without being traced, so its rules are not seen again.

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
