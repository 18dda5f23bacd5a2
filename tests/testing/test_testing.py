from __future__ import annotations

import jax.numpy as jnp
import pytest

import jaxprim
from jaxprim import CheckFailed, Example, testing

X = jnp.array([1.0, 2.0, 3.0])


def doubled() -> jaxprim.Primitive:
    made = jaxprim.Primitive("doubled")
    made.def_impl(lambda x, *, n=1: n * x)
    made.def_jvp(lambda primals, tangents, *, n: (made(*primals, n=n), 2 * n * tangents[0]))
    return made


def by_name(*args, **kwargs) -> dict[str, testing.Asked]:
    return {asked.name: asked for asked in testing.questions_to(*args, **kwargs)}


def test_a_good_answer_is_a_report():
    report = by_name(doubled(), [(X,)])["jit"]()
    assert (report.ok, [finding.question for finding in report.findings]) == (True, ["jit"])


def test_a_bad_answer_raises_its_breadcrumb():
    asked = by_name(doubled(), [(X,), Example((X,), {"n": 2})], seed=7, where="ops.py:doubled")["jvp-differences"]
    with pytest.raises(CheckFailed) as error:
        asked()
    assert "also bad at example 2: x=float32[3], n=2" in str(error.value)
    assert "factor 2" in str(error.value)
    assert str(error.value).endswith("again: jaxprim check ops.py:doubled --only jvp-differences --seed 7")


def test_a_question_that_does_not_apply_skips():
    with pytest.raises(pytest.skip.Exception, match="only one operand is differentiable"):
        by_name(doubled(), [(X,)])["jvp-zeros"]()


def test_the_examples_of_the_primitive():
    made = doubled()
    made.def_examples(lambda: [(X,)])
    assert by_name(made)["jit"]().ok


def test_questions_can_be_chosen():
    assert list(by_name(jnp.sin, [(X,)], only=["jit", "vmap"], skip="vmap")) == ["jit"]


def test_a_recorded_failure_is_a_strict_xfail():
    asked = by_name(doubled(), [(X,)])["jvp-differences"]
    (mark,) = asked.marks({"doubled": {"jvp-differences": "on purpose"}})
    assert (mark.name, mark.kwargs["reason"], mark.kwargs["strict"]) == ("xfail", "on purpose", True)
    assert asked.marks({"doubled": {"jit": "on purpose"}}) == []


@testing.parametrize(jnp.sin, jnp.cos, examples=[(X,)], only=["abstract-eval", "primal"])
def test_parametrize(question, request):
    assert request.node.callspec.id == f"{question.subject}-{question.name}"
    question()
