from __future__ import annotations

import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprim
from jaxprim import BadCall, CheckFailed, Example, Primitive, Report, _jax
from jaxprim.checking import options
from jaxprim.checking.answers import NotAsked, Note, first_line
from jaxprim.checking.case import Case
from jaxprim.checking.questions import Question, find_question
from jaxprim.checking.run import ask, cases, find
from jaxprim.checking.subject import Subject

X = jnp.array([1.0, 2.0, 3.0])


def scale(factor=1.0):
    made = Primitive("scale")
    made.def_impl(lambda x, f, *, power=1: x * f**power)
    made.def_jvp(
        lambda primals, tangents, *, power: (
            made(*primals, power=power),
            factor * made(tangents[0], primals[1], power=power)
            + power * primals[0] * primals[1] ** (power - 1) * tangents[1],
        )
    )
    return made


def test_a_report_of_every_question():
    before = _jax.compilations()
    report = jaxprim.report(scale(), X, 2.0)
    assert _jax.compilations() - before < 60  # to compile takes most of the time
    assert isinstance(report, Report)
    assert report.ok, report.text()
    assert [finding.question for finding in report.findings] == [question.name for question in options.questions()]
    assert report.seed == 0


def test_an_operand_may_go_by_name():
    assert jaxprim.report(scale(), X, f=2.0).findings[0].example == "x=float32[3], f=2.0, power=1"
    with pytest.raises(BadCall):
        jaxprim.report(scale(), X)


def test_without_operands_the_examples_are_checked():
    made = scale()
    with pytest.raises(BadCall, match="def_examples"):
        jaxprim.report(made)
    made.def_examples(lambda: [(X, 2.0), (X[:2], 3.0)])
    report = jaxprim.report(made, only=["primal", "vmap"])
    assert report.ok, report.text()
    assert {f.example for f in report.findings} == {
        "example 1: x=float32[3], f=2.0, power=1",
        "example 2: x=float32[2], f=3.0, power=1",
    }


def doubled():
    """An operation whose JVP rule returns the operand as its value."""
    made = Primitive("doubled")
    made.def_impl(lambda x: 2 * x)
    made.def_jvp(lambda primals, tangents: (primals[0], 2 * tangents[0]))
    return made


FAILED = """\
doubled: 0 of 1 questions pass, 1 FAIL, at 1 example (seed 0)
at x=float32[]
                     compared  worst comparison
  fail       primal         4  error 3.0e+00, allowed 9.8e-14, result

fail: primal of doubled at x=float32[]
  rule: jvp, tests/checking/test_run.py:69
  jvp: primal output against the implementation (float32)
    at:        result
    got:       3  (got / expected = 0.5)
    expected:  6
    off by:    3 (6.3e+06 ulp), allowed 5.3e-05: 32 roundings of 1.2e-07
    seed:      0
  and 3 more comparisons that are off
  hint: factor 1/2: every number is 1/2 times the expected one
  note: the vjp rule is derived from the jvp rule
  again: jaxprim.check(doubled, ..., only="primal", seed=0)"""


@pytest.mark.parametrize("check", [jaxprim.check, Primitive.check], ids=["jaxprim.check", "p.check"])
def test_check_raises_with_the_text_of_the_report(check):
    with pytest.raises(CheckFailed) as error:
        check(doubled(), jnp.float32(3.0), only="primal")
    assert str(error.value) == FAILED


@pytest.mark.parametrize("report", [jaxprim.report, Primitive.report], ids=["jaxprim.report", "p.report"])
def test_report_returns_the_same(report):
    found = report(doubled(), jnp.float32(3.0), only="primal")
    assert (found.ok, found.text()) == (False, FAILED)


def test_check_returns_the_report_of_what_is_right():
    assert jaxprim.check(scale(), X, 2.0, only="jit").ok
    assert scale().check(X, 2.0, only="jit").ok


def test_check_takes_what_report_takes():
    assert inspect.signature(jaxprim.check) == inspect.signature(jaxprim.report)


def test_every_option_of_check_reaches_the_report():
    with pytest.raises(CheckFailed, match="fail       reference"):
        jaxprim.check(jnp.sin, X, reference=np.cos, only="reference")
    found = jaxprim.check(
        scale(), X, 2.0, power=2, seed=3, only=["jit", "vmap"], skip="vmap", speed="fast", pictures=True
    )  # fmt: skip
    assert (found.seed, [finding.question for finding in found.findings]) == (3, ["jit"])
    assert found.findings[0].example.endswith("power=2")
    assert found.pictures


def test_findings_come_as_they_are_found():
    findings = ask(cases(Subject.of(jnp.sin), [Example((X,))]), [find_question("jit"), find_question("vmap")])
    assert next(findings).question == "jit"
    assert next(findings).question == "vmap"


def answer(*items):
    def ask_it(case):
        for item in items:
            if isinstance(item, Exception):
                raise item
            yield item

    return find(Question("name", "Sentence?", ask_it), Case.of(Subject.of(jnp.sin), (X,), {}, 5))


def good():
    case = Case.of(Subject.of(jnp.sin), (X,), {}, 5)
    return case.evidence(
        "impl", "", "result", np.ones(1), np.ones(1), case.closely(case.native, np.ones(1), np.zeros(1))
    )


