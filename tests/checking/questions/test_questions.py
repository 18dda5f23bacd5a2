from __future__ import annotations

import re

import pytest

from jaxprim.checking.questions import QUESTIONS, find_question


def test_names_are_unique_and_words():
    names = [question.name for question in QUESTIONS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]+[0-9]*(-[a-z]+)*", name) for name in names)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_each_has_one_sentence(question):
    assert question.sentence.endswith("?")
    assert question.sentence.count("?") == 1


def test_find_question():
    assert find_question("jit").name == "jit"
