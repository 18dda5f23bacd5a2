"""The command line: what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from programs import EXAMPLES, EXPECTED, RIGHT, WRONG

from jaxprim import Report, _doctor
from jaxprim.checking import options
from jaxprim.cli import main


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
    shown = run("check", write("again.py", RIGHT + EXAMPLES), "--only", "jvp-zeros", "--show-output").output
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
    for label in ("jaxprim", "JAX", "tested on", "Python", "names of JAX", "devices", "C++ compilers", "CUDA compiler"):
        assert label in found.output


def test_doctor_names_what_is_gone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_doctor, "missing", lambda: ["jax._src.core.gone (used at _jax/avals.py:1)"])
    found = run("doctor")
    assert found.exit_code == 1
    assert "this JAX lacks jax._src.core.gone (used at _jax/avals.py:1)" in found.output


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


# ------------------------------------------------------------------------------------------------- options of `check`
def names(output: str) -> list[str]:
    return [finding["question"] for finding in json.loads(output)["reports"][0]["findings"]]


def test_json_is_all_that_standard_output_gets(write):
    found = CliRunner().invoke(main, ["check", write("wrong.py", WRONG), "--json", "--only", "jvp-differences"])
    record = json.loads(found.stdout)
    assert (found.exit_code, record["ok"], record["unchecked"]) == (1, False, {})
    report = Report.from_record(record["reports"][0])
    assert (report.subject, report.target, report.ok) == ("scale", "wrong.py:scale", False)
    assert "fail: jvp-differences of scale" in found.stderr


def test_json_of_what_is_not_checked(write):
    found = CliRunner().invoke(main, ["check", write("right.py", RIGHT), "--json"])
    record = json.loads(found.stdout)
    assert (found.exit_code, record["ok"], record["reports"], list(record["unchecked"])) == (3, False, [], ["scale"])


def test_skip_and_seed(write):
    found = CliRunner().invoke(
        main, ["check", write("right.py", RIGHT + EXAMPLES), "--json", "--seed", "4", "--skip", "vmap", "--skip", "jit"]
    )
    record = json.loads(found.stdout)
    assert record["reports"][0]["seed"] == 4
    assert names(found.stdout) == [q.name for q in options.questions(skip=["vmap", "jit"])]


def test_html(write, tmp_path: Path):
    found = run("check", write("wrong.py", WRONG), "--html", "report.html", "--only", "vjp-differences")
    assert found.exit_code == 1
    assert "written: report.html" in found.output
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Error against step size" in text
    assert "factor 2" in text


def test_a_failure_says_how_to_see_it_again_and_why(write):
    found = run("check", write("wrong.py", WRONG), "--only", "jvp-differences", "--seed", "3")
    assert "  hint: factor: factor 2: every number is 2 times what is expected" in found.output
    assert "  again: jaxprim check wrong.py:scale --only jvp-differences --seed 3" in found.output


def test_the_matrix_has_a_column_for_each_operand(write):
    found = run("check", write("wrong.py", WRONG), "--only", "jvp-differences")
    assert "question            x  factor  compared" in found.output
    assert "jvp-differences  ✗  ✓    ✗" in found.output


def test_an_expected_failure(write):
    write("pyproject.toml", EXPECTED.format("jvp-differences"))
    found = run("check", write("wrong.py", WRONG), "--only", "jvp-differences")
    assert found.exit_code == 0, found.output
    assert "1 fail as recorded" in found.output
    assert "recorded in pyproject.toml: wrong on purpose" in found.output


def test_an_expected_failure_that_passes(write):
    write("pyproject.toml", EXPECTED.format("jit"))
    found = run("check", write("right.py", RIGHT + EXAMPLES), "--only", "jit")
    assert found.exit_code == 1
    assert 'nothing is wrong now; remove `jit = "wrong on purpose"` from pyproject.toml' in found.output


def test_an_expected_failure_of_no_question_is_a_usage_error(write):
    write("pyproject.toml", EXPECTED.format("jitt"))
    found = run("check", write("right.py", RIGHT + EXAMPLES))
    assert found.exit_code == 2
    assert "jitt = 'wrong on purpose'" in found.output


def test_nothing_left_to_ask_is_a_usage_error(write):
    found = run("check", write("right.py", RIGHT), "--only", "jit", "--skip", "jit")
    assert found.exit_code == 2
    assert "no question is left to ask" in found.output


def test_several_processes_find_the_same(write):
    name = write("wrong.py", WRONG)
    arguments = ["check", name, "--json", "--only", "jvp-differences", "--only", "abstract-eval"]
    one, two = (CliRunner().invoke(main, [*arguments, "--jobs", jobs]) for jobs in ("1", "2"))
    records = [json.loads(found.stdout)["reports"][0]["findings"] for found in (one, two)]
    for finding in [*records[0], *records[1]]:
        finding.pop("seconds")
    assert records[0] == records[1]
    assert "printed line" in two.stderr  # what the file and its rules print in another process is hidden too


# --------------------------------------------------------------------------------------------------------------- fuzz
REFERENCE = "\ndef plain(x, factor):\n    return x * factor\n"


def test_fuzz_finds_a_wrong_rule_and_says_how_to_see_it_again(write):
    found = run("fuzz", write("wrong.py", WRONG), "--examples", "15", "--depth", "1")
    assert found.exit_code == 1, found.output
    assert "fail: scale in the nest: " in found.output
    again = found.output.partition("again:     jaxprim ")[2].splitlines()[0]
    assert run(*shlex.split(again)).exit_code == 1


def test_fuzz_of_a_right_rule(write):
    name = write("right.py", RIGHT + EXAMPLES + REFERENCE)
    found = run("fuzz", name, "--nest", "grad vmap:3", "--reference", "plain")
    assert found.exit_code == 0, found.output
    assert "scale: 1 nest agrees, 0 cannot be asked (seed 0)" in found.output


@pytest.mark.parametrize(
    ("more", "arguments", "code", "message"),
    [
        ("", [], 3, "no example to check it on"),
        (EXAMPLES, ["--nest", "grad while_loop"], 3, "Reverse-mode differentiation does not work"),
        (EXAMPLES, ["--reference", "plane"], 2, "no function 'plane' in it"),
        (EXAMPLES, ["--nest", "gard"], 3, "'gard' is no layer"),
    ],
)
def test_what_cannot_be_fuzzed(write, more: str, arguments: list[str], code: int, message: str):
    found = run("fuzz", write("right.py", RIGHT + more), *arguments)
    assert found.exit_code == code, found.output
    assert message in found.output
