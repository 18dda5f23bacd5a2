"""The corpus: right operations, and wrong ones that were made from them.

    python -m benchmarks.checker.corpus             how many there are of each kind
    python -m benchmarks.checker.corpus list        every entry, and why it is right or wrong

It was written from the issue that asks for a checker, without a look at the checker's questions. That each wrong entry is
wrong, and each right one right, is held by tests/benchmarks/test_corpus.py, which does not use the checker either.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from typing import Any

from benchmarks.checker import arrays, complexes, contexts, elementwise, power, rules, state, varied
from benchmarks.checker.makers import Fault
from benchmarks.checker.operation import Op


@dataclass(frozen=True)
class Entry:
    """One operation to check.

    Attributes:
        name: Stable: results of different runs are joined by it.
        part: "right", "fault", or "power" (a fault with a size).
        op: The operation.
        fault: What is wrong with it; None for a right one.
    """

    name: str
    part: str
    op: Op
    fault: Fault | None = None

    @property
    def kind(self) -> str:
        return self.fault.kind if self.fault else "right"

    @property
    def why(self) -> str:
        return self.fault.why if self.fault else (self.op.note or "a right operation")

    @property
    def large(self) -> bool:
        """Whether it has 10^6 elements, so that a check takes a minute."""
        return "million" in self.name

    @property
    def x64(self) -> bool:
        """Whether JAX must be in its 64-bit mode to represent the operands."""
        return self.op.dtype == "float64"

    def operands(self, seed: int) -> tuple[Any, ...]:
        return self.op.operands(self.op.dtype, seed)


def operations() -> dict[str, Op]:
    made = [*elementwise.ops(), *arrays.ops(), *complexes.ops(), *varied.ops()]
    return {op.name: op for op in made}


def entries() -> dict[str, Entry]:
    """Every entry by name, made anew: what a stateful fault remembers does not pass from one call to the next."""
    ops = operations()
    made = [Entry(f"right/{op.name}", "right", op) for op in ops.values()]
    made += [Entry(f"right/{op.name}/{op.dtype}", "right", op) for op in power.rights(ops)]
    made += [_of(fault, "fault") for module in (rules, contexts, state) for fault in module.all_of(ops)]
    made += [_of(fault, "power") for fault in power.all_of(ops)]
    found = {entry.name: entry for entry in made}
    if len(found) != len(made):
        raise ValueError(f"names occur twice: {[n for n, k in Counter(e.name for e in made).items() if k > 1]}")
    return found


def _of(fault: Fault, part: str) -> Entry:
    return Entry(f"{part}/{fault.name}/{fault.op.dtype}", part, fault.op, fault)


def main(arguments: list[str]) -> None:
    made = entries()
    if arguments == ["list"]:
        for entry in made.values():
            print(f"{entry.name:<62} {entry.why}")
        return
    for part in ("right", "fault", "power"):
        kinds = Counter(entry.kind for entry in made.values() if entry.part == part)
        print(f"{part}: {kinds.total()} entries of {len(kinds)} kinds")
        print("".join(f"  {count:4} {kind}\n" for kind, count in kinds.items()), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
