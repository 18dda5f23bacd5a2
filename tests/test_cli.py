"""The command line: what it prints, and its exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from jaxprim import _jax
from jaxprim.cli import main

RIGHT = """
import jax.numpy as jnp
from jaxprim import Primitive

print("the file prints")
scale = Primitive("scale")

@scale.def_impl
def _(x, factor):
    return x * factor

@scale.def_jvp
def _(primals, tangents):
    print("the rule prints")
    (x, factor), (x_dot, factor_dot) = primals, tangents
    return scale(x, factor), x_dot * factor + x * factor_dot
"""
EXAMPLES = """
@scale.def_examples
def _():
    return [(jnp.array([1.0, 2.0, 3.0]), 2.0)]
"""
WRONG = RIGHT.replace("x * factor_dot", "2 * x * factor_dot") + EXAMPLES


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], str]]:
    """Writes a file into the current folder, which is one of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    monkeypatch.setenv("COLUMNS", "120")

    def write(name: str, text: str) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return name

    yield write
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_check_passes_and_exits_0(write):
    found = run("check", write("right.py", RIGHT + EXAMPLES), "--only", "jvp-differences", "--only", "jit")
    assert found.exit_code == 0, found.output
    assert "jvp            given    right.py:12" in found.output
    assert "at x=float32[3], factor=2.0" in found.output
    assert "scale: 2 of 2 questions pass, at 1 example (seed 0)" in found.output


def test_what_the_file_prints_does_not_drown_the_report(write):
    name = write("right.py", RIGHT + EXAMPLES)
    found = run("check", name, "--only", "jvp-zeros")
    assert "prints" not in found.output
    assert "printed lines hidden; `jaxprim check --show-output` shows them" in found.output
    shown = run("check", name, "--only", "jvp-zeros", "--show-output").output
    assert "the file prints" in shown
    assert "the rule prints" in shown


def test_a_bad_finding_exits_1_and_says_where(write):
    found = run("check", write("wrong.py", WRONG), "--only", "jvp-differences", "--seed", "7")
    assert found.exit_code == 1, found.output
    assert "fail: jvp-differences of scale at x=float32[3], factor=2.0" in found.output
    assert "Is the JVP rule the derivative, by differences of the implementation?" in found.output
    assert "differences along factor alone" in found.output
    assert "(got / expected = 2)" in found.output
    assert "jaxprim check wrong.py:scale --only jvp-differences --seed 7" in found.output
    assert "scale: 0 of 1 questions pass, 1 FAIL" in found.output


def test_a_primitive_without_examples_exits_3_and_says_what_to_write(write):
    found = run("check", write("right.py", RIGHT))
    assert found.exit_code == 3, found.output
    assert "scale: no example to check it on." in found.output
    assert "@scale.def_examples" in found.output


def test_every_primitive_of_a_file_is_checked_and_the_worst_decides(write):
    text = WRONG + RIGHT.replace("scale", "other").replace("from jaxprim import Primitive", "")
    found = run("check", write("two.py", text), "--only", "jvp-differences")
    assert found.exit_code == 1, found.output
    assert "scale: 0 of 1" in found.output
    assert "other: no example" in found.output


def test_one_primitive_by_name(write):
    text = WRONG + RIGHT.replace("scale", "other").replace("from jaxprim import Primitive", "")
    found = run("check", write("two.py", text) + ":other")
    assert found.exit_code == 3
    assert "scale" not in found.output


def test_a_module_by_name(write):
    write("package/__init__.py", "")
    write("package/ops.py", RIGHT + EXAMPLES)
    found = run("explain", "package.ops:scale")
    assert found.exit_code == 0, found.output
    assert "batching       derived" in found.output


def test_explain_shows_given_derived_and_missing(write):
    text = 'from jaxprim import Primitive\nhost = Primitive("host")\n@host.def_host\ndef _(x):\n    return x\n'
    found = run("explain", write("host.py", text))
    assert found.exit_code == 0, found.output
    assert "host           given    host.py:3" in found.output
    assert "jvp            missing" in found.output
    assert "write: @host.def_jvp" in found.output


@pytest.mark.parametrize("command", ["check", "explain"])
@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("missing.py", "missing.py: no such file."),
        ("no_such_module", "no_such_module: no such file or module."),
        ("empty.py", "empty.py: no primitive in it."),
        ("right.py:nothing", "right.py: no primitive 'nothing' in it."),
        ("right.py:function", "'function' is a function, not a Primitive."),
    ],
)
def test_a_wrong_target_is_a_usage_error(write, command: str, target: str, message: str):
    write("empty.py", "x = 1\n")
    write("right.py", RIGHT + "def function(x):\n    return x\n")
    found = run(command, target)
    assert found.exit_code == 2
    assert message in found.output


@pytest.mark.parametrize("command", ["check", "explain"])
def test_a_file_that_raises_exits_4_with_its_own_lines_alone(write, command: str):
    found = run(command, write("broken.py", "def f():\n    1 / 0\n\nf()\n"))
    assert found.exit_code == 4
    assert "broken.py could not be imported:" in found.output
    assert "ZeroDivisionError" in found.output
    assert "importlib" not in found.output


def test_questions_lists_every_question():
    found = run("questions")
    assert found.exit_code == 0
    assert "dot-product" in found.output
    assert "Are the two rules each other's transpose" in " ".join(found.output.split())


def test_doctor_says_what_there_is():
    found = run("doctor")
    assert found.exit_code == 0, found.output
    for label in ("jaxprim", "JAX", "Python", "hooks", "devices", "C++ compilers", "CUDA compiler"):
        assert label in found.output


def test_doctor_names_a_hook_that_is_gone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_jax, "missing_hooks", lambda: ["tracing: jax.gone"])
    found = run("doctor")
    assert found.exit_code == 1
    assert "this JAX has no hook for tracing: jax.gone" in found.output


def test_help_documents_the_exit_codes():
    for arguments in (["--help"], ["check", "-h"]):
        found = run(*arguments)
        assert found.exit_code == 0
        assert "4  the file or module could not be imported" in found.output


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
