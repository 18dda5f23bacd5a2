from __future__ import annotations

import jax.numpy as jnp
import pytest

from jaxprim import Primitive
from jaxprim.checking.answers import Note
from jaxprim.checking.case import Case
from jaxprim.checking.questions.shapes import shapes
from jaxprim.checking.subject import Subject

X = jnp.array([0.5, 1.0, -2.0])


def case(fn, *operands):
    return Case.of(Subject.of(fn), operands, {}, 0)


def notes(question, it):
    return [item.text for item in question(it) if isinstance(item, Note)]


def test_a_function_of_matrices_need_not_take_numbers():
    said = notes(shapes, case(lambda a: jnp.linalg.inv(a), jnp.eye(2)))
    assert [text.partition(":")[0] for text in said] == ["not asked for empty operands", "not asked for scalars"]


def test_a_rule_of_the_wrong_type_is_no_excuse():
    made = Primitive("wrong")
    made.def_impl(lambda x: 2 * x)
    made.def_jvp(lambda primals, tangents: (made(*primals), jnp.atleast_1d(2 * tangents[0])))
    with pytest.raises(TypeError, match="JVP rule"):
        list(shapes(case(made, X)))
