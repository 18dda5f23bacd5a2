"""A `Zero` computes as the array of zeros would: same values, shapes and dtypes, on either side, everywhere.

The truth is the array of zeros.
"""

from __future__ import annotations

import copy
import itertools
import operator
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.interpreters.ad import Zero as JaxZero

from jaxprim import Primitive, Zero, ad

DTYPES = ["float32", "bfloat16", "float16", "complex64"]
OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "@": operator.matmul}


def zeros(zero: Zero) -> jax.Array:
    return jnp.zeros(zero.shape, zero.dtype)


def same(got, expected):
    """Value, shape and dtype; a `Zero` stands for zeros."""
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(np.asarray(got, "complex128"), np.asarray(expected, "complex128"))


def values(shape, dtype="float32"):
    return (jnp.arange(np.prod(shape, dtype=int)).reshape(shape) + 1).astype(dtype)


# ------------------------------------------------------------------------------------------------------------ operators
OTHERS = {
    "array": values((2, 2)),
    "row": values((1, 2)),
    "scalar array": values(()),
    "larger rank": values((3, 2, 2)),
    "numpy": np.array([[1.0, 2.0], [3.0, 4.0]], np.float32),
    "numpy scalar": np.float32(3.0),
    "int": 3,
    "float": 2.5,
    "complex": 2j,
    "weak": jnp.asarray(2.0) * 1,
    "Zero": Zero.of((2, 2), "float32"),
    "JAX's Zero": JaxZero(jax.core.ShapedArray((2, 2), jnp.float32)),
    "itself": None,
}


@pytest.mark.usefixtures("jax_defaults")
@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("sign", OPERATORS)
def test_operators(sign, side, other):
    zero = Zero.of((2, 2), "float32")
    x = zero if other == "itself" else OTHERS[other]
    array = jnp.zeros((2, 2), "float32") if isinstance(x, JaxZero) else x
    pair, arrays = ((zero, x), (zeros(zero), array)) if side == "left" else ((x, zero), (array, zeros(zero)))
    if sign == "@" and (np.ndim(array) == 0 or (side, other) == ("left", "row")):
        with pytest.raises((TypeError, ValueError)):
            OPERATORS[sign](*pair)
        return
    with np.errstate(all="ignore"):
        same(OPERATORS[sign](*pair), OPERATORS[sign](*arrays))


@pytest.mark.parametrize("dtypes", list(itertools.product(DTYPES, DTYPES)), ids="-".join)
@pytest.mark.parametrize("sign", ["+", "-", "*", "/"])
@pytest.mark.usefixtures("jax_defaults")
def test_dtypes_are_promoted(sign, dtypes):
    zero, x = Zero.of((3,), dtypes[0]), values((3,), dtypes[1])
    same(OPERATORS[sign](zero, x), OPERATORS[sign](zeros(zero), x))
    if sign != "/":
        same(OPERATORS[sign](x, zero), OPERATORS[sign](x, zeros(zero)))


def test_products_and_quotients_stay_symbolic():
    zero, x = Zero.of((3,), "float32"), values((3,))
    for fn in (lambda z: z * x, lambda z: x * z, lambda z: z / x, lambda z: -z, lambda z: z @ x, lambda z: x @ z):
        assert type(fn(zero)) is Zero
        assert type(jax.jit(lambda fn=fn: fn(zero))) is not Zero
    assert type(zero * np.ones(3, np.float32)) is Zero
    assert type(np.ones(3, np.float32) * zero) is Zero
    assert type(2.0 * zero) is Zero


def test_products_with_a_tracer_stay_symbolic():
    zero = Zero.of((3,), "float32")

    @jax.jit
    def fn(x):
        assert type(x * zero) is Zero
        assert type(zero * x) is Zero
        assert type(x @ zero) is Zero
        assert (x + zero) is x
        assert (zero + x) is x
        return x

    jax.jvp(jax.vmap(lambda x: fn(x) + fn(x)), (jnp.ones((2, 3)),), (jnp.ones((2, 3)),))


def test_no_inf_times_zero():
    zero = Zero.of((3,), "float32")
    inf = jnp.full(3, jnp.inf)
    assert not np.isnan(np.asarray(inf * zero + 1.0)).any()
    assert not np.isnan(np.asarray(jnp.ones(3) + zero * jnp.nan)).any()


