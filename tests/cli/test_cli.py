"""The command line as a whole: help, a process of its own, and a package that is missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from programs import WRONG, run

from jaxprim import _doctor, cli
from jaxprim.cli import main


def test_help_documents_the_exit_codes():
    for arguments in (["--help"], ["check", "-h"]):
        found = run(*arguments)
        assert found.exit_code == 0
        assert "4  the file or module could not be imported" in found.output


@pytest.mark.parametrize("command", ["", *main.commands])
def test_help_fits_into_a_terminal_of_80_columns(command: str):
    output = run(*command.split(), "--help").output
    assert [line for line in output.splitlines() if len(line) > 80] == []
    # click cuts off what is too long for its list of commands.
    assert re.findall(r"^(?!Usage).*\w\.\.\.$", output, re.MULTILINE) == []


def test_a_command_does_not_hide_its_file():
    assert {name: getattr(cli, name).command for name in main.commands} == main.commands


def python(program: str, **environment: str) -> list[str]:
    """What a program prints in a process of its own, as words."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


# Ends with what was imported that takes long. A shell waits for it at each press of TAB.
QUICK = """
import atexit, sys
from jaxprim.cli import main
atexit.register(lambda: print("imported:", *{"jax", "numpy", "rich.console"} & set(sys.modules)))
"""


def test_help_imports_no_jax():
    for command in main.commands:
        words = python(f"{QUICK}main([{command!r}, '--help'], prog_name='jaxprim')")
        assert (words[:3], words[-1]) == (["Usage:", "jaxprim", command], "imported:")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("jaxprim che", ["plain,check"]),
        ("jaxprim check --only vmap-n", ["plain,vmap-nested"]),
        ("jaxprim check src/op", ["file,src/op"]),  # the shell completes it
        ("jaxprim explain src/op", ["file,src/op"]),
        ("jaxprim new --kind nu", ["plain,numba", "plain,numpy"]),
    ],
)
def test_a_shell_completes_a_word_without_jax(line: str, expected: list[str]):
    words = python(
        f"{QUICK}main(prog_name='jaxprim')",
        _JAXPRIM_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(len(line.split()) - 1),
    )  # fmt: skip
    assert words == [*expected, "imported:"]


def test_a_process_of_its_own(write):
    """`python -m jaxprim`, piped, and where the terminal is not UTF-8."""
    name = write("wrong.py", WRONG)
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "JAX_PLATFORMS": "cpu", "COLUMNS": "80"}
    command = [sys.executable, "-m", "jaxprim", "check", name, "--only", "jvp-differences"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "jvp-differences  x" in done.stdout
    assert done.stderr == ""


def test_doctor_says_what_there_is():
    found = run("doctor")
    assert found.exit_code == 0, found.output
    for label in ("jaxprim", "JAX", "tested on", "Python", "names of JAX", "devices", "C++ compilers", "CUDA compiler"):
        assert label in found.output


def test_doctor_names_what_is_gone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_doctor, "missing", lambda: ["jax._src.core.gone (used at _jax/avals.py:1)"])
    found = run("doctor")
    assert found.exit_code == 1
    assert "this JAX lacks jax._src.core.gone (used at _jax/avals.py:1)" in found.output
