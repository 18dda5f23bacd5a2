from __future__ import annotations

import pytest
from reports import BAD, finding

from jaxprim.checking.reports import expected
from jaxprim.checking.reports.report import Report

KNOWN = {"jit", "vmap"}
TABLE = "[tool.jaxprim.expected-failures.op]\n"


@pytest.fixture
def read(tmp_path):
    def read(text):
        (tmp_path / "pyproject.toml").write_text(text)
        (tmp_path / "src").mkdir()
        return expected.read(tmp_path / "src", KNOWN)

    return read


def statuses(*findings, reasons=None):
    report = Report("op", 0, expected.apply(findings, {"op": reasons or {"jit": "slow kernel"}}))
    return report, [f.status for f in report.findings]


def test_the_nearest_file_is_read(read):
    assert read(TABLE + 'jit = "a kernel without jit"\n') == {"op": {"jit": "a kernel without jit"}}


def test_no_table(read):
    assert read("[project]\nname = 'x'\n") == {}


@pytest.mark.parametrize("line", ['jitt = "why"', 'jit = ""', "jit = true"])
def test_a_record_of_another_form(read, line):
    with pytest.raises(expected.BadRecord, match="not an expected failure"):
        read(TABLE + line)


def test_a_record_outside_of_a_table(read):
    with pytest.raises(expected.BadRecord, match="op: 'why'"):
        read("[tool.jaxprim.expected-failures]\nop = 'why'\n")


def test_a_recorded_failure_is_expected():
    report, found = statuses(finding("fail", [BAD]), finding(question="vmap"))
    assert (found, report.ok) == (["xfail", "pass"], True)
    assert report.findings[0].reason == "recorded in pyproject.toml: slow kernel"
    assert "1 xfail" in report.headline()


def test_a_recorded_failure_that_passes_is_bad():
    report, found = statuses(finding())
    assert (found, report.ok) == (["xpass"], False)
    assert 'nothing is wrong now; remove `jit = "slow kernel"` from pyproject.toml' in report.text()


def test_one_failing_example_is_enough():
    report, found = statuses(finding(), finding("fail", [BAD], example="y"))
    assert (found, report.ok) == (["pass", "xfail"], True)


def test_what_is_skipped_is_neither():
    assert statuses(finding("skipped", []))[1] == ["skipped"]


def test_another_failure_stays_one():
    assert statuses(finding("fail", [BAD], "vmap"))[1] == ["fail"]
