"""`from_numpy`."""

from __future__ import annotations

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim import BadCall, HostError, RuleMissing, from_numpy


def test_one_line():
    sinc = from_numpy(np.sinc)
    assert sinc.name == "sinc"
    x = jnp.linspace(-1, 1, 5, dtype=jnp.float32)
    np.testing.assert_allclose(jax.jit(jax.vmap(sinc))(x), np.sinc(x), rtol=1e-6)
    with pytest.raises(RuleMissing):
        jax.grad(sinc)(1.0)


@pytest.mark.parametrize(
    "like",
    [
        "b",
        "(f32[n, n], f32[n]) -> f32[n]",
        jax.ShapeDtypeStruct((3,), np.float32),
        np.zeros(3, np.float32),
        lambda a, b: b,
    ],
    ids=["operand", "signature", "type", "array", "function"],
)
def test_the_type_of_the_result(like):
    solve = from_numpy(lambda a, b: np.linalg.solve(a, b), like=like, name="solve")
    a, b = np.eye(3, dtype=np.float32) * 2, np.ones(3, np.float32)
    np.testing.assert_allclose(jax.jit(solve)(a, b), b / 2)


def test_several_results():
    both = from_numpy(lambda x: (x + 1, {"k": x.sum()}), like=lambda x: (x, {"k": jax.ShapeDtypeStruct((), x.dtype)}))
    first, second = jax.jit(both)(np.ones(3, np.float32))
    assert (first.tolist(), float(second["k"])) == ([2, 2, 2], 3)


def test_operands_broadcast_by_default():
    assert from_numpy(np.hypot)(np.ones((3, 1), np.float32), np.ones(2, np.float32)).shape == (3, 2)


@pytest.mark.parametrize(
    ("like", "note"),
    [
        (None, "the operands' types, broadcast as in arithmetic"),
        ("x", "the type of operand 'x'"),
        ("(f32[n]) -> f32[n]", "the signature (f32[n]) -> f32[n]"),
        (jax.ShapeDtypeStruct((3,), np.float32), "the type that like= gives, for all operands"),
    ],
)
def test_explain_says_what_from_numpy_wrote(like, note):
    p = from_numpy(lambda x: x, like=like, name="p")
    place = f"{__file__.rpartition('/')[2]}:{sys._getframe().f_lineno - 1}"
    row = p.explain()["abstract_eval"]
    assert row.origin.endswith(place)
    assert row.notes == (f"written by from_numpy: {note}",)


def test_explain_says_nothing_of_the_author_s_own_rule():
    assert from_numpy(lambda x: x, like=lambda x: x, name="p").explain()["abstract_eval"].notes == ()


def test_what_cannot_be_read():
    with pytest.raises(BadCall, match="like='y' is not an operand"):
        from_numpy(lambda x: x, like="y", name="p")
    with pytest.raises(BadCall, match="unknown derivative"):
        from_numpy(np.sinc, derivative="exact")


def test_partials_of_ufuncs():
    double = from_numpy(functools.partial(np.multiply, np.float32(2)), name="double")
    x = jnp.arange(3.0)
    assert double(x).tolist() == jax.jit(double)(x).tolist() == jax.vmap(double)(x).tolist() == [0, 2, 4]
    into = from_numpy(functools.partial(np.add, dtype=np.float32), name="into")
    assert into(x, x).tolist() == [0, 2, 4]


def test_options_of_numpys_functions_are_static():
    norm = from_numpy(np.linalg.norm, like="(f32[n]) -> f32[]")
    assert float(norm(jnp.array([3.0, 4.0]))) == 5
    assert float(jax.jit(lambda x: norm(x, ord=1))(jnp.array([3.0, 4.0]))) == 7
    assert from_numpy(np.cumsum)(jnp.ones(3)).tolist() == [1, 2, 3]
    with pytest.raises(BadCall, match="pass ord, axis, keepdims by keyword"):
        norm(jnp.ones(2), 1)


