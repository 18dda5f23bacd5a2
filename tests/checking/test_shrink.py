from __future__ import annotations

import jax.numpy as jnp
import pytest

from jaxprim.checking import shrink
from jaxprim.checking.case import Case
from jaxprim.checking.reports.report import Evidence
from jaxprim.checking.run import find
from jaxprim.checking.subject import Subject


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """On a busy machine too."""
    monkeypatch.setattr(shrink, "PATIENCE", 60.0)


def case(*operands):
    return Case.of(Subject.of((lambda x: x) if len(operands) == 1 else (lambda x, f: x * f)), operands, {}, 0)


def wrong_if(condition):
    def ask(it):
        yield Evidence("jvp", "the truth", "x", ok=not condition(*it.point.leaves))

    return ask


def smallest(condition, *operands):
    it = case(*operands)
    return shrink.smallest(wrong_if(condition), it, [e for e in wrong_if(condition)(it) if not e.ok])


def test_one_element_of_two_digits():
    assert smallest(lambda x: True, jnp.full((40, 3), 1.2345)) == "x=float32[1,1] [[1.2]]"


def test_no_smaller_than_what_fails():
    assert smallest(lambda x, f: x.size > 5, jnp.full(40, 1.5), 2.0) == "x=float32[10], f=2.0"
    assert smallest(lambda x: x.size > 39, jnp.full(40, 1.5)) == ""


def test_what_refuses_smaller_operands_is_left():
    def condition(x):
        if x.size < 4:
            raise ValueError("four at least")
        return True

    assert smallest(condition, jnp.full(9, 1.5)) == "x=float32[4] [1.5, 1.5, 1.5, 1.5]"


def test_an_exception_is_not_made_smaller():
    bad = [Evidence("jvp", "raised", message="no", ok=False)]
    assert shrink.smallest(wrong_if(lambda x: True), case(jnp.ones(3)), bad) == ""


def test_a_finding_tells_it_once():
    from jaxprim.checking.questions import Question

    it = case(jnp.full(8, 1.5))
    question = Question("wrong", "Is it?", wrong_if(lambda x: True))
    assert find(question, it).notes == ("it also fails at x=float32[1] [1.5]",)
    assert find(question, it).notes == ()
