from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim import Primitive
from jaxprim.checking.answers import NotAsked
from jaxprim.checking.case import Case
from jaxprim.checking.domain import off_the_real_axis
from jaxprim.checking.questions.jvp_differences import note_other_operands
from jaxprim.checking.subject import Subject
from jaxprim.checking.tolerances import Tolerance

X = jnp.array([0.3, 1.0, 2.0])


def case(fn, *operands, seed=0, **params):
    return Case.of(Subject.of(fn), operands, params, seed)


def float32_only(x):
    def kernel(x):
        if x.dtype != np.float32:
            raise TypeError("float32 only")
        return np.sin(x)

    return jax.pure_callback(kernel, jax.ShapeDtypeStruct(x.shape, x.dtype), x)


def notes(it, mode="jvp"):
    return [note.text for note in it.precision_note(mode)]


def test_float64_is_asked_too_where_it_runs():
    it = case(jnp.sin, X)
    assert [precision.label for precision in it.precisions("jvp", "vjp")] == ["float32", "float64"]
    assert it.truth.double
    assert notes(it) == []


def test_a_float64_example_is_asked_once():
    with jax.enable_x64(True):
        it = case(jnp.sin, X.astype(jnp.float64))
        assert [precision.label for precision in it.precisions()] == ["float64"]


def test_a_kernel_for_float32_alone():
    it = case(float32_only, X)
    assert [precision.label for precision in it.precisions()] == ["float32"]
    assert notes(it)[0].startswith("the implementation does not run in float64 (")


def test_another_function_in_float64():
    it = case(lambda x: jnp.sin(x) if x.dtype == jnp.float32 else jnp.cos(x), X)
    assert notes(it) == [
        "the implementation gives other values in float64: differences are taken in float32, with larger steps"
    ]


def test_an_inaccurate_implementation_is_still_the_same_function():
    it = case(lambda x: (1 - jnp.cos(x)) / x**2, jnp.array([3e-3, 0.5]))
    assert it.truth.double
    assert it.working_eps(it.native) > 1e-3
    assert it.working_eps(it.truth) < 1e-8


def test_a_rule_for_float32_alone():
    @jax.custom_jvp
    def square(x):
        return x * x

    @square.defjvp
    def _(primals, tangents):
        return square(*primals), jnp.asarray(2 * primals[0] * tangents[0], jnp.float32)

    it = case(square, X)
    assert [precision.label for precision in it.precisions("jvp")] == ["float32"]
    assert it.truth.double
    assert notes(it)[0].startswith("the jvp rule does not run in float64 (")


def test_the_rounding_that_an_implementation_works_with():
    exact = case(jnp.sin, X)
    assert exact.working_eps(exact.native) < 1e-6
    assert exact.working_eps(exact.truth) < 1e-14
    coarse = case(lambda x: jnp.cumsum(x.astype(jnp.bfloat16)).astype(x.dtype), jnp.linspace(0.1, 2, 30))
    assert coarse.working_eps(coarse.truth) > 1e-4


@pytest.mark.parametrize("fn", [jnp.sin, jnp.linalg.det])
def test_differences_follow_the_derivative(fn):
    x = X if fn is jnp.sin else jnp.array([[2.0, 1.0], [0.5, 3.0]])
    it = case(fn, x)
    direction = it.directions("jvp")[0]
    with jax.enable_x64(True):
        truth = jax.jvp(fn, (jnp.asarray(x, jnp.float64),), (jnp.asarray(direction.tangents[0]),))[1]
    (found,) = it.differences(direction)
    assert np.allclose(found.value, truth, rtol=1e-9)


def test_a_complex_operand_on_the_real_axis_is_also_turned_off_it():
    it, turned = off_the_real_axis(case(lambda z: z * z, X.astype(jnp.complex64)))
    assert it.place == ""
    assert turned.place == ", turned off the real axis"
    assert np.allclose(np.asarray(turned.point.leaves[0]), np.asarray(X) * (1 + 0.3j))
    assert len(off_the_real_axis(case(lambda z: z * z, X.astype(jnp.complex64) * (1 + 1j)))) == 1
    assert len(off_the_real_axis(case(jnp.sin, X))) == 1


def test_evidence_of_two_shapes_is_bad():
    found = case(jnp.sin, X).evidence("jvp", "", "result", np.ones(2), np.ones(3), Tolerance(np.asarray(1.0), ""))
    assert not found.ok
    assert found.message == "shape (2,), expected (3,)"


def test_integers_are_exact_whatever_the_tolerance():
    found = case(jnp.sin, X).evidence(
        "impl", "", "result", np.array([1]), np.array([2]), Tolerance(np.asarray(9.0), "")
    )
    assert not found.ok


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
    assert [note.text for note in note_other_operands(it, "jvp")] == ["the jvp rule does not differentiate n"]


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
