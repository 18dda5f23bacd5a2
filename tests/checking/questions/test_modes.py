from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from jaxprim.checking.case import Case
from jaxprim.checking.questions.modes import holomorphic, linearize, tangent_types
from jaxprim.checking.reports.report import Evidence
from jaxprim.checking.setting import NotAsked, Note
from jaxprim.checking.subject import Subject

X = jnp.array([0.5, 1.0, -2.0])
Z = jnp.array([1 + 2j, 0.5 - 1j], jnp.complex64)


def case(fn, *operands):
    return Case.of(Subject.of(fn), operands, {}, 0)


def notes(question, it):
    return [item.text for item in question(it) if isinstance(item, Note)]


@pytest.mark.parametrize(
    ("fn", "words"),
    [(jnp.exp, "holomorphic here: "), (jnp.conj, "not holomorphic here: "), (jnp.square, "holomorphic")],
)
def test_whether_it_is_holomorphic_is_told(fn, words):
    assert notes(holomorphic, case(fn, Z))[0].startswith(words)
    assert all(item.ok for item in holomorphic(case(fn, Z)) if isinstance(item, Evidence))


def test_real_functions_are_not_holomorphic():
    with pytest.raises(NotAsked):
        list(holomorphic(case(jnp.sin, X)))
    with pytest.raises(NotAsked):
        list(holomorphic(case(jnp.abs, Z)))


def test_integers_and_keys_have_tangents_of_float0():
    def fn(key, x, i):
        return jax.random.split(key), x[i], i + 1

    found = {item.leaf: item for item in tangent_types(case(fn, jax.random.key(0), X, jnp.array([0, 2]))) if item.got}
    assert found["tangent of result[0]"].got == found["tangent of result[0]"].expected == "float0[2]"
    assert found["tangent of result[2]"].got == "float0[2]"
    assert found["cotangent of key"].got == "float0[]"
    assert found["cotangent of i"].got == "float0[2]"
    assert found["cotangent of x"].got == "float32[3]"


def test_linearize_is_compared_in_value_and_along_two_tangents():
    found = list(linearize(case(jnp.sin, X)))
    assert [item.leaf for item in found] == ["result", "tangent of result", "tangent of result"]
    assert all(item.ok for item in found)
