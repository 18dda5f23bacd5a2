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


def interleaved(tasks: Mapping[str, Callable[[], object]], rounds: int = 15, warm_up: int = 2) -> dict[str, Times]:
    """Time each task once a round."""
    for _ in range(warm_up):
        for task in tasks.values():
            task()
    found: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            gc.collect()
            gc.disable()
            start = time.perf_counter()
            task()
            found[name].append(time.perf_counter() - start)
            gc.enable()
    return {name: Times(tuple(times)) for name, times in found.items()}


def ratio(a: Times, b: Times) -> float:
    """The median over rounds of a / b, each pair measured in the same round."""
    return statistics.median(x / y for x, y in zip(a.rounds, b.rounds, strict=True))
