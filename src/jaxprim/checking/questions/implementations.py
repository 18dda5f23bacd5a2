"""Do all implementations of an operation that can run here give the same?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxprim.checking.answers import Answer, NotAsked, Note, Refusal, attempt
from jaxprim.checking.case import Case
from jaxprim.checking.question import question
from jaxprim.checking.reports.findings import Evidence
from jaxprim.checking.tolerances import Tolerance
from jaxprim.checking.values import Array

Values = list[Array]
Run = Callable[[Sequence[Any]], Values]


@question("Do the impl, the host function and every kernel that can run here give the same results?", group="values")
def implementations(case: Case) -> Answer:
    """Compare the impl, the host function and the kernels of the available platforms with the first of them."""
    if not case.subject.is_primitive:
        raise NotAsked("a function has only one implementation")
    ways = _ways(case)
    for platform in case.subject.kernel_platforms:
        if not _devices(platform):
            yield Note(f"the kernel for {platform} cannot run here")
    if len(ways) < 2:
        raise NotAsked("only one implementation can run here")
    (reference, first), *others = ways.items()
    expected = first(case.native.point.leaves)
    # Only the noise of the first counts: another one in a coarser dtype must not get a larger tolerance.
    noise = case.noise(case.native, expected, lambda leaves, _: first(leaves), of_rule=False)
    tolerances = [case.strictly(value, n) for value, n in zip(expected, noise, strict=True)]
    for label, run in others:
        yield from _compare(case, label, run, f"the {reference}", expected, tolerances)


def _compare(
    case: Case, label: str, run: Run, against: str, expected: Values, tolerances: Sequence[Tolerance]
) -> Answer:
    found = attempt(lambda: run(case.native.point.leaves))
    if isinstance(found, Refusal):
        yield Evidence(label, against, message=f"raised {found.why}", seed=case.seed, ok=False)
        return
    for name, got, value, tolerance in zip(case.native.names, found, expected, tolerances, strict=True):
        yield case.evidence(label, against, name, got, value, tolerance)


def _ways(case: Case) -> Mapping[str, Run]:
    """A way to run each available implementation: first the impl, then the host function, then kernels."""
    found = {word: _run_by(case, word) for word in ("impl", "host") if case.subject.is_given(word)}
    for platform in case.subject.kernel_platforms:
        if _devices(platform):
            found[f"kernel[{platform}]"] = _run_on(case, platform)
    return found


def _devices(platform: str) -> list[Any]:
    try:
        return jax.devices(platform)
    except RuntimeError:  # JAX has no such platform here
        return []


def _run_by(case: Case, word: str) -> Run:
    def run(leaves: Sequence[Any]) -> Values:
        with case.subject.run_by(word):
            return case.native.called(leaves)

    return run


def _run_on(case: Case, platform: str) -> Run:
    device = _devices(platform)[0]

    def run(leaves: Sequence[Any]) -> Values:
        there = [jax.device_put(leaf, device) if hasattr(leaf, "dtype") else leaf for leaf in leaves]
        with case.subject.run_by("kernel"), jax.default_device(device):
            return [np.asarray(value) for value in case.native.called(there)]

    return run
