from __future__ import annotations

import jax.numpy as jnp
import pytest

from jaxprim.checking.answers import NotAsked, Note
from jaxprim.checking.case import Case
from jaxprim.checking.questions.holomorphic import holomorphic
from jaxprim.checking.reports.report import Evidence
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
