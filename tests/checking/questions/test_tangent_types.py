from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxprim.checking.case import Case
from jaxprim.checking.questions.tangent_types import tangent_types
from jaxprim.checking.subject import Subject

X = jnp.array([0.5, 1.0, -2.0])


def case(fn, *operands):
    return Case.of(Subject.of(fn), operands, {}, 0)


def test_integers_and_keys_have_tangents_of_float0():
    def fn(key, x, i):
        return jax.random.split(key), x[i], i + 1

    found = {item.leaf: item for item in tangent_types(case(fn, jax.random.key(0), X, jnp.array([0, 2]))) if item.got}
    assert found["tangent of result[0]"].got == found["tangent of result[0]"].expected == "float0[2]"
    assert found["tangent of result[2]"].got == "float0[2]"
    assert found["cotangent of key"].got == "float0[]"
    assert found["cotangent of i"].got == "float0[2]"
    assert found["cotangent of x"].got == "float32[3]"
