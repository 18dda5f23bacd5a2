from __future__ import annotations

import contextlib
import dataclasses
import io
import json

import pytest
from reports import BAD, GOOD, RAISED, everything, finding

from jaxprim import BadCall, CheckFailed
from jaxprim.checking.reports.report import Report, number, rows, skipped


def test_ok():
    assert [finding(status).ok for status in ("pass", "surrogate", "skipped", "fail")] == [True, True, True, False]


def test_a_failure_carries_its_breadcrumb():
    assert finding("fail", [BAD, GOOD], "vjp-differences", notes=("one element lies on a kink",)).text() == (
        "fail: vjp-differences of op at x=float32[3]\n"
        "  vjp: differences along x\n"
        "    at:        cotangent of x[2,0] (2 of 6 elements are off)\n"
        "    got:       4  (got / expected = 2)\n"
        "    expected:  2\n"
        "    off by:    2, allowed 1e-06: because\n"
        "    seed:      7\n"
        "  hint: factor 2: every number is 2 times the expected one\n"
        "  note: one element lies on a kink"
    )


def test_an_exception_keeps_its_lines():
    assert finding("fail", [RAISED]).text() == (
        "fail: jit of op at x=float32[3]\n"
        "  vjp: raised\n"
        "    error:     ValueError: no\n"
        "               second line\n"
        "    seed:      7"
    )


def test_a_finding_shows_each_place_once():
    text = finding(
        "fail", [BAD, BAD, dataclasses.replace(BAD, index=(0, 0)), dataclasses.replace(BAD, index=(1, 0))]
    ).text()
    assert text.count("    at:") == 2
    assert "and 2 more comparisons that are off" in text


def test_the_worst_evidence():
    worse = dataclasses.replace(GOOD, error=5e-7)
    assert finding(evidence=[GOOD, worse]).worst is worse
    assert finding("fail", [BAD, worse]).worst is BAD
    assert finding(evidence=[]).worst is None


def test_ratio():
    assert GOOD.ratio == pytest.approx(0.01)
    assert dataclasses.replace(GOOD, error=0.0, tolerance=0.0).ratio == 0
    assert dataclasses.replace(GOOD, error=1.0, tolerance=0.0).ratio == float("inf")
    assert RAISED.ratio == float("inf")


def test_a_row_is_the_worst_of_its_examples():
    row, other = rows(
        [finding(), finding("fail", [BAD], example="y"), finding("skipped", [], "vmap", reason="no array")]
    )
    assert (row.question, row.status, len(row.findings)) == ("jit", "fail", 2)
    assert row.cells() == ("2", "error 2.0e+00, allowed 1.0e-06, cotangent of x[2,0]")
    assert other.cells() == ("0", "no array")


def test_a_report_reads():
    report = Report(
        "op",
        7,
        (
            finding(),
            finding("fail", [BAD], "vjp-differences"),
            finding("surrogate", [BAD], "vjp-linear", reason="declared surrogate: clipped"),
            finding("skipped", [], "vmap", reason="no operand is an array"),
            finding("skipped", [], "vmap-jvp", reason="no operand is an array"),
        ),
    )
    assert not report.ok
    assert [f.question for f in report.bad] == ["vjp-differences"]
    assert str(report).splitlines()[:7] == [
        "op: 1 of 3 questions pass, 1 FAIL, 1 surrogate, 2 skipped, at 1 example (seed 7)",
        "at x=float32[3]",
        "                              compared  worst comparison",
        "  pass       jit                     1  error 1.0e-08, allowed 1.0e-06, result[1]",
        "  fail       vjp-differences         1  error 2.0e+00, allowed 1.0e-06, cotangent of x[2,0]",
        "  surrogate  vjp-linear              1  declared surrogate: clipped",
        "  skipped    vmap, vmap-jvp: no operand is an array",
    ]
    assert skipped(report.findings) == {"no operand is an array": ["vmap", "vmap-jvp"]}
    with pytest.raises(CheckFailed) as error:
        report.raise_if_bad()
    assert str(error.value) == report.text()


