from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim import Primitive
from jaxprim.checking.answers import NotAsked, Note
from jaxprim.checking.case import Case
from jaxprim.checking.questions.accuracy import accuracy, unit_in_the_last_place
from jaxprim.checking.reports.report import Evidence
from jaxprim.checking.subject import Subject

X = jnp.array([0.5, 1.0, -2.0])


def case(fn, *operands, believed=None):
    return Case.of(Subject.of(fn, believed), operands, {}, 0)


def notes(it):
    return [item.text for item in accuracy(it) if isinstance(item, Note)]


def test_the_unit_in_the_last_place():
    values = np.array([1.0, 1.5, 2.0, 0.0])
    expected = [np.spacing(np.float32(v)) for v in values[:3]]
    assert unit_in_the_last_place(values, X)[:3].tolist() == expected


def test_errors_are_told_in_ulp_and_where():
    said = notes(case(lambda x: x.at[1].set(jnp.nextafter(x[1], jnp.float32(9))) if x.dtype == jnp.float32 else x, X))
    assert said[0] == "result, at the example's numbers: max error 1 ulp at [1], median 0 ulp"
    assert any(", at nan: " in text for text in said)


def test_other_operands_are_named_where_something_is_off():
    right_at_the_example = lambda x: jnp.where(x == X, x, 2 * x)
    said = notes(case(right_at_the_example, X, believed=lambda x: x))
    named = [
        text.partition(": x=[")
        for text in said
        if text.endswith("; if these are outside the domain, say so with def_domain")
    ]
    assert [place for place, *_ in named] == ["asked at random (1) numbers", "asked at random (2) numbers"]


def halved(x):
    """Goes on for ever at NaN."""
    return jax.lax.while_loop(lambda y: ~(jnp.max(jnp.abs(y)) < 1), lambda y: y / 2, x)


def op(fn):
    made = Primitive("halved")
    made.def_impl(fn)
    return made


@pytest.mark.parametrize("make", [lambda fn: fn, jax.jit, op], ids=["function", "jit", "op"])
def test_a_loop_that_may_not_end_is_asked_at_ordinary_numbers_alone(make):
    said = notes(case(make(halved), X))
    assert said[-1].startswith("not asked at tiny, huge and special numbers: it contains a while loop")
    assert len(said) == 4


def test_overflow_on_the_way_is_told_and_no_failure():
    found = list(accuracy(case(lambda x: x * x * x / (x * x), X)))
    assert all(item.ok for item in found if isinstance(item, Evidence))
    assert any(
        "3 elements differ from float64: got inf, expected " in item.text for item in found if isinstance(item, Note)
    )


def test_without_a_truth():
    with pytest.raises(NotAsked):
        list(accuracy(case(lambda i: i + 1, jnp.array([1, 2]))))
