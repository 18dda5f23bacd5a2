"""One run of ``jaxprim fuzz``: random nests of transformations around the primitives in a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

from jaxprim._errors import BadCall
from jaxprim._primitive import Primitive
from jaxprim.checking import targets
from jaxprim.checking.subject import Subject
from jaxprim.cli import common, terminal
from jaxprim.cli.common import BAD, OK, UNCHECKED
from jaxprim.fuzzing import FuzzReport, run


def fuzz(
    console: Console, target: str, examples: int, seed: int, depth: int, reference: str | None, nest: str | None
) -> int:
    """Fuzz the primitives of a target, one after the other; returns the exit code."""
    primitives = common.find_primitives(target)
    with common.usage_errors():
        plain = None if reference is None else targets.function(reference, targets.split(target)[0])
    wanted = _Wanted(target, plain, examples, seed, depth, nest)
    codes = [_fuzz(console, primitive, wanted) for primitive in primitives]
    return max(codes, key=(OK, UNCHECKED, BAD).index)


@dataclass(frozen=True)
class _Wanted:
    """The options of the command line."""

    target: str
    reference: Callable[..., Any] | None
    examples: int
    seed: int
    depth: int
    nest: str | None


def _fuzz(console: Console, primitive: Primitive, wanted: _Wanted) -> int:
    """Fuzz one primitive; returns its exit code."""
    subject = Subject.of(primitive, wanted.reference)
    found = FuzzReport(subject.name, wanted.seed, terminal.full_target(wanted.target, subject.name))
    try:
        given = subject.examples()
        with terminal.progress_bar(console, subject.name, 1 if wanted.nest else wanted.examples) as tell:
            run.run(found, subject, given, wanted.examples, wanted.depth, wanted.nest, tell)
    except BadCall as error:
        console.print(Text(str(error), "yellow"), soft_wrap=True)
        return UNCHECKED
    for line in terminal.fuzz_lines(found):
        console.print(line, soft_wrap=True)
    return OK if found.ok else BAD if found.failure is not None else UNCHECKED