def test_it_shows_itself_as_text_and_in_a_notebook_as_a_page():
    report = everything()
    assert repr(report) == str(report) == report.text()
    assert report._repr_html_().startswith('<iframe srcdoc="&lt;!doctype html&gt;')


def test_on_a_terminal_lines_are_broken_between_words(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "60")
    report = everything()
    with contextlib.redirect_stdout(Terminal()):  # pytest's own workers ask about theirs
        shown = repr(report)
    lines = shown.splitlines()
    assert all(len(line) <= 60 for line in lines if "again: " not in line)
    assert " ".join(shown.split()) == " ".join(report.text().split())
    at = lines.index("  fail       jit         4  error inf, allowed 1.0e-06,")
    assert lines[at + 1] == " " * 28 + "cotangent of x[2,0]"
    assert [line for line in lines if "again: " in line] == [x for x in report.text().splitlines() if "again: " in x]


def test_a_good_report_raises_nothing():
    Report("op", 0, (finding(),)).raise_if_bad()


@pytest.mark.parametrize(
    ("value", "text"), [(2.0, "2"), (1 / 3, "0.333333333"), (1 - 2j, "1-2j"), (7, "7"), (True, "True"), ("f32", "f32")]
)
def test_number(value, text):
    assert number(value) == text


def test_json_and_back():
    report = everything()
    assert Report.from_json(report.to_json()) == report
    record = json.loads(report.to_json(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (record["format"], record["ok"], record["subject"]) == (2, False, "op")
    assert record["findings"][0]["evidence"][0]["got"] == {"complex": [1.0, -2.0]}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            '{"format": 1, "ok": true}',
            "unsupported report format.\n"
            "  got:      format 1\n"
            "  expected: format 2\n"
            "  why:      in format 1, statuses had other names\n"
            "  write:    jaxprim check FILE --json > reports.json  # by this version of jaxprim",
        ),
        (
            "[]",
            "unsupported report format.\n"
            "  got:      no format\n"
            "  expected: format 2\n"
            "  write:    jaxprim check FILE --json > reports.json  # by this version of jaxprim",
        ),
        (
            '{"format": 2, "ok": true, "reports": []}',
            "got several reports.\n"
            "  got:      the output of `jaxprim check --json`\n"
            "  expected: one report\n"
            '  write:    [Report.from_record(record) for record in json.loads(text)["reports"]]',
        ),
        ("op: 1 of 1", "this is not JSON.\n  got:      Expecting value: line 1 column 1 (char 0)"),
    ],
)
def test_json_of_another_form(text, problem):
    with pytest.raises(BadCall) as error:
        Report.from_json(text)
    assert str(error.value) == f"Report.from_json: {problem}"


def test_error_in_ulp():
    one = dataclasses.replace(GOOD, got=1.0, expected=1.5, error=0.5, eps=2.0**-4)
    assert one.ulp == 8.0  # numbers between 1 and 2 are 1/16 apart
    assert dataclasses.replace(one, expected=0.4, error=0.1).ulp == pytest.approx(6.4)  # between 1/4 and 1/2: 1/64
    assert dataclasses.replace(one, expected=0.0).ulp is None
    assert dataclasses.replace(one, eps=0.0).ulp is None
    assert (
        "    off by:    0.5 (8 ulp), allowed 1e-06: because"
        in finding("fail", [dataclasses.replace(one, ok=False)]).text()
    )


def test_the_line_to_run_again():
    found = finding("fail", [BAD], "vjp-differences")
    assert Report("op", 7, (found,), "ops.py:op").again(found) == (
        "jaxprim check ops.py:op --only vjp-differences --seed 7"
    )
    assert Report("op", 7, (found,)).again(found) == 'jaxprim.check(op, ..., only="vjp-differences", seed=7)'


def test_answers_by_operand():
    (row,) = rows(
        [finding(operands=(("x", True), ("f", True))), finding("fail", [BAD], operands=(("x", False),), example="y")]
    )
    assert [row.operand(name) for name in ("x", "f", "z")] == ["fail", "pass", None]
