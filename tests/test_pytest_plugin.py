"""The plugin in a pytest of its own, as its users have it: what is collected, what fails, what is skipped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from programs import EXPECTED, RIGHT, WRONG

PLUGIN = ["-p", "_jaxprim_pytest", "-p", "no:cacheprovider"]
TESTS = """
from wrong import scale

from jaxprim import testing

@testing.parametrize(scale, only=["abstract-eval", "jvp-differences", "implementations"])
def test_each(question):
    question()

def test_fixture(jaxprim_check):
    report = jaxprim_check(lambda x: x * x, 3.0, only="jit")
    assert (report.seed, report.ok) == (4, True)

def test_a_bad_answer_fails(jaxprim_check):
    jaxprim_check(scale, only="jvp-differences")
"""


def start(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "JAX_PLATFORMS": "cpu"}
    environment.pop("PYTEST_ADDOPTS", None)
    command = [sys.executable, "-m", "pytest", *PLUGIN, "-rA", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def outcomes(path: Path) -> dict[str, str]:
    """What JUnit's file says of each test: passed, or failure, or skipped."""
    cases = ElementTree.parse(path).getroot().iter("testcase")
    return {f"{case.get('classname')}.{case.get('name')}": case[0].tag if len(case) else "passed" for case in cases}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str]]:
    folder = tmp_path_factory.mktemp("project")
    (folder / "wrong.py").write_text(WRONG)
    (folder / "no_examples.py").write_text(RIGHT)
    (folder / "unrelated.py").write_text("raise SystemExit('imported')")
    (folder / "broken.py").write_text("import jaxprim\n1 / 0")
    (folder / "pyproject.toml").write_text(EXPECTED.format("dot-product") + 'vjp-differences = "passes by now"\n')
    (folder / "test_it.py").write_text(TESTS)
    done = start(folder, "--jaxprim", "--jaxprim-speed=fast", "--jaxprim-seed=4", "--junitxml=junit.xml",
                 "--continue-on-collection-errors", "--override-ini=python_files=test_*.py", ".")  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout, outcomes(folder / "junit.xml")


def test_each_question_is_a_test(ran):
    found = ran[1]
    assert found["wrong.scale.abstract-eval"] == "passed"
    assert found["wrong.scale.jvp-differences"] == "failure"
    assert found["wrong.scale.vjp-linear"] == "passed"


def test_a_failure_is_its_breadcrumb_alone(ran):
    output = ran[0]
    assert "fail: jvp-differences of scale at x=float32[3], factor=2.0" in output
    assert "again: jaxprim check wrong.py:scale --only jvp-differences --seed 4" in output
    assert "runtest" not in output


def test_recorded_failures_are_strict(ran):
    # dot-product is recorded, and passes: the VJP rule is derived from the wrong JVP rule, and its transpose.
    assert ran[1]["wrong.scale.dot-product"] == "failure"
    assert "[XPASS(strict)] wrong on purpose" in ran[0]
    assert ran[1]["wrong.scale.vjp-differences"] == "skipped"
    assert "XFAIL wrong.py::scale::vjp-differences - passes by now" in ran[0]


def test_parametrize_makes_a_test_of_each_question(ran):
    names = ("abstract-eval", "jvp-differences", "implementations")
    found = [ran[1][f"test_it.test_each[scale-{name}]"] for name in names]
    assert found == ["passed", "failure", "skipped"]


def test_the_fixture(ran):
    assert ran[1]["test_it.test_fixture"] == "passed"
    assert ran[1]["test_it.test_a_bad_answer_fails"] == "failure"


def test_only_files_that_mention_jaxprim_are_imported(ran):
    assert not any("unrelated" in name for name in ran[1])
    assert "broken.py could not be imported" in ran[0]


def test_a_primitive_without_examples_is_no_test(ran):
    assert not any("no_examples" in name for name in ran[1])


def test_an_imported_primitive_is_checked_in_the_file_that_makes_it(ran):
    assert not any(name.startswith("test_it.scale") for name in ran[1])


def test_without_the_option_nothing_is_collected_and_jax_is_not_imported(tmp_path: Path):
    (tmp_path / "wrong.py").write_text(WRONG)
    (tmp_path / "test_it.py").write_text("import sys\ndef test_it():\n    assert 'jax' not in sys.modules\n")
    done = start(tmp_path, ".")
    assert "1 passed" in done.stdout, done.stdout + done.stderr