def test_an_exception_is_a_bad_answer_with_the_seed():
    finding = answer(good(), ValueError("boom"))
    assert finding.status == "fail"
    assert finding.evidence[0].message.splitlines()[0] == "ValueError: boom"
    assert re.fullmatch(
        r"raised at tests/checking/test_run\.py:\d+, in ask_it", finding.evidence[0].message.splitlines()[1]
    )
    assert finding.evidence[0].seed == 5
    assert finding.compared == 2


def test_an_exception_that_holds_a_stack_is_told_by_what_was_raised():
    inner = 'INTERNAL: callback: Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\nMyError: no'
    said = answer(RuntimeError(f"{inner}\nand more")).evidence[0].message.splitlines()
    assert said[:2] == ["RuntimeError: INTERNAL: callback: MyError: no", "and more"]


def test_the_first_line_of_an_error_is_what_was_raised():
    stack = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\n'
    assert first_line(RuntimeError(f"INTERNAL: {stack}MyError: no\nmore")) == "INTERNAL: MyError: no"
    assert first_line(RuntimeError(f"INTERNAL: {stack}")) == "INTERNAL:"
    assert first_line(RuntimeError("\n")) == "RuntimeError"


def test_a_refusal_is_no_answer():
    assert answer(NotAsked("no operand")).status == "skipped"
    assert answer(NotAsked("no operand")).reason == "no operand"
    assert answer(NotImplementedError("Transpose rule (for reverse-mode differentiation) for 'f' not implemented")).ok
    assert answer(Note("why")).reason == "why"


def test_a_refusal_after_evidence_is_a_note():
    finding = answer(good(), NotAsked("not of the VJP"))
    assert finding.status == "pass"
    assert finding.notes == ("not of the VJP",)


def test_an_implementation_that_fails_is_reported_once():
    def broken(x):
        raise ValueError("broken kernel")

    report = jaxprim.report(broken, X)
    first, *others = report.findings
    assert first.evidence[0].message.startswith("ValueError: broken kernel\nraised at ")
    assert {f.status for f in others} == {"skipped"}
    assert others[0].reason == "the implementation does not run: broken kernel"
    assert len(report.text().splitlines()) < 14


def test_an_implementation_that_fails_is_bad_whatever_is_asked():
    def broken(x):
        raise ValueError("broken kernel")

    made = Primitive("no_types")
    made.def_host(lambda x: x)  # its abstract eval is missing: no refusal, as nothing at all can be asked
    for fn in (broken, made):
        (finding,) = ask(cases(Subject.of(fn), [Example((X,))]), [find_question("vmap")])
        assert finding.status == "fail"


def test_a_surrogate_that_raises_is_no_departure():
    made = Primitive("surrogate")
    made.def_impl(lambda x: jnp.round(x))
    made.def_vjp(surrogate="straight-through")(lambda primals: (made(*primals), lambda y_bar: (y_bar[:1],)))
    findings = {finding.question: finding for finding in jaxprim.report(made, X).findings}
    assert findings["vjp-linear"].status == "fail"
    assert "RuleWrong" in findings["vjp-linear"].evidence[0].message


def test_an_error_that_makes_several_answers_bad_is_told_once():
    made = Primitive("scale")
    made.def_impl(lambda x: 2 * x)
    made.def_jvp(lambda primals, tangents: (made(*primals), tangents[0][:1]))
    text = jaxprim.report(made, X).text()
    assert text.count("error:     RuleWrong") == 1
    assert "primal, jvp-differences" in text.partition("the same fault: ")[2]


def test_the_same_seed_gives_the_same_numbers():
    wrong = scale(1.01)
    one, same = (
        next(ask(cases(Subject.of(wrong), [Example((X, 2.0))], 3), [find_question("jvp-differences")]))
        for _ in range(2)
    )
    assert one.evidence == same.evidence
    other = next(ask(cases(Subject.of(wrong), [Example((X, 2.0))], 4), [find_question("jvp-differences")]))
    assert one.evidence != other.evidence


def test_64_bit_types_switched_on():
    with jax.enable_x64(True):
        assert jaxprim.report(scale(), jnp.asarray(X, jnp.float64), 2.0).ok
        assert jaxprim.report(
            scale(), X, jnp.float32(2.0), only=["jvp-differences", "vjp-differences", "vmap", "dtypes"]
        ).ok


def test_a_rule_that_rounds_to_float32_is_wrong_for_an_example_in_float64_alone():
    made = Primitive("sine")
    made.def_impl(jnp.sin)
    slope = lambda x: jnp.cos(x).astype(jnp.float32).astype(x.dtype)
    made.def_jvp(lambda primals, tangents: (made(*primals), slope(*primals) * tangents[0]))
    made.def_vjp(lambda primals: (made(*primals), lambda y_bar: (y_bar * jnp.cos(*primals),)))
    with jax.enable_x64(True):
        assert [f.ok for f in jaxprim.report(made, jnp.asarray(X, jnp.float64), only="dot-product").findings] == [False]
    assert jaxprim.report(made, X, only="dot-product").ok


def test_a_wrong_rule_that_is_derived_names_its_source():
    made = Primitive("scale")
    made.def_impl(lambda x: 2 * x)
    made.def_vjp(lambda primals: (made(*primals), lambda y_bar: 3 * y_bar))
    findings = {
        finding.question: finding
        for finding in jaxprim.report(made, X, only=["jvp-differences", "vjp-differences"]).findings
    }
    assert "the jvp rule is derived from the vjp rule" in findings["jvp-differences"].notes
    assert not any("derived" in note for note in findings["vjp-differences"].notes)
