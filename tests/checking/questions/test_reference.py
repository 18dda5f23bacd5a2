from __future__ import annotations

import math

import jax.numpy as jnp

from jaxprim.checking.case import Case
from jaxprim.checking.questions.reference import reference
from jaxprim.checking.subject import Subject

X = jnp.array([0.5, 1.0, -2.0])


def case(fn, *operands, believed=None):
    return Case.of(Subject.of(fn, believed), operands, {}, 0)


def test_a_reference_of_numbers_is_applied_to_each_element():
    """As those of mpmath are."""
    assert all(item.ok for item in reference(case(jnp.sin, X, believed=math.sin)))
    assert not all(item.ok for item in reference(case(jnp.sin, X, believed=math.cos)))


def test_a_reference_with_another_number_of_results():
    (bad,) = reference(case(jnp.sin, X, believed=lambda x: (x, x)))
    assert bad.message == "1 results, but the reference gives 2"
