"""A call against a signature."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim import BadCall
from jaxprim.kernels.binding import bind
from jaxprim.kernels.signature import parse


def of(source, *operands, **attributes):
    avals = [jax.typeof(operand) for operand in operands]
    return bind("kernel", parse(source), avals, attributes)


def test_sizes_and_results():
    found = of("(x: f32[n, d], w: f32[d]) -> (f32[n], f32[2*d - 1, 7])", jnp.ones((4, 3)), jnp.ones(3))
    assert found.sizes == {"n": 4, "d": 3}
    assert [r.shape for r in found.results] == [(4,), (5, 7)]


def test_batch_axes_broadcast_and_reach_every_operand():
    found = of("(x: f32[..., d], w: f32[d], y: f32[...]) -> f32[..., d]", jnp.ones((5, 1, 3)), jnp.ones(3), jnp.ones(4))
    assert found.batch == (5, 4)
    assert found.shapes == ((5, 1, 3), (1, 1, 3), (1, 4))
    assert found.results[0].shape == (5, 4, 3)


def test_an_integer_attribute_is_a_size():
    found = of("(x: f32[n]; modes: i64) -> c64[modes, n]", jnp.ones(3), modes=5)
    assert found.results[0].shape == (5, 3)
    assert found.attributes == (("modes", np.int64(5)),)


def test_the_first_strongly_typed_operand_decides_a_type_variable():
    found = of("(a: T, x: T[n]) -> T[n]", 2.0, jnp.ones(3, jnp.complex64))
    assert found.results[0].dtype == jnp.complex64


def test_a_python_number_takes_the_declared_dtype():
    assert of("(x: f32[], k: i8[]) -> f32[]", 2, 3).results[0].dtype == jnp.float32


def test_defaults_of_attributes():
    assert of("(x: f32[n]; eps: f32 = 1e-6) -> f32[n]", jnp.ones(3)).attributes == (("eps", np.float32(1e-6)),)


@pytest.mark.parametrize(("value", "dtype"), [(3, "f32"), (2.5, "f64"), (True, "bool"), (-1, "i8"), (2**63, "u64")])
def test_attributes_of_every_kind(value, dtype):
    ((_, found),) = of(f"(x: f32[n]; a: {dtype}) -> f32[n]", jnp.ones(3), a=value).attributes
    assert found == value


@pytest.mark.parametrize(
    ("value", "dtype"), [(2.5, "i32"), (300, "u8"), (-1, "u64"), ("a", "f32"), ([1.0], "f32"), (2, "bool")]
)
def test_attributes_that_do_not_fit(value, dtype):
    with pytest.raises(BadCall, match="the attribute 'a' has a value that does not fit"):
        of(f"(x: f32[n]; a: {dtype}) -> f32[n]", jnp.ones(3), a=value)


@pytest.mark.parametrize(
    ("source", "operands", "what"),
    [
        ("(x: f32[n]) -> f32[n]", (np.ones(3, np.int32),), "does not have the dtype"),
        ("(x: i32[n]) -> i32[n]", (np.ones(3, np.float32),), "does not have the dtype"),
        ("(x: i32[]) -> i32[]", (2.0,), "does not have the dtype"),
        ("(x: f32[n]) -> f32[n]", (np.ones((3, 3), np.float32),), "wrong rank"),
        ("(x: f32[..., n, d]) -> f32[...]", (np.ones(3, np.float32),), "wrong rank"),
        ("(x: f32[n, n]) -> f32[n]", (np.ones((3, 4), np.float32),), "a size that does not fit"),
        ("(x: f32[3]) -> f32[]", (np.ones(4, np.float32),), "a size that does not fit"),
        ("(x: f32[..., n], y: f32[...]) -> f32[...]", (np.ones((3, 2), "f"), np.ones(2, "f")), "do not broadcast"),
        ("(x: f32[n]) -> f32[n - 4]", (np.ones(3, np.float32),), "negative size"),
        ("(x: f32[n]) -> f32[n]", (), "wrong number of operands"),
    ],
)
def test_operands_that_do_not_fit(source, operands, what):
    with pytest.raises(BadCall, match=what):
        of(source, *operands)


@pytest.mark.parametrize(
    ("source", "what"), [("n // (n - 3)", "divided by 0"), (f"n * {2**62}", "larger than any memory")]
)
def test_sizes_that_no_array_has(source, what):
    with pytest.raises(BadCall, match=what):
        of(f"(x: f32[n]) -> f32[{source}]", jnp.ones(3))


def test_python_numbers_of_two_kinds():
    for operands in ((2, 1.5), (1.5, 2)):
        assert of("(x: T, y: T) -> T", *operands).results[0].dtype == jnp.float32


def test_the_advice_loses_nothing():
    with pytest.raises(BadCall, match=r"write: +jnp.asarray\(x, 'complex64'\)  # it says the dtype of y"):
        of("(x: T, y: T) -> T", jnp.ones(3), jnp.ones(3, jnp.complex64))
    with pytest.raises(BadCall, match=r"write: +f32 in the signature"):
        of("(x: i32[n]) -> i32[n]", jnp.ones(3))


def test_a_number_is_no_64_bit_operand_without_x64():
    with pytest.raises(BadCall, match="jax_enable_x64"):
        of("(x: f64[]) -> f64[]", 1.0)


def test_symbolic_batch_axes():
    (b,) = jax.export.symbolic_shape("b")
    aval = jax.eval_shape(lambda: jnp.ones(()))
    x, y = jax.ShapeDtypeStruct((b, 3), aval.dtype), jax.ShapeDtypeStruct((3,), aval.dtype)
    found = bind(
        "kernel", parse("(x: f32[..., n], y: f32[..., n]) -> f32[..., n + 1]"), [jax.typeof(x), jax.typeof(y)], {}
    )
    assert found.results[0].shape == (b, 4)


def test_an_attribute_must_be_one_that_xla_passes():
    with pytest.raises(BadCall, match="the attribute 'a' would be a c64 number"):
        of("(x: T[n]; a: T) -> T[n]", jnp.ones(3, jnp.complex64), a=1)


@pytest.mark.parametrize("value", [1e40, [1, [2]], 10**400, np.array([1.0]), b"a", None])
def test_attributes_that_a_float_cannot_hold(value):
    with pytest.raises(BadCall, match="the attribute 'a'"):
        of("(x: f32[n]; a: f32) -> f32[n]", jnp.ones(3), a=value)
