from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim import Primitive
from jaxprim.checking.case import Case
from jaxprim.checking.setting import NotAsked
from jaxprim.checking.subject import Subject

X = jnp.array([1.0, 2.0, 3.0])


def case(fn, *operands, seed=0, **params):
    return Case.of(Subject.of(fn), operands, params, seed)


def one_of_two():
    made = Primitive("one_of_two")
    made.def_impl(lambda x, n: x * jnp.round(n))
    made.def_jvp(x=lambda x_dot, y, x, n: x_dot * jnp.round(n))
    made.def_vjp(x=lambda y_bar, y, x, n: y_bar * jnp.round(n))
    return made


def test_a_label_says_which_example():
    def scale(x, factor, *, mode):
        return x * factor

    assert case(scale, X, 2.0, mode="fast").label == "x=float32[3], factor=2.0, mode='fast'"
    assert len(case(scale, X, 2.0, mode=tuple(range(1000))).label) < 120
    assert case(lambda: 1.0).label == "no operands"


def test_what_is_found_once_is_remembered_and_so_is_what_was_raised():
    it, calls = case(jnp.sin, X), []
    for _ in range(2):
        assert it.once("a", lambda: calls.append(1) or 5) == 5
        with pytest.raises(KeyError):
            it.once("b", lambda: (calls.append(2), {}["missing"]))
    assert calls == [1, 2]


def test_a_rule_per_operand_is_asked_for_the_operands_that_it_has():
    it = case(one_of_two(), X, 2.3)
    assert it.wrt("jvp") == it.wrt("vjp") == (0,)
    assert [note.text for note in it.refused("jvp")] == ["the jvp rule does not differentiate n"]


@pytest.mark.parametrize(
    ("fn", "operand", "reason"),
    [
        (lambda i: i + 1, jnp.arange(3), "no operand has tangents"),
        (lambda x: x > 0, X, "no result has tangents"),
    ],
)
def test_there_must_be_something_to_differentiate(fn, operand, reason):
    with pytest.raises(NotAsked, match=reason):
        case(fn, operand).wrt("jvp")


def test_directions_in_all_operands_and_in_each_alone():
    found = case(lambda x, f: x * f, X, 2.0).directions("jvp")
    assert [d.label for d in found] == [
        "all operands, in proportion to its elements",
        "all operands, the same size in every element",
        "x alone",
        "f alone",
    ]
    assert [tuple(d.tangents) for d in found] == [(0, 1), (0, 1), (0,), (1,)]
    assert len(case(jnp.sin, X).directions("jvp")) == 2


def test_probes_follow_from_the_seed():
    one, same, other = case(jnp.sin, X), case(jnp.sin, X), case(jnp.sin, X, seed=1)
    assert np.array_equal(one.cotangents(0)[0], same.cotangents(0)[0])
    assert not np.array_equal(one.cotangents(0)[0], other.cotangents(0)[0])
    assert not np.array_equal(one.cotangents(0)[0], one.cotangents(1)[0])


def test_probes_are_numbers_of_the_example_s_own_dtypes():
    it = case(jnp.sin, X.astype(jnp.bfloat16))
    drawn = it.cotangents(0)[0]
    assert np.array_equal(drawn, np.asarray(drawn.astype(jnp.bfloat16), float))