def test_attributes_of_a_signature_are_static_params():
    ones = from_numpy(lambda x, *, n: np.ones(n, np.float32), like="(f32[m]; n: i64) -> f32[n]", name="ones")
    assert ones(jnp.ones(2), n=3).shape == (3,)


@pytest.mark.parametrize(
    ("like", "operands", "what"),
    [
        (None, (), "the type of the result is not known"),
        (None, (np.ones(3), np.ones(2)), "the type of the result is not known"),
        ("(f32[n]) -> f32[n]", ({"a": np.ones(3, np.float32)},), "operand 0 is not one array"),
        ("x", (np.ones(3, ">f4"),), "another byte order"),
    ],
)
def test_calls_that_cannot_be_meant(like, operands, what):
    with pytest.raises(BadCall, match=what):
        from_numpy(lambda *x: x[0] if x else 0.0, like=like if like != "x" else lambda x: x, name="host")(*operands)


def test_a_type_that_is_none():
    with pytest.raises(BadCall, match="like= is not the type of a result"):
        from_numpy(lambda x: x, like=object(), name="host")


def test_results_of_another_byte_order_are_taken():
    host = from_numpy(lambda x: (2 * x).astype(">f4"), like="x", name="host")
    assert host(jnp.arange(3.0)).tolist() == jax.jit(host)(jnp.arange(3.0)).tolist() == [0, 2, 4]


def test_a_64_bit_result_without_x64_names_the_option():
    host = from_numpy(lambda x: np.asarray(x, np.float64), like="(f32[n]) -> f64[n]", name="host")
    with jax.enable_x64(False), pytest.raises(HostError, match="jax_enable_x64"):
        host(jnp.ones(3, np.float32))


def test_a_result_is_cast_if_asked_for():
    """SciPy answers in float64: with cast=True in what the operands have, under every transformation."""
    host = from_numpy(lambda x: np.asarray(x, np.float64) ** 2, cast=True, derivative="finite differences", name="host")
    for dtype in (jnp.float16, jnp.bfloat16, jnp.float32):
        x = jnp.asarray([1.0, -3.0], dtype)
        found = jax.jit(jax.vmap(host))(x)
        assert (found.dtype, found.tolist()) == (dtype, [1.0, 9.0])
    slope, back = jax.jvp(host, (x,), (jnp.ones_like(x),))[1], jax.grad(lambda x: host(x).sum())(x)
    assert slope.dtype == back.dtype == jnp.float32
    np.testing.assert_allclose([slope, back], [[2.0, -6.0]] * 2, rtol=1e-4)


@pytest.mark.parametrize(
    ("result", "like", "wanted"),
    [
        (np.int64([1, 2]), "(f32[n]) -> i32[n]", [1, 2]),
        (np.bool_([True, False]), "(f32[n]) -> f32[n]", [1.0, 0.0]),
        (np.float64([1.5, 2.5]), "(f32[n]) -> c64[n]", [1.5, 2.5]),
        (np.int64([1, 2**40]), "(f32[n]) -> i32[n]", None),
        (np.int64([-1, 2]), "(f32[n]) -> u8[n]", None),
        (np.float64([1.0, 2.0]), "(f32[n]) -> i32[n]", None),
        (np.complex128([1.0, 2.0]), "(f32[n]) -> f32[n]", None),
        (np.float64([1.0, 2.0, 3.0]), "(f32[n]) -> f32[n]", None),
    ],
)
def test_a_cast_loses_digits_and_nothing_else(result, like, wanted):
    host = from_numpy(lambda x: result, like=like, cast=True, name="host")
    if wanted is not None:
        assert host(np.float32([1, 2])).tolist() == wanted
        return
    with pytest.raises(HostError, match="different type than like= declares"):
        host(np.float32([1, 2]))


def test_results_that_no_like_declares_say_to_give_one():
    """A function that returns a value and its error, as SciPy's quad does."""
    quad = from_numpy(lambda x: (x, 1e-8), name="quad")
    with pytest.raises(HostError) as raised:
        quad(jnp.float32(1))
    assert "than the default of like= declares" in str(raised.value)
    assert "write:    return y  # or give like=" in str(raised.value)
