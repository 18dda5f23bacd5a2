from __future__ import annotations

import jax.numpy as jnp
import pytest

from jaxprim.checking.answers import NotAsked
from jaxprim.checking.case import Case
from jaxprim.checking.questions.symbolic_zeros import jvp_zeros, subsets, vjp_zeros
from jaxprim.checking.subject import Subject

X = jnp.array([0.5, 1.0, -2.0])


def case(fn, *operands):
    return Case.of(Subject.of(fn), operands, {}, 0)


def test_every_proper_subset_of_a_few_and_the_extremes_of_many():
    assert subsets((0, 1)) == [(0,), (1,)]
    assert len(subsets(range(4))) == 14
    assert len(subsets(range(6))) == 12
    assert subsets((0,)) == []


@pytest.mark.parametrize("question", [jvp_zeros, vjp_zeros])
def test_one_operand_and_one_result_leave_nothing_to_ask(question):
    with pytest.raises(NotAsked):
        list(question(case(jnp.sin, X)))


def test_every_subset_is_asked():
    found = list(jvp_zeros(case(lambda x, y, f: x * y * f, X, X, 2.0)))
    assert len(found) == 6
    assert found[0].against == "arrays of zeros, perturbing x"
    assert all(item.ok for item in found)


def test_unused_results_are_asked():
    found = list(vjp_zeros(case(lambda x: (jnp.sin(x), jnp.cos(x)), X)))
    assert [item.against for item in found] == [
        "arrays of zeros, using only result[0]",
        "arrays of zeros, using only result[1]",
    ]
    assert all(item.ok for item in found)
