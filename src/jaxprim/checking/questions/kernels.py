"""A question about kernels: every implementation of one operation that can run here gives one answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxprim._primitive import Primitive
from jaxprim._rules import rules_of
from jaxprim._use import use
from jaxprim.checking.case import Case
from jaxprim.checking.compare import Tolerance
from jaxprim.checking.reports.report import Evidence
from jaxprim.checking.setting import Answer, NotAsked, Note
from jaxprim.checking.subject import first_line
from jaxprim.checking.values import Array

Values = list[Array]
Run = Callable[[Sequence[Any]], Values]


def implementations(case: Case) -> Answer:
    """The impl, the host function and the kernels of the platforms that are here, against the first of them."""
    if case.subject.primitive is None:
        raise NotAsked("a function has one implementation")
    ways = _ways(case, case.subject.primitive)
    for platform in _elsewhere(case.subject.primitive):
        yield Note(f"the kernel for {platform} cannot run here")
    if len(ways) < 2:
        raise NotAsked("there is one implementation that can run here")
    (reference, first), *others = ways.items()
    precision, leaves = case.native, case.native.point.leaves
    expected = first(leaves)
    # The noise of the first alone: one that works in a coarser dtype must not excuse itself.
    noise = case.noise(precision, expected, lambda moved, _: first(moved), of_rule=False)
    tolerances = [case.strictly(value, n) for value, n in zip(expected, noise, strict=True)]
    for label, run in others:
        yield from _compare(case, label, run, f"the {reference}", expected, tolerances)


def _compare(
    case: Case, label: str, run: Run, against: str, expected: Values, tolerances: Sequence[Tolerance]
) -> Answer:
    try:
        found = run(case.native.point.leaves)
    except Exception as error:  # noqa: BLE001 - an implementation may fail in any way it likes
        yield Evidence(label, against, message=f"raised {first_line(error)}", seed=case.seed, ok=False)
        return
    for name, got, value, tolerance in zip(case.native.names, found, expected, tolerances, strict=True):
        yield case.evidence(label, against, name, got, value, tolerance)


def _ways(case: Case, primitive: Primitive) -> Mapping[str, Run]:
    """How to run each implementation, the impl first, then the host function."""
    rules = rules_of(primitive)
    found = {word: _by_word(case, primitive, word) for word in ("impl", "host") if rules.has(word)}
    for platform in rules.kernels():
        if _devices(platform):
            found[f"kernel[{platform}]"] = _on_platform(case, primitive, platform)
    return found


def _elsewhere(primitive: Primitive) -> list[str]:
    return [platform for platform in rules_of(primitive).kernels() if not _devices(platform)]


def _devices(platform: str) -> list[Any]:
    try:
        return jax.devices(platform)
    except RuntimeError:  # JAX knows no such platform here
        return []


def _by_word(case: Case, primitive: Primitive, word: str) -> Run:
    def run(leaves: Sequence[Any]) -> Values:
        with use(word, primitive):
            return case.native.called(leaves)

    return run


def _on_platform(case: Case, primitive: Primitive, platform: str) -> Run:
    device = _devices(platform)[0]

    def run(leaves: Sequence[Any]) -> Values:
        there = [jax.device_put(leaf, device) if hasattr(leaf, "dtype") else leaf for leaf in leaves]
        with use("kernel", primitive), jax.default_device(device):
            return [np.asarray(value) for value in case.native.called(there)]

    return run
