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
    assert re.findall(r"^.*\w\.\.\.$", output, re.MULTILINE) == []


def test_a_command_does_not_hide_its_file():
    assert {name: getattr(cli, name).command for name in main.commands} == main.commands


def test_a_process_of_its_own(write):
    """`python -m jaxprim`, piped, and where the terminal is not UTF-8."""
    name = write("wrong.py", WRONG)
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "JAX_PLATFORMS": "cpu", "COLUMNS": "80"}
    command = [sys.executable, "-m", "jaxprim", "check", name, "--only", "jvp-differences"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "jvp-differences  x" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra_it_says_what_to_install(missing: str):
    program = f"import sys; sys.modules['{missing}'] = None; import jaxprim.cli"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "The jaxprim command line needs click and rich" in done.stderr
    assert "pip install 'jaxprim[cli]'" in done.stderr


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
