from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim import Primitive
from jaxprim.checking.answers import NotAsked, Note
from jaxprim.checking.case import Case
from jaxprim.checking.questions.second_order import MIXES, mixes, second_order, symmetry, third_order
from jaxprim.checking.reports.report import Evidence
from jaxprim.checking.subject import Subject

X = jnp.array([0.5, 1.0, -2.0])
Y = jnp.array([1.5, 0.7, 2.0])


def case(fn, *operands):
    return Case.of(Subject.of(fn), operands, {}, 0)


def evidence(question, it):
    return [item for item in question(it) if isinstance(item, Evidence)]


def test_the_number_is_the_second_derivative():
    it = case(lambda x, y: x * x * y, X, Y)
    found = evidence(mixes, it)
    assert {item.against.split()[0] for item in found} == set(MIXES) - {"fwd-fwd"}
    s, t = ({i: it.relative(i, 20 + draw) for i in range(2)} for draw in range(2))
    x, y, c = np.asarray(X, float), np.asarray(Y, float), it.cotangents(20)[0]
    truth = np.sum(c * (2 * y * s[0] * t[0] + 2 * x * (s[0] * t[1] + s[1] * t[0])))
    assert found[0].expected == pytest.approx(truth, rel=1e-5)


@pytest.mark.parametrize("question", [second_order, mixes, symmetry, third_order])
def test_right_functions(question):
    z = jnp.array([1 + 2j, 0.5 - 1j], jnp.complex64)
    for it in (
        case(jnp.exp, z),
        case(lambda z: jnp.abs(z) ** 2, z),
        case(lambda x, i: x[i] ** 3, X, jnp.array([0, 2])),
    ):
        found = evidence(question, it)
        assert found
        assert all(item.ok for item in found), next(item for item in found if not item.ok)


@pytest.mark.parametrize("wrong", ["jvp", "vjp"])
def test_a_third_order_that_is_wrong_in_one_mode_is_found(wrong):
    slopes = [jnp.cos, lambda x: -jnp.sin(x), lambda x: -jnp.cos(x)]
    made = [Primitive(f"derivative_{k}") for k in range(3)]

    def define(k, forward, reverse):
        made[k].def_impl([jnp.sin, *slopes][k])
        slope = made[k + 1] if k < 2 else slopes[2]
        made[k].def_jvp(lambda primals, tangents: (made[k](*primals), forward * slope(*primals) * tangents[0]))
        made[k].def_vjp(lambda primals: (made[k](*primals), lambda c: (reverse * slope(*primals) * c,)))

    for k in range(3):
        define(k, 2 if (k, wrong) == (2, "jvp") else 1, 2 if (k, wrong) == (2, "vjp") else 1)
    assert any(not item.ok for item in evidence(third_order, case(made[0], X)))


def test_rules_of_other_operations_that_take_part_are_named_where_something_is_off():
    sine, cosine = Primitive("sine"), Primitive("cosine")
    sine.def_impl(jnp.sin)
    cosine.def_impl(jnp.cos)
    sine.def_jvp(lambda primals, tangents: (sine(*primals), cosine(*primals) * tangents[0]))
    notes = []
    for sign in (1, -1):
        cosine.def_jvp(lambda primals, tangents, s=sign: (cosine(*primals), s * jnp.sin(primals[0]) * tangents[0]))
        notes.append([item.text for item in second_order(case(sine, X)) if isinstance(item, Note)])
    (note,), right = notes
    assert note.startswith("rules of other operations take part, so check these too: jvp of cosine, ")
    assert "test_second_order.py:" in note
    assert right == []


def test_a_custom_vjp_is_asked_what_jax_has_for_it():
    sine = jax.custom_vjp(jnp.sin)
    sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, ct: (ct * jnp.cos(x),))
    found = list(mixes(case(sine, X)))
    assert [item.against.split()[0] for item in found if isinstance(item, Evidence)] == ["rev-rev"]
    assert [note.text.split(":")[1].strip() for note in found if isinstance(note, Note)] == ["fwd-fwd", "rev-fwd"]
    assert all(item.ok for item in evidence(second_order, case(sine, X)))


def test_an_opaque_rule_has_no_second_derivative():
    made = Primitive("opaque")
    made.def_host(lambda x: np.sin(x))
    made.def_abstract_eval(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype))
    slope = Primitive("slope")
    slope.def_host(lambda x: np.cos(x))
    slope.def_abstract_eval(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype))
    made.def_jvp(lambda primals, tangents: (made(*primals), slope(*primals) * tangents[0]))
    with pytest.raises(NotAsked, match="slope: forward-mode differentiation"):
        list(second_order(case(made, X)))


def test_nothing_to_differentiate():
    for question in (second_order, mixes, symmetry, third_order):
        with pytest.raises(NotAsked):
            list(question(case(lambda i: i + 1, jnp.array([1, 2]))))
