"""Interleaved timing: every peer once in each round, so that a drift of the machine's speed hits all alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Times:
    """The rounds of one peer, in seconds."""

    rounds: tuple[float, ...]

    @property
    def p50(self) -> float:
        return statistics.median(self.rounds)

    @property
    def p95(self) -> float:
        return sorted(self.rounds)[min(len(self.rounds) - 1, int(0.95 * len(self.rounds)))]


def interleaved(
    tasks: Mapping[str, Callable[[], object]],
    rounds: int = 15,
    warm_up: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Times]:
    """Time each task once a round, by a clock in seconds."""
    for _ in range(warm_up):
        for task in tasks.values():
            task()
    found: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            gc.collect()
            gc.disable()
            start = clock()
            task()
            found[name].append(clock() - start)
            gc.enable()
    return {name: Times(tuple(times)) for name, times in found.items()}


def ratio(a: Times, b: Times) -> float:
    """The median over rounds of a / b, each pair measured in the same round."""
    return statistics.median(x / y for x, y in zip(a.rounds, b.rounds, strict=True))


# ------------------------------------------------------------------------------------------------------------- lines
@dataclass(frozen=True)
class Line:
    """One measured ratio."""

    what: str
    peer: str
    ratio: float
    target: float | None
    p50: float = 0.0
    p95: float = 0.0

    @property
    def ok(self) -> bool:
        return self.target is None or self.ratio <= self.target

    def __str__(self) -> str:
        target = "" if self.target is None else f"<= {self.target:<5} {'ok' if self.ok else 'MISSED'}"
        spread = f"p95/p50 {self.p95 / self.p50:5.2f}" if self.p50 else ""
        return f"{self.what:<58} vs {self.peer:<16} {self.ratio:6.2f}  {target:<16} {spread}"


def line(what: str, times: dict[str, Times], mine: str, peer: str, target: float | None) -> Line:
    """The ratio of two of the peers that were timed together."""
    return Line(what, peer, ratio(times[mine], times[peer]), target, times[mine].p50, times[mine].p95)


def show(lines: list[Line]) -> list[Line]:
    for each in lines:
        print(each, flush=True)
    return lines