def test_division_by_zero_is_no_zero():
    zero = Zero.of((2,), "float32")
    assert np.isposinf(np.asarray(1.0 / zero)).all()
    assert np.isposinf(np.asarray(jnp.ones(2) / zero)).all()
    assert np.isnan(np.asarray(zero / zero)).all()


@pytest.mark.parametrize("power", [1, 2, 0.5, 0, -1, 0.0])
def test_powers(power):
    zero = Zero.of((2,), "float32")
    same(zero**power, zeros(zero) ** power)


def test_in_place_operators_rebind():
    total = Zero.of((), "float32")
    total += Zero.of((), "float32")
    assert type(total) is Zero
    total += jnp.ones(3)
    total -= 0.5
    total *= 2
    same(total, jnp.ones(3))


def test_sum_of_zero_and_array_is_broadcast_and_promoted():
    with jax.numpy_dtype_promotion("standard"):
        same(Zero.of((), "float32") + values((3,), "bfloat16"), values((3,), "float32"))
        same(Zero.of((3,), "float16") + 1.0, jnp.ones(3, "float16"))
        same(1.0 - Zero.of((3,), "float16"), jnp.ones(3, "float16"))
        same(Zero.of((3,), "float32") - 1j, jnp.zeros(3) - 1j)


def test_shapes_that_do_not_broadcast_raise():
    for fn in (operator.add, operator.mul, operator.sub):
        with pytest.raises((TypeError, ValueError)):
            fn(Zero.of((3,), "float32"), jnp.ones(2))
        with pytest.raises((TypeError, ValueError)):
            fn(jnp.ones(2), Zero.of((3,), "float32"))


def test_strict_promotion_holds_for_zeros_too():
    """As conftest.py has it."""
    with pytest.raises(Exception, match="promotion"):
        Zero.of((3,), "float32") * jnp.ones(3, "float16")
    with pytest.raises(Exception, match="promotion"):
        Zero.of((3,), "float32") + jnp.ones(3, "float16")


def test_sums_of_zeros_of_one_type_skip_the_work():
    x = values((3,))
    assert Zero.of((3,), "float32") + x is x
    assert x - Zero.of((3,), "float32") is x


# ------------------------------------------------------------------------------------------------------------ methods
METHODS = {
    "index": lambda z: z[0],
    "slice": lambda z: z[1:, ::2],
    "new axis": lambda z: z[None, ..., None],
    "array index": lambda z: z[jnp.array([1, 0])],
    "numpy index": lambda z: z[np.array([1, 0]), 1],
    "index tuple": lambda z: z[jnp.array([1]), jnp.array([2])],
    "reshape": lambda z: z.reshape(3, 2),
    "reshape tuple": lambda z: z.reshape((6,)),
    "ravel": lambda z: z.ravel(),
    "flatten": lambda z: z.flatten(),
    "T": lambda z: z.T,
    "mT": lambda z: z.mT,
    "transpose": lambda z: z.transpose(1, 0),
    "swapaxes": lambda z: z.swapaxes(0, 1),
    "squeeze": lambda z: z[None].squeeze(0),
    "astype": lambda z: z.astype("complex64"),
    "sum": lambda z: z.sum(),
    "sum axis": lambda z: z.sum(axis=0, keepdims=True),
    "sum axis by position": lambda z: z.sum(1),
    "mean": lambda z: z.mean(axis=-1),
    "dot": lambda z: z.dot(values((3,))),
    "real": lambda z: z.real,
    "imag": lambda z: z.imag,
    "conj": lambda z: z.conj(),
    "abs": lambda z: abs(z),
    "neg": lambda z: -z,
    "pos": lambda z: +z,
}


