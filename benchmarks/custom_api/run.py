"""Run JAX's own tests of `custom_vjp` and `custom_jvp` with jaxprim's decorators in their place.

The tests are JAX's `tests/custom_api_test.py`, which you fetch from JAX's repository. They are run as they are:

    python -m benchmarks.custom_api.run PATH/custom_api_test.py

Each test runs with JAX's decorators and with jaxprim's. Each difference is printed with its reason. A difference without
a reason is an error, and so is a reason without a difference.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from benchmarks.custom_api.reasons import REASONS

# JAX's file has other classes for its next implementation of the decorators, which a flag of JAX turns on.
CLASSES = ("CustomJVPTest", "CustomVJPTest")
Outcomes = dict[str, str]


class Recorder:
    """A plugin of pytest that keeps the outcome of each test: ``passed``, ``failed`` or ``skipped``."""

    def __init__(self) -> None:
        self.outcomes: Outcomes = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[".".join(report.nodeid.split("::")[1:])] = report.outcome


def run_here(path: Path, decorators: str, select: str) -> Outcomes:
    """Run the tests in this process."""
    if decorators == "jaxprim":
        import jax

        import jaxprim

        jax.custom_vjp, jax.custom_jvp = jaxprim.custom_vjp, jaxprim.custom_jvp  # type: ignore[misc,assignment]
    recorder = Recorder()
    tests = " or ".join(CLASSES)
    wanted = f"({tests}) and ({select})" if select else tests
    options = ["-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", "-c", os.devnull, f"--rootdir={path.parent}"]
    pytest.main([str(path), "-k", wanted, *options], plugins=[recorder])
    return {name: outcome for name, outcome in recorder.outcomes.items() if name.startswith(CLASSES)}


def run_apart(path: Path, decorators: str, select: str) -> Outcomes:
    """Run the tests in a process of their own, because the decorators are replaced in JAX itself."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "outcomes.json"
        command = [sys.executable, "-m", "benchmarks.custom_api.run", str(path), "--decorators", decorators]
        subprocess.run([*command, "--select", select, "--write", str(found)], check=True)
        return json.loads(found.read_text())


def differences(plain: Outcomes, ours: Outcomes, reasons: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The tests that pass with JAX's decorators only, with the reason; and reasons for tests that pass."""
    for name, outcome in sorted(plain.items()):
        passes = ours.get(name) == "passed"
        if outcome == "passed" and not passes:
            yield name, reasons.get(name, UNEXPLAINED)
        elif passes and name in reasons:
            yield name, OUTDATED


UNEXPLAINED, OUTDATED = "NO REASON IS KNOWN", "PASSES, AND A REASON IS LISTED"


def summary(plain: Outcomes, ours: Outcomes, found: list[tuple[str, str]]) -> str:
    """The table, and the counts."""
    passed = [name for name, outcome in plain.items() if outcome == "passed"]
    same = sum(ours.get(name) == "passed" for name in passed)
    rows = [f"{reason:75} {name}" for name, reason in sorted(found, key=lambda row: row[::-1])]
    counts = [f"{count:4} {reason}" for reason, count in Counter(reason for _, reason in found).most_common()]
    return "\n".join([*rows, "", f"{same} of {len(passed)} pass as they do with JAX's decorators", *counts])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="JAX's custom_api_test.py")
    parser.add_argument("--select", default="", help="run these tests only, as pytest's -k takes them")
    parser.add_argument("--decorators", choices=("jax", "jaxprim"), help=argparse.SUPPRESS)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    path = options.path.resolve()
    if options.decorators:
        options.write.write_text(json.dumps(run_here(path, options.decorators, options.select)))
        return 0
    plain, ours = (run_apart(path, decorators, options.select) for decorators in ("jax", "jaxprim"))
    found = list(differences(plain, ours, REASONS))
    print(summary(plain, ours, found))
    return int(any(reason in (UNEXPLAINED, OUTDATED) for _, reason in found))


if __name__ == "__main__":
    sys.exit(main())
