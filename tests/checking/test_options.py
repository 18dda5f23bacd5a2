from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import jaxprim
from jaxprim import BadCall, Example, Primitive
from jaxprim.checking import options
from jaxprim.checking.questions import QUESTIONS


def dropout(x, *, seed=3):
    return x * seed


def test_questions_are_chosen():
    assert options.questions() == tuple(q for q in QUESTIONS if q.speed != "thorough")
    assert options.questions(speed="thorough") == QUESTIONS
    assert [q.name for q in options.questions(only="vmap")] == ["vmap"]
    assert "vmap" not in [q.name for q in options.questions(skip=["vmap"])]


def test_a_question_that_is_named_is_asked_however_fast():
    named = [q.name for q in options.questions(only=["jit", "which-rule"], speed="fast")]
    assert named == ["jit", "which-rule"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"only": "jvp-diferences"}, 'write:    only="jvp-differences"'),
        ({"skip": ["none"]}, "no such question"),
        ({"only": "jit", "skip": "jit"}, "no question is left"),
        ({"speed": "slow"}, "no such speed"),
    ],
)
def test_what_cannot_be_chosen(given, message):
    with pytest.raises(BadCall, match=message):
        options.questions(**given)


def test_the_seed_and_the_choice_reach_the_findings():
    report = jaxprim.report(jnp.sin, jnp.ones(2), seed=5, only=["jit", "vmap"])
    assert (report.seed, [f.question for f in report.findings]) == (5, ["jit", "vmap"])


def test_a_keyword_that_two_could_mean_is_refused():
    with pytest.raises(BadCall) as error:
        jaxprim.report(dropout, 1.0, seed=0)
    assert str(error.value) == (
        "dropout: seed= is ambiguous.\n"
        "  got:      seed=, which is an option of check and report, and an argument of dropout\n"
        "  expected: operands and params of dropout in an Example, options outside it\n"
        '  write:    jaxprim.check(dropout, jaxprim.Example((x, ...), {"seed": ...}))'
    )


def test_the_same_of_a_primitive():
    made = Primitive("dropout")
    made.def_impl(dropout)
    with pytest.raises(BadCall, match="seed= is ambiguous"):
        made.check(1.0, seed=4)
    report = made.check(Example((1.0,), {"seed": 2}), seed=4, only="jit")
    assert (report.seed, report.findings[0].example) == (4, "x=1.0, seed=2")


def test_several_examples():
    report = jaxprim.report(dropout, Example((1.0,)), Example((np.ones(2, np.float32),), {"seed": 4}), only="jit")
    assert [f.example for f in report.findings] == ["example 1: x=1.0", "example 2: x=float32[2], seed=4"]


def test_examples_stand_alone():
    with pytest.raises(BadCall, match="dropout: got both examples and operands to check"):
        jaxprim.report(dropout, Example((1.0,)), 2.0)
    with pytest.raises(BadCall, match="dropout: got a param together with examples"):
        jaxprim.report(dropout, Example((1.0,)), power=2)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ((1.0, 2.0), "operands must be a tuple.\n  got:      a float"),
        (((1.0,), [2]), "params must be a mapping.\n  got:      a list"),
    ],
)
def test_an_example_is_a_tuple_and_a_mapping(given, problem):
    with pytest.raises(BadCall) as error:
        Example(*given)
    assert str(error.value) == (
        f"Example: the {problem}\n"
        "  expected: the operands in a tuple, then the static params in a dict\n"
        '  write:    Example((x, y), {"order": 2})'
    )