@pytest.mark.parametrize("dtype", ["float32", "complex64", "bfloat16"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.usefixtures("jax_defaults")
def test_methods_stay_symbolic(method, dtype):
    zero = Zero.of((2, 3), dtype)
    got = METHODS[method](zero)
    assert type(got) is Zero
    same(got, METHODS[method](zeros(zero)))


def test_attributes():
    zero = Zero.of((2, 3), "float32")
    assert (zero.shape, zero.dtype, zero.ndim, zero.size, len(zero)) == ((2, 3), jnp.float32, 2, 6, 2)
    assert [type(row) for row in zero] == [Zero, Zero]
    assert repr(zero) == "Zero(float32[2,3])"
    with pytest.raises(TypeError):
        len(Zero.of((), "float32"))
    with pytest.raises(TypeError):
        iter(Zero.of((), "float32"))


ARRAY_METHODS = {
    "max": lambda z: z.max(),
    "min": lambda z: z.min(axis=0),
    "clip": lambda z: z.clip(1.0, 2.0),
    "prod": lambda z: z.prod(),
    "cumsum": lambda z: z.cumsum(),
    "argmax": lambda z: z.argmax(),
    "take": lambda z: z.take(jnp.array([0])),
    "var": lambda z: z.var(),
    "copy": lambda z: z.copy(),
    "tolist": lambda z: np.array(z.tolist()),
    "item": lambda z: np.array(z.sum().item()),
    "sort": lambda z: z.sort(),
    "any": lambda z: z.any(),
    "round": lambda z: z.round(),
    "repeat": lambda z: z.repeat(2),
}


@pytest.mark.parametrize("method", ARRAY_METHODS)
def test_other_methods_ask_the_array(method):
    zero = Zero.of((2, 3), "float32")
    same(ARRAY_METHODS[method](zero), ARRAY_METHODS[method](zeros(zero)))
    with pytest.raises(AttributeError):
        zero.no_such_method  # noqa: B018


def test_comparisons_ask_the_array():
    zero, x = Zero.of((3,), "float32"), jnp.array([-1.0, 0.0, 1.0])
    for fn in (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge):
        same(fn(zero, x), fn(zeros(zero), x))
        same(fn(x, zero), fn(x, zeros(zero)))


def test_indexed_updates():
    same(Zero.of((3,), "float32").at[1].set(2.0), jnp.array([0.0, 2.0, 0.0]))
    same(Zero.of((3,), "float32").at[1].add(values((3,))[1]), jnp.array([0.0, 2.0, 0.0]))


def test_conversions():
    zero = Zero.of((), "float32")
    assert float(zero) == 0.0
    assert int(zero) == 0
    assert bool(zero) is False
    assert np.asarray(Zero.of((2,), "bfloat16")).dtype == jnp.bfloat16
    assert np.asarray(Zero.of((2,), "float32"), np.float64).dtype == np.float64
    same(zero.instantiate(), jnp.zeros(()))
    same(jnp.asarray(zero), jnp.zeros(()))
    same(jnp.array(Zero.of((2,), "complex64")), jnp.zeros(2, "complex64"))


def test_copies_and_pickles():
    zero = Zero.of((2,), "float32")
    for other in (copy.copy(zero), copy.deepcopy(zero), pickle.loads(pickle.dumps(zero))):
        assert type(other) is Zero
        same(other, zeros(zero))


def test_zero_if_zero_is_an_accumulator():
    """Always the Zero of the type, whatever is given."""
    x = jnp.ones((2,), "bfloat16")
    assert type(Zero.zero_if_zero(x)) is Zero
    assert Zero.zero_if_zero(x).aval.dtype == jnp.bfloat16
    assert Zero.zero_if_zero(Zero.of((2,), "float32")).shape == (2,)
    assert Zero.zero_if_zero(2.0).shape == ()
    assert ad.Zero is Zero
    y = Zero.zero_if_zero(x)
    y += x
    y += x
    same(y, 2 * x)


def test_isinstance_of_jax_s_own_class():
    assert isinstance(Zero.of((), "float32"), JaxZero)
    assert type(Zero.of((), "float32")) is not JaxZero


# ------------------------------------------------------------------------------------------------ given to JAX: instantiated
FUNCTIONS = {
    "jnp.sin": jnp.sin,
    "jnp.cos": jnp.cos,
    "jnp.add": lambda z: jnp.add(z, 1.0),
    "jnp.where": lambda z: jnp.where(jnp.array([True, False, True]), z, 1.0),
    "jnp.stack": lambda z: jnp.stack([z, jnp.ones(3)]),
    "jnp.concatenate": lambda z: jnp.concatenate([jnp.ones(3), z]),
    "jnp.sum": jnp.sum,
    "jnp.dot": lambda z: jnp.dot(jnp.ones(3), z),
    "jnp.einsum": lambda z: jnp.einsum("i,j->ij", z, jnp.ones(2)),
    "jnp.broadcast_to": lambda z: jnp.broadcast_to(z, (2, 3)),
    "jnp.zeros_like": jnp.zeros_like,
    "jnp.ones_like": jnp.ones_like,
    "jnp.matmul": lambda z: jnp.matmul(jnp.ones((2, 3)), z),
    "jnp.linalg.norm": jnp.linalg.norm,
    "jnp.fft.fft": jnp.fft.fft,
    "lax.mul": lambda z: jax.lax.mul(z, jnp.ones(3)),
    "lax.add on the right": lambda z: jax.lax.add(jnp.ones(3), z),
    "lax.sin": jax.lax.sin,
    "lax.dynamic_slice": lambda z: jax.lax.dynamic_slice(z, (1,), (2,)),
    "jax.nn.relu": jax.nn.relu,
    "jit": lambda z: jax.jit(lambda x: x + 1)(z),
    "vmap": lambda z: jax.vmap(lambda x: x + 1)(z),
    "scan xs": lambda z: jax.lax.scan(lambda c, x: (c + x, x), jnp.zeros(()), z)[1],
    "scan carry": lambda z: jax.lax.scan(lambda c, _: (c + 1, None), z, None, length=2)[0],
    "scan closure": lambda z: jax.lax.scan(lambda c, _: (c + z, None), jnp.ones(3), None, length=2)[0],
    "cond operand": lambda z: jax.lax.cond(True, lambda x: x + 1, lambda x: x, z),
    "cond closure": lambda z: jax.lax.cond(True, lambda: jnp.ones(3) + z, lambda: jnp.ones(3)),
    "while": lambda z: jax.lax.while_loop(lambda c: c[0] < 3, lambda c: c + 1, z),
    "fori": lambda z: jax.lax.fori_loop(0, 3, lambda i, c: c + 1, z),
    "map": lambda z: jax.lax.map(lambda x: x + 1, z),
    "grad": lambda z: jax.grad(lambda x: jnp.sum(x * x))(z),
    "jvp": lambda z: jax.jvp(jnp.sin, (z,), (jnp.ones(3),))[1],
    "jvp tangent": lambda z: jax.jvp(jnp.sin, (jnp.ones(3),), (z,))[1],
    "vjp cotangent": lambda z: jax.vjp(jax.lax.sin, jnp.ones(3))[1](z)[0],
    "checkpoint": lambda z: jax.checkpoint(lambda x: x + 1)(z),
    "custom_jvp": lambda z: jax.nn.silu(z),
    "device_put": jax.device_put,
    "tree.map": lambda z: jax.tree.map(lambda x: x + 1, {"a": z})["a"],
    "pure_callback": lambda z: jax.pure_callback(lambda x: np.asarray(x), jax.ShapeDtypeStruct((3,), jnp.float32), z),
    "np.sin": lambda z: jnp.asarray(np.sin(np.asarray(z))),
    "eval_shape": lambda z: jnp.zeros(jax.eval_shape(lambda x: x, z).shape),
    "stop_gradient": jax.lax.stop_gradient,
}


@pytest.mark.parametrize("inside", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_given_to_jax(function, inside):
    zero, fn = Zero.of((3,), "float32"), FUNCTIONS[function]
    got = jax.jit(lambda: fn(zero))() if inside and function != "np.sin" else fn(zero)
    same(jnp.asarray(got), jnp.asarray(fn(zeros(zero))))


@pytest.mark.parametrize("call", [lambda f: f, jax.jit, jax.vmap], ids=["eager", "jit", "vmap"])
def test_given_to_the_op_itself(call):
    double = Primitive("double")
    double.def_impl(lambda x: 2 * x + 1)
    zero = Zero.of((3,), "float32")
    np.testing.assert_allclose(double(zero), 1.0)
    np.testing.assert_allclose(call(lambda x: double(zero)[0] + x)(jnp.zeros(3)), np.ones(3))
    np.testing.assert_allclose(call(double)(zero), np.ones(3))


def test_returned_from_a_jitted_function():
    got = jax.jit(lambda x: Zero.of((3,), "float32"))(1.0)
    same(got, jnp.zeros(3))


# ---------------------------------------------------------------------------------------------------------- what rules meet
def meets(kind):
    """A primitive of three operands, and what its rules met."""
    met = []
    op = Primitive("op")
    op.def_impl(lambda x, w, n: x * w)

    @op.def_jvp
    def _(primals, tangents):
        met.append([type(t) for t in tangents])
        (x, w, n), (x_dot, w_dot, n_dot) = primals, tangents
        return op(x, w, n), x_dot * w + x * w_dot + n_dot

    @op.def_vjp
    def _(primals):
        x, w, n = primals

        def pullback(y_bar):
            met.append([type(y_bar)])
            return y_bar * w, y_bar * x, y_bar

        return op(x, w, n), pullback

    return op, met


@pytest.mark.parametrize("call", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_rules_meet_zeros_for_what_is_not_perturbed_and_for_integers(call):
    op, met = meets("jvp")
    x = jnp.arange(3.0)
    _, y_dot = call(lambda x: jax.jvp(lambda x: op(x, 2 * jnp.ones(3), jnp.int32(3)), (x,), (x,)))(x)
    np.testing.assert_allclose(y_dot, 2 * x)
    assert met[0][1:] == [Zero, Zero]


WITHOUT_TANGENT = {"int": 2, "bool": True, "array": np.arange(3, dtype="int32"), "key": jax.random.key(0)}


@pytest.mark.parametrize("value", WITHOUT_TANGENT.values(), ids=WITHOUT_TANGENT)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "complex64"])
@pytest.mark.parametrize("jit", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_the_zero_of_an_integer_takes_the_dtype_of_what_it_meets(value, dtype, jit):
    zero, x = Zero.zero_if_zero(value), jnp.ones(3, dtype)
    for found in (zero * x, x * zero, zero / x, x * zero * zero, (zero * 2.0) * x):
        assert isinstance(found, Zero)
        assert (found.shape, found.dtype) == (x.shape, x.dtype)
    for plus in (lambda x: x + zero, lambda x: zero + x, lambda x: x - zero, lambda x: x * 1 + zero * 2.0):
        np.testing.assert_array_equal(jit(plus)(x), x)
        assert jit(plus)(x).dtype == x.dtype
    assert jit(lambda x: jnp.where(x == 1, zero, x))(x).dtype == x.dtype
    assert jnp.sin(zero).shape == jnp.shape(value)
    assert (zero.astype(dtype).dtype, zero[None].shape) == (x.dtype, (1, *jnp.shape(value)))
    np.testing.assert_array_equal(zero.instantiate(), jnp.zeros_like(zero))


def test_results_that_are_zero_stay_symbolic():
    """The derivative of what follows is skipped."""
    ran = []
    first, second = Primitive("first"), Primitive("second")
    first.def_impl(lambda x, y: x)
    first.def_jvp(lambda primals, tangents: (first(*primals), tangents[0] * 1.0))
    second.def_impl(lambda x: x)

    @second.def_jvp
    def _(primals, tangents):
        ran.append(1)
        return second(*primals), tangents[0]

    f = lambda y: second(first(jnp.ones(3), y))
    for call in (lambda f: f, jax.jit):
        _, dot = call(lambda y: jax.jvp(f, (y,), (y,)))(jnp.ones(3))
        np.testing.assert_array_equal(dot, 0)
    assert ran == []


@pytest.mark.parametrize("call", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_cotangents_that_are_zero_reach_the_pullback_as_zeros(call):
    met = []
    both = Primitive("both")
    both.def_impl(lambda x: (2 * x, 3 * x))

    @both.def_vjp
    def _(primals):
        def pullback(primals, bars):
            met.append([type(bar) for bar in bars])
            first, second = bars
            return 2 * first + 3 * second

        return both(*primals), pullback

    got = call(jax.grad(lambda x: jnp.sum(both(x)[1])))(jnp.ones(3))
    np.testing.assert_allclose(got, 3)
    if call is not jax.jit:
        assert met == [[Zero, met[0][1]]]
