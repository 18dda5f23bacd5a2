"""The checker must be right in the other direction too: no question fails on a right operation."""

from __future__ import annotations

import os
from collections.abc import Iterator

import jax
import numpy as np
import pytest
from rights import RIGHTS, Right

from jaxprim import Example
from jaxprim.checking.questions import QUESTIONS, Question, find_question
from jaxprim.checking.run import ask, cases
from jaxprim.checking.subject import Subject

# The questions that are asked of every right operation here. Each of the others is asked of every sixth, as all of all
# take minutes: JAXPRIM_ALL_QUESTIONS=1 asks them.
ALWAYS = {
    *("abstract-eval", "implementations", "primal", "jvp-differences", "vjp-differences", "dot-product"),
    *("jvp-linear", "vjp-linear", "jvp-zeros", "vjp-zeros", "tangent-types", "linearize", "which-rule"),
}
# The questions that each of these is hard on.
HARD = {
    "squares that underflow": {"zero-operands", "elsewhere"},
    "exponentials near the end of float16": {"zero-operands"},
    "overflows in float16 alone": {"dtypes"},
    "condition of 1e10": {"dtypes", "second-order"},
    "ends at an invented zero": {"zero-operands"},
    "split pullback": {"split", "communication"},
}
EVERY = 1 if os.environ.get("JAXPRIM_ALL_QUESTIONS") else 6


def questions_for(place: int) -> Iterator[Question]:
    hard = HARD.get(RIGHTS[place].name, set())
    others = [question for question in QUESTIONS if question.name not in ALWAYS]
    for question in QUESTIONS:
        if question.name in ALWAYS | hard or (place + others.index(question)) % EVERY == 0:
            yield question


@pytest.mark.parametrize("right", RIGHTS, ids=repr)
@pytest.mark.usefixtures("jax_defaults")
def test_no_question_fails(right: Right):
    subject, inputs = Subject.of(right.fn), [Example(right.operands)]
    with jax.enable_x64(any(isinstance(x, np.ndarray) and x.dtype == np.float64 for x in right.operands)):
        findings = list(ask(cases(subject, inputs), questions_for(RIGHTS.index(right))))
    assert all(finding.ok for finding in findings), "\n".join(f.text() for f in findings if not f.ok)


@pytest.mark.usefixtures("jax_defaults")
@pytest.mark.parametrize(
    ("name", "skipped"),
    [
        ("reverse only", {"jvp-differences", "dot-product", "jvp-linear", "jvp-zeros", "vmap-jvp"}),
        ("forward only", {"vjp-differences", "dot-product", "vjp-linear", "vjp-zeros", "vmap-vjp"}),
        ("integers alone", {"jvp-differences", "vjp-differences", "dot-product", "jvp-linear", "vjp-linear"}),
        ("host without rules", {"jvp-differences", "vjp-differences", "primal", "which-rule"}),
    ],
)
def test_what_does_not_apply_is_skipped_and_says_why(name: str, skipped: set[str]):
    right = next(right for right in RIGHTS if right.name == name)
    asked = [question for question in QUESTIONS if question.name in skipped]
    subject, inputs = Subject.of(right.fn), [Example(right.operands)]
    findings = {finding.question: finding for finding in ask(cases(subject, inputs), asked)}
    for question in skipped:
        assert findings[question].status == "skipped", findings[question].text()
        assert findings[question].reason


@pytest.mark.usefixtures("jax_defaults")
def test_a_surrogate_is_a_departure_with_its_reason():
    right = next(right for right in RIGHTS if right.name == "straight-through")
    asked = [find_question("vjp-differences"), find_question("vjp-linear")]
    found = {f.question: f for f in ask(cases(Subject.of(right.fn), [Example(right.operands)]), asked)}
    assert found["vjp-differences"].status == found["vjp-linear"].status == "surrogate"
    assert "the gradient passes as if nothing was rounded" in found["vjp-differences"].reason


@pytest.mark.usefixtures("jax_defaults")
@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("hard-coded float32 kernel", "the implementation does not run in float64"),
        ("garbled in float64", "the implementation gives other values in float64"),
        ("rule for float32 alone", "the jvp rule does not run in float64"),
        ("kink at the point", "lie on a kink"),
        ("one operand of two", "the jvp rule does not differentiate n"),
    ],
)
def test_a_note_says_what_the_numbers_rest_on(name: str, note: str):
    right = next(right for right in RIGHTS if right.name == name)
    (found,) = ask(cases(Subject.of(right.fn), [Example(right.operands)]), [find_question("jvp-differences")])
    assert any(note in text for text in found.notes), found.notes
