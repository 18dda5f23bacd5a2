"""The rows of the tests' table on each JAX release of the year: ``uv run python tests/releases.py [RELEASE ...]``.

Makes an environment for each release (uv's cache makes the second time quick), runs three groups of tests in it, and prints a
table:

- modes: which rule runs in which mode, in every row (tests/test_mode_fidelity.py);
- matrix: one op of each kind under every row that needs one device (tests/test_zoo.py);
- devices: the same on a mesh of four devices.

Exits with 1 when a test failed, none ran, or another JAX than asked for ran; with 2 when the command line is wrong. A release
whose Python is not on this machine, and that uv may not download, is skipped and said so.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TESTS = (
    "tests/test_mode_fidelity.py",
    "tests/derive/test_table.py",  # which rule runs, also after another one was given
    "tests/test_zoo.py::test_matrix",
    "tests/derive/test_on_device.py",
    "tests/derive/test_partition.py",
)
GROUPS = ("modes", "matrix", "devices")
# The rows of four devices, as files or test ids name them.
DEVICES = re.compile(r"shard_map|explicit mesh|test_on_device|test_partition")
LIMIT = 1500  # seconds for one release, on a machine with much else to do
# What the caller's shell has set must not reach the tests.
OURS = (
    "JAX_",
    "XLA_",
    "PYTEST_",
    "PYTHONPATH",
    "PYTHONDONTWRITEBYTECODE",
    "VIRTUAL_ENV",
    "UV_PROJECT_ENVIRONMENT",
    "UV_PYTHON",
)


@dataclass
class Run:
    """What was seen on one release."""

    release: str
    python: str
    wrong: str = ""
    skipped: str = ""
    seconds: float = 0.0
    passed: dict[str, int] = field(default_factory=lambda: dict.fromkeys(GROUPS, 0))
    failed: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])  # group, test

    @property
    def ok(self) -> bool:
        return not self.wrong and not self.failed

    def row(self) -> str:
        cells = [self.release, self.python]
        for group in GROUPS:
            bad = sum(g == group for g, _ in self.failed)
            total = self.passed[group] + bad
            cells.append("" if not total else f"{self.passed[group]} of {total}")
        return f"| {' | '.join(cells)} | {self.skipped or self.wrong or f'{self.seconds:.0f} s'} |"


def releases() -> dict[str, dict[str, str]]:
    """[tool.jaxprim.supported]: each release, its Python, and where it is tested."""
    meta: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return meta["tool"]["jaxprim"]["supported"]


def main() -> int:
    known = releases()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("releases", nargs="*", metavar="RELEASE", help="these alone; all, where none is given")
    parser.add_argument("--ci", action="store_true", help="those on which .ci/run runs the rows and no more")
    parser.add_argument("--environments", type=Path, metavar="FOLDER", help="keep the environments there")
    parser.add_argument("--workers", default="2", metavar="N", help="processes of pytest (2)")
    given = parser.parse_args()
    if unknown := [release for release in given.releases if release not in known]:
        parser.error(f"not in [tool.jaxprim.supported]: {', '.join(unknown)}; there are {', '.join(known)}")
    chosen = [
        r for r in known if r in given.releases or (not given.releases and (not given.ci or known[r]["ci"] == "rows"))
    ]
    with tempfile.TemporaryDirectory() as folder:
        where = (given.environments or Path(folder)).resolve()
        runs = [run(release, known[release]["python"], where, given.workers) for release in chosen]
    say(table(runs))
    for each in runs:
        for _, test in each.failed:
            say(f"FAILED   JAX {each.release}: {test}")
        if each.wrong or each.skipped:
            say(f"{'WRONG  ' if each.wrong else 'SKIPPED'}  JAX {each.release}: {each.wrong or each.skipped}")
    return 0 if all(each.ok for each in runs) and any(not each.skipped for each in runs) else 1


def run(release: str, python: str, where: Path, workers: str) -> Run:
    """Make the environment of a release, and run the rows in it."""
    found, began = Run(release, python), time.monotonic()
    say(f"=== JAX {release}, Python {python} ===")
    interpreter = find_python(python)
    if interpreter is None:
        found.skipped = f"no Python {python} on this machine"
        return found
    folder = where / release
    found.wrong = make(folder, interpreter, release) or rows(found, folder, workers)
    found.seconds = time.monotonic() - began
    say(found.row())
    return found


def make(folder: Path, interpreter: str, release: str) -> str:
    """The environment; returns what went wrong, or nothing."""
    python = folder / "bin" / "python"
    commands = [
        ["uv", "venv", "--quiet", "--allow-existing", "--python", interpreter, str(folder)],
        ["uv", "pip", "install", "--quiet", "--python", str(python), "--group", "rows", "-e", ".", f"jax=={release}"],
    ]
    for command in commands:
        done = subprocess.run(command, cwd=ROOT, env=environment(), check=False)
        if done.returncode:
            return f"'{' '.join(command[:3])}' ended with status {done.returncode}"
    return ""


def rows(found: Run, folder: Path, workers: str) -> str:
    """Run the tests; returns what went wrong beside failing tests, or nothing."""
    report = folder / "report.xml"
    report.unlink(missing_ok=True)
    command = [str(folder / "bin" / "python"), "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider"]
    command += [f"--numprocesses={workers}", f"--junit-xml={report}", *TESTS]
    tell = "import jax; print(jax.__version__)"
    ran = subprocess.run([command[0], "-c", tell], env=environment(), capture_output=True, text=True, check=False)
    if ran.stdout.strip() != found.release:
        return f"JAX {ran.stdout.strip() or 'nothing'} ran"
    try:
        subprocess.run(command, cwd=ROOT, env={**environment(), "JAXPRIM_ROWS_ALONE": "1"}, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return f"took more than {LIMIT} s"
    return read(found, report)


def read(found: Run, report: Path) -> str:
    """Put the outcome of each test into its group."""
    if not report.exists():
        return "pytest wrote no report"
    for case in ElementTree.parse(report).iter("testcase"):
        name, file = case.get("name", ""), case.get("classname", "")
        group = "devices" if DEVICES.search(file + name) else "matrix" if "test_zoo" in file else "modes"
        if case.find("failure") is not None or case.find("error") is not None:
            found.failed.append((group, name))
        elif case.find("skipped") is None:
            found.passed[group] += 1
    none = [group for group in GROUPS if not found.passed[group]]
    return f"nothing of {' and '.join(none)} passed" if none else ""


def table(runs: list[Run]) -> str:
    """The table as Markdown, as docs/releases.md has it."""
    head = f"| JAX | Python | {' | '.join(GROUPS)} | time |"
    return "\n".join(["", head, "|---" * (len(GROUPS) + 3) + "|", *[each.row() for each in runs], ""])


def find_python(version: str) -> str | None:
    """An interpreter of that version: this one, one on the path, pyenv's, or one that uv knows or may download."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [sys.executable, shutil.which(f"python{version}"), *map(str, pyenv.glob(f"{version}.*/bin/python"))]
    tell = "import sys; print('%d.%d' % sys.version_info[:2], getattr(sys, '_base_executable', sys.executable))"
    for candidate in filter(None, candidates):
        done = subprocess.run([candidate, "-c", tell], capture_output=True, text=True, check=False)
        if done.stdout.startswith(f"{version} "):
            return done.stdout.split()[1]
    known = subprocess.run(
        ["uv", "python", "find", version], env=environment(), capture_output=True, text=True, check=False
    )
    if known.returncode == 0:
        return known.stdout.strip()
    return None if os.environ.get("UV_PYTHON_DOWNLOADS") == "never" else version


def environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith(OURS) or key == "UV_PYTHON_DOWNLOADS"}


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
