from __future__ import annotations

import jax.numpy as jnp

from jaxprim.checking.case import Case
from jaxprim.checking.questions.linearize import linearize
from jaxprim.checking.subject import Subject

X = jnp.array([0.5, 1.0, -2.0])


def case(fn, *operands):
    return Case.of(Subject.of(fn), operands, {}, 0)


def test_linearize_is_compared_in_value_and_along_two_tangents():
    found = list(linearize(case(jnp.sin, X)))
    assert [item.leaf for item in found] == ["result", "tangent of result", "tangent of result"]
    assert all(item.ok for item in found)
