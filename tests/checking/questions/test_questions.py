from __future__ import annotations

import re
from pathlib import Path

import pytest

from jaxprim.checking import questions
from jaxprim.checking.questions import MODULES, QUESTIONS, find_question


def test_names_are_unique_and_words():
    names = [question.name for question in QUESTIONS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]+[0-9]*(-[a-z]+)*", name) for name in names)


@pytest.mark.parametrize("asked", QUESTIONS, ids=lambda asked: asked.name)
def test_each_has_one_sentence(asked):
    assert asked.sentence.endswith("?")
    assert asked.sentence.count("?") == 1


def test_find_question():
    assert find_question("jit").name == "jit"


def test_a_module_lists_its_own_questions_in_the_order_of_their_functions():
    for module in MODULES:
        own = [q for q in QUESTIONS if q.ask.__module__ == module.__name__]
        assert own, f"{module.__name__} is listed and has no question"
        lines = [q.ask.__code__.co_firstlineno for q in own]
        assert lines == sorted(lines)


def test_every_file_is_listed():
    files = {path.stem for path in Path(questions.__file__).parent.glob("*.py")} - {"__init__"}
    assert files == {module.__name__.rpartition(".")[2] for module in MODULES}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_a_file_bears_the_name_of_its_question_or_of_what_its_questions_share(module):
    own = [q for q in QUESTIONS if q.ask.__module__ == module.__name__]
    stem = module.__name__.rpartition(".")[2]
    shared = {"purity", "other_points", "linearity", "symbolic_zeros", "devices", "equations"}
    assert stem in shared or stem in {q.name.replace("-", "_") for q in own}
