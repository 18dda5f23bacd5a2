from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from jaxprim.checking.answers import NotAsked, Note
from jaxprim.checking.case import Case
from jaxprim.checking.questions.x64 import x64
from jaxprim.checking.subject import Subject

X = jnp.array([0.5, 1.0, -2.0])


def case(fn, *operands):
    return Case.of(Subject.of(fn), operands, {}, 0)


def notes(question, it):
    return [item.text for item in question(it) if isinstance(item, Note)]


def test_a_result_of_another_type_with_64_bits_is_told():
    wide = lambda x: jnp.asarray(x, float)
    assert notes(x64, case(wide, X)) == ["result is float64[3] with jax_enable_x64 on, otherwise float32[3]"]
    with jax.enable_x64(True), pytest.raises(NotAsked):
        list(x64(case(jnp.sin, X.astype(jnp.float64))))
