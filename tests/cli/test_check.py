"""`jaxprim check`: what it prints, its options and its exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from programs import EXAMPLES, EXPECTED, RIGHT, WRONG, run

from jaxprim import Report
from jaxprim.checking import options
from jaxprim.cli import main


def test_check_passes_and_exits_0(write):
    found = run("check", write("right.py", RIGHT + EXAMPLES), "--only", "jvp-differences", "--only", "jit", "-v")
    assert found.exit_code == 0, found.output
    assert "jvp            given    right.py:12" in found.output
    assert "at x=float32[3], factor=2.0" in found.output
    assert "scale: 2 of 2 questions pass, at 1 example (seed 0)" in found.output


def test_a_full_pass_is_one_line(write):
    some = [word for name in ("primal", "jit", "abstract-eval", "deterministic") for word in ("--only", name)]
    found = run("check", write("right.py", RIGHT + EXAMPLES), *some)
    line, _ = found.output.splitlines()  # the other says how many lines the file printed
    assert re.fullmatch(r"scale: 4 of 4 questions pass, at 1 example \(seed 0\) in [\d.]+ s( \(slowest: .*\))?", line)


def test_no_line_ends_in_spaces(write):
    found = run("check", write("wrong.py", WRONG), "--only", "jvp-differences", "-v")
    assert [line for line in found.output.splitlines() if line != line.rstrip()] == []


def test_a_folder_stands_for_its_files(write):
    write("one.py", RIGHT + EXAMPLES)
    write("two.py", WRONG.replace('"scale"', '"other"').replace("scale", "other") + "from one import scale\n")
    write("three.py", "1 / 0\n")
    found = run("check", ".", "--only", "jvp-differences")
    assert found.exit_code == 1, found.output
    assert found.output.count("scale: 1 of 1 questions pass") == 1
    assert "again: jaxprim check two.py:other --only jvp-differences --seed 0" in found.output


def test_a_folder_without_primitives_is_a_usage_error(write):
    write("three.py", "1 / 0\n")
    found = run("check", ".")
    assert (found.exit_code, "no file that uses jaxprim" in found.output) == (2, True)


def test_fast_and_thorough_exclude_each_other(write):
    found = run("check", write("right.py", RIGHT + EXAMPLES), "--fast", "--thorough")
    assert (found.exit_code, "give one of them" in found.output) == (2, True)


def test_a_page_that_cannot_be_written_ends_before_the_check(write):
    found = run("check", write("right.py", "raise RuntimeError('imported')"), "--html", "no/such/folder/page.html")
    assert (found.exit_code, "there is no folder no/such/folder" in found.output) == (2, True)


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_shows_what_was_found_and_exits_130(write, tmp_path: Path, jobs):
    slow = (
        WRONG
        + """
@scale.def_abstract_eval
def _(x, factor):
    return x


import time  # noqa: E402


def sleep(x):
    time.sleep(60)
    return x


slow = Primitive("slow")
slow.def_host(sleep)
slow.def_abstract_eval(lambda x: x)
slow.def_examples(lambda: [1.0])
"""
    )
    write("slow.py", slow)
    # A shell starts what runs in its background with Ctrl-C ignored, and a child inherits that.
    start = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); import jaxprim.cli as c; c.main()"
    command = [sys.executable, "-c", start, "check", "slow.py", "--only", "jvp-differences", "--jobs", jobs]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("scale: "):
            break
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)
    began = time.monotonic()
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 130, "".join(lines) + rest
    assert time.monotonic() - began < 10
    assert "fail: jvp-differences of scale" in "".join(lines)
    assert "Traceback" not in rest


def test_a_bad_finding_exits_1_and_says_where(write):
    found = run("check", write("wrong.py", WRONG), "--only", "jvp-differences", "--seed", "7")
    assert found.exit_code == 1, found.output
    assert "fail: jvp-differences of scale at x=float32[3], factor=2.0" in found.output
    assert "Does the JVP rule agree with finite differences of the implementation?" in found.output
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
    assert "  hint: factor: factor 2: every number is 2 times the expected one" in found.output
    assert "  again: jaxprim check wrong.py:scale --only jvp-differences --seed 3" in found.output


def test_the_matrix_has_a_column_for_each_operand(write):
    found = run("check", write("wrong.py", WRONG), "--only", "jvp-differences")
    assert "question            x  factor  compared" in found.output
    assert "jvp-differences  ✗  ✓    ✗" in found.output


def test_an_expected_failure(write):
    write("pyproject.toml", EXPECTED.format("jvp-differences"))
    found = run("check", write("wrong.py", WRONG), "--only", "jvp-differences")
    assert found.exit_code == 0, found.output
    assert "1 xfail" in found.output
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
