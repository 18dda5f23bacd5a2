"""The names that are read from the source are those of the questions."""

from __future__ import annotations

from jaxprim.checking.names import names
from jaxprim.checking.questions import QUESTIONS


def test_each_question_is_found_by_its_name():
    assert names() == sorted(question.name for question in QUESTIONS)
