"""The forms in which a rule may be written, and what rules are given. The truth is a closed form."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim import Primitive, RuleMissing, RuleWrong, Zero, ad, primitive

X = jnp.array([1.0, 2.0, 3.0])
CALLS = {"eager": lambda f: f, "jit": jax.jit}


@pytest.fixture(params=CALLS, name="call")
def _call(request):
    return CALLS[request.param]


def scale(**kwargs):
    op = Primitive("scale", **kwargs)
    op.def_impl(lambda x, factor: x * factor)
    return op


def close(got, expected):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), got, expected)


def check_scale(op, call, *, forward=True, reverse=True):
    """Both derivatives of x * factor in both operands, together and alone."""
    if forward:
        close(call(lambda x: jax.jvp(op, (x, 2.0), (x, 3.0)))(X), (2 * X, 5 * X))
        close(call(lambda x: jax.jvp(lambda x: op(x, 2.0), (x,), (x,)))(X), (2 * X, 2 * X))
        close(call(lambda x: jax.jvp(lambda f: op(x, f), (2.0,), (3.0,)))(X), (2 * X, 3 * X))
    if reverse:
        loss = lambda x, f: jnp.sum(op(x, f))
        close(call(lambda x: jax.grad(loss, (0, 1))(x, 2.0))(X), (jnp.full(3, 2.0), 6.0))
        close(call(lambda x: jax.grad(loss, 0)(x, 2.0))(X), jnp.full(3, 2.0))
        close(call(lambda x: jax.grad(loss, 1)(x, 2.0))(X), 6.0)


# -------------------------------------------------------------------------------------------------------- the VJP's forms
def pullback_alone(primals):
    x, factor = primals
    return x * factor, lambda y_bar: (y_bar * factor, jnp.sum(y_bar * x))


def with_residuals(primals):
    def pullback(residuals, y_bar):
        x, factor = residuals
        return y_bar * factor, jnp.sum(y_bar * x)

    return primals[0] * primals[1], primals, pullback


def residuals_are_the_primals(primals):
    def pullback(residuals, y_bar):
        x, factor = residuals
        return y_bar * factor, jnp.sum(y_bar * x)

    return primals[0] * primals[1], pullback


def what_jax_vjp_returns(primals):
    return jax.vjp(lambda x, factor: x * factor, *primals)


def with_defaults(primals):
    """Only required positionals count."""
    x, factor = primals
    return x * factor, lambda y_bar, x=x, factor=factor: (y_bar * factor, jnp.sum(y_bar * x))


def of_a_partial(primals):
    def pullback(x, factor, y_bar):
        return y_bar * factor, jnp.sum(y_bar * x)

    return primals[0] * primals[1], functools.partial(pullback, *primals)


def of_a_callable_object(primals):
    class Pullback:
        def __call__(self, y_bar):
            return y_bar * primals[1], jnp.sum(y_bar * primals[0])

    return primals[0] * primals[1], Pullback()


def returning_a_list(primals):
    x, factor = primals
    return x * factor, lambda y_bar: [y_bar * factor, jnp.sum(y_bar * x)]


def with_a_residual_tree(primals):
    x, factor = primals
    kept = {"both": (x, factor), "none": None, "number": 1, "numpy": np.float32(1)}

    def pullback(kept, y_bar):
        x, factor = kept["both"]
        return y_bar * factor, jnp.sum(y_bar * x * kept["numpy"] * kept["number"])

    return x * factor, kept, pullback


FORMS = [
    pullback_alone,
    with_residuals,
    residuals_are_the_primals,
    what_jax_vjp_returns,
    with_defaults,
    of_a_partial,
    of_a_callable_object,
    returning_a_list,
    with_a_residual_tree,
]


@pytest.mark.parametrize("rule", FORMS, ids=lambda rule: rule.__name__)
def test_vjp_forms(rule, call):
    op = scale()
    assert op.def_vjp(rule) is rule
    check_scale(op, call)
    check_scale(jax.checkpoint(op), call)
    close(call(jax.vmap(jax.grad(op, (0, 1))))(X, X), (X, X))
    close(call(lambda x: jax.hessian(lambda x: op(x, x @ x) @ x)(x))(X), jax.hessian(lambda x: (x @ x) ** 2)(X))


def test_custom_vjp_s_two_functions(call):
    def fwd(x, factor):
        return x * factor, (x, factor)

    def bwd(residuals, y_bar):
        x, factor = residuals
        return y_bar * factor, jnp.sum(y_bar * x)

    op = scale()
    assert op.def_vjp(fwd, bwd) is fwd
    check_scale(op, call)

    reference = jax.custom_vjp(lambda x, factor: x * factor)
    reference.defvjp(fwd, bwd)
    check_scale(reference, call, forward=False)


def test_custom_vjp_s_two_functions_with_params_and_none(call):
    op = Primitive("power")
    op.def_impl(lambda x, n, *, sign=1: sign * x**2 * n.astype(x.dtype))

    def fwd(x, n, *, sign):
        return op(x, n, sign=sign), (x, n)

    def bwd(residuals, y_bar):
        x, n = residuals
        return 2 * x * n.astype(x.dtype) * y_bar, None

    op.def_vjp(fwd, bwd)
    close(call(jax.grad(lambda x: op(x, jnp.int32(3))))(2.0), 12.0)


def test_a_single_operand_s_cotangent_may_come_bare_or_in_a_tuple(call):
    for result in (lambda ct: ct, lambda ct: (ct,), lambda ct: [ct]):
        op = Primitive("double")
        op.def_impl(lambda x: 2 * x)
        op.def_vjp(lambda primals, result=result: (2 * primals[0], lambda y_bar: result(2 * y_bar)))
        close(call(jax.grad(op))(1.0), 2.0)


TREES = {
    "tuple of one": ((X,), lambda t: t[0]),
    "list of one": ([X], lambda t: t[0]),
    "nested ones": (((X,),), lambda t: t[0][0]),
    "dict": ({"a": X}, lambda t: t["a"]),
    "pair": ((X, X), lambda t: t[0] + t[1]),
}


@pytest.mark.parametrize("bare", [True, False], ids=["bare", "in a tuple"])
@pytest.mark.parametrize("tree", TREES)
def test_a_single_operand_that_is_a_pytree(tree, bare, call):
    value, read = TREES[tree]
    op = Primitive("double")
    op.def_impl(lambda t: 2 * read(t))

    @op.def_vjp
    def _(primals):
        (t,) = primals

        def pullback(y_bar):
            bars = jax.tree.map(lambda _: 2 * y_bar, t)
            return bars if bare else (bars,)

        return op(t), pullback

    close(call(jax.grad(lambda t: jnp.sum(op(t))))(value), jax.tree.map(lambda _: jnp.full(3, 2.0), value))


def test_several_results_have_one_tuple_of_cotangents(call):
    op = Primitive("both")
    op.def_impl(lambda x: (2 * x, {"three": 3 * x}))

    @op.def_vjp
    def _(primals):
        def pullback(bars):
            first, second = bars
            return 2 * first + 3 * second["three"]

        return op(*primals), pullback

    close(call(jax.grad(lambda x: op(x)[0] + op(x)[1]["three"]))(1.0), 5.0)
    close(call(jax.grad(lambda x: op(x)[1]["three"]))(1.0), 3.0)


def test_jax_vjp_as_a_rule_of_several_results_and_integers(call):
    """Results whose cotangent is zero, integer results and integer operands."""

    def fn(x, n):
        return jnp.sin(x) * n.astype("float32"), n + 1, jnp.cos(x)

    op = Primitive("several")
    op.def_impl(fn)
    op.def_vjp(lambda primals: jax.vjp(fn, *primals))
    n = jnp.int32(3)
    close(call(jax.grad(lambda x: op(x, n)[0]))(0.5), 3 * np.cos(0.5))
    close(call(jax.grad(lambda x: op(x, n)[2]))(0.5), -np.sin(0.5))
    close(call(lambda x: jax.jvp(lambda x: op(x, n)[0], (x,), (1.0,)))(0.5), (3 * np.sin(0.5), 3 * np.cos(0.5)))


def test_jax_jvp_as_a_rule_with_integers(call):
    def fn(x, n):
        return jnp.sin(x) * n.astype("float32"), n + 1

    op = Primitive("several")
    op.def_impl(fn)
    op.def_jvp(lambda primals, tangents: jax.jvp(fn, primals, tangents))
    close(call(lambda x: jax.jvp(lambda x: op(x, jnp.int32(3)), (x,), (1.0,))[1][0])(0.5), 3 * np.cos(0.5))
    close(call(jax.grad(lambda x: op(x, jnp.int32(3))[0]))(0.5), 3 * np.cos(0.5))


def test_residuals_are_not_traced_values_of_the_rule(call):
    """Inside a scan, what a closure keeps is carried as a residual."""
    op = scale()
    op.def_vjp(pullback_alone)

    def loss(x):
        return jnp.sum(jax.lax.scan(lambda c, _: (op(c, 2.0), None), x, None, length=3)[0])

    close(call(jax.grad(loss))(X), jnp.full(3, 8.0))


# -------------------------------------------------------------------------------------------------------- the JVP's forms
def test_jvp_rule_and_its_transpose(call):
    op = scale()

    @op.def_jvp
    def rule(primals, tangents):
        (x, factor), (x_dot, factor_dot) = primals, tangents
        return op(x, factor), x_dot * factor + x * factor_dot

    check_scale(op, call)


def test_the_tutorial_s_way(call):
    """`isinstance`, the accumulator, `zeros_like` at the end."""
    op = scale()

    @op.def_jvp
    def rule(primals, tangents):
        (x, factor), (x_dot, factor_dot) = primals, tangents
        y = x * factor
        y_dot = ad.Zero.zero_if_zero(factor_dot)
        if not isinstance(x_dot, ad.Zero):
            y_dot += x_dot * factor
        if not isinstance(factor_dot, ad.Zero):
            y_dot += x * factor_dot
        if isinstance(y_dot, ad.Zero) and y is not None:
            y_dot = jnp.zeros_like(y)
        return y, y_dot

    check_scale(op, call)


@pytest.mark.parametrize(
    "zero", [None, Zero.of((3,), "float32"), np.zeros(3, np.float32)], ids=["None", "Zero", "array"]
)
def test_a_rule_may_return_a_zero(zero, call):
    op = Primitive("constant")
    op.def_impl(lambda x: x * 0.0 + jnp.ones(3))
    op.def_jvp(lambda primals, tangents: (op(*primals), zero))
    op.def_vjp(lambda primals: (op(*primals), lambda y_bar: zero))
    close(call(lambda x: jax.jvp(op, (x,), (x,))[1])(X), jnp.zeros(3))
    close(call(jax.grad(lambda x: jnp.sum(op(x))))(X), jnp.zeros(3))


def test_python_scalars_and_weak_types_take_the_expected_dtype(call):
    op = Primitive("square")
    op.def_impl(lambda x: x * x)
    op.def_jvp(lambda primals, tangents: (op(*primals), 1.0))
    op.def_vjp(lambda primals: (op(*primals), lambda y_bar: 3))
    for dtype in ("float32", "float16", "bfloat16"):
        x = jnp.asarray(2.0, dtype)
        y, y_dot = call(lambda x: jax.jvp(op, (x,), (x,)))(x)
        assert (float(y_dot), y_dot.dtype) == (1.0, y.dtype)
        x_bar = call(jax.grad(op))(x)
        assert (float(x_bar), x_bar.dtype) == (3.0, y.dtype)


# --------------------------------------------------------------------------------------------------------- per operand
def test_jvp_per_operand(call):
    op = scale()
    op.def_jvp(x=lambda x_dot, y, x, factor: x_dot * factor, factor=lambda f_dot, y, x, factor: f_dot * x)
    check_scale(op, call)


def test_vjp_per_operand(call):
    op = scale()
    op.def_vjp(x=lambda y_bar, y, x, factor: y_bar * factor, factor=lambda y_bar, y, x, factor: jnp.sum(y_bar * x))
    check_scale(op, call)


def test_rules_per_operand_see_the_result_and_the_params(call):
    op = Primitive("exp")
    op.def_impl(lambda x, *, rate=1.0: jnp.exp(rate * x))
    op.def_jvp(x=lambda x_dot, y, x, *, rate: rate * y * x_dot)
    op.def_vjp(x=lambda y_bar, y, x, *, rate: rate * y * y_bar)
    close(call(lambda x: jax.jvp(lambda x: op(x, rate=2.0), (x,), (1.0,))[1])(0.5), 2 * np.exp(1.0))
    close(call(jax.grad(lambda x: op(x, rate=2.0)))(0.5), 2 * np.exp(1.0))


def test_an_operand_without_a_rule_is_not_differentiable(call):
    op = scale()
    op.def_jvp(x=lambda x_dot, y, x, factor: x_dot * factor)
    op.def_vjp(x=lambda y_bar, y, x, factor: y_bar * factor)
    close(call(jax.grad(lambda x: jnp.sum(op(x, 2.0))))(X), jnp.full(3, 2.0))
    with pytest.raises(RuleMissing, match="factor"):
        call(jax.grad(lambda f: jnp.sum(op(X, f))))(2.0)
    with pytest.raises(RuleMissing, match="factor"):
        call(lambda f: jax.jvp(lambda f: op(X, f), (f,), (f,)))(2.0)


def test_an_explicit_none_means_zero(call):
    op = scale()
    op.def_jvp(x=lambda x_dot, y, x, factor: x_dot * factor, factor=None)
    op.def_vjp(x=lambda y_bar, y, x, factor: y_bar * factor, factor=None)
    close(call(jax.grad(lambda f: jnp.sum(op(X, f))))(2.0), 0.0)
    close(call(lambda f: jax.jvp(lambda f: op(X, f), (f,), (f,))[1])(2.0), jnp.zeros(3))
    close(call(jax.grad(lambda x, f: jnp.sum(op(x, f)), (0, 1)))(X, 2.0), (jnp.full(3, 2.0), 0.0))


def test_rules_per_operand_with_pytrees_and_several_results(call):
    op = Primitive("op")
    op.def_impl(lambda p, x: (p["w"] * x + p["b"], p["w"]))
    op.def_jvp(
        p=lambda p_dot, y, p, x: (p_dot["w"] * x + p_dot["b"], p_dot["w"]),
        x=lambda x_dot, y, p, x: (p["w"] * x_dot, None),
    )
    op.def_vjp(
        p=lambda bars, y, p, x: {"w": bars[0] * x + bars[1], "b": bars[0]},
        x=lambda bars, y, p, x: p["w"] * bars[0],
    )
    p, x = {"w": 3.0, "b": 5.0}, 2.0
    close(call(lambda x: jax.jvp(op, (p, x), ({"w": 1.0, "b": 10.0}, 100.0))[1])(x), (312.0, 1.0))
    close(call(jax.grad(lambda p, x: op(p, x)[0] + op(p, x)[1], (0, 1)))(p, x), ({"w": 3.0, "b": 1.0}, 3.0))


# -------------------------------------------------------------------------------------------------------------- perturbed
def test_perturbed_says_what_is_differentiated(call):
    seen = {}
    op = Primitive("op")
    op.def_impl(lambda p, x: p["w"] * p["b"] * x)

    @op.def_jvp
    def _(primals, tangents, perturbed):
        seen["jvp"] = perturbed
        p, x = primals
        p_dot, x_dot = tangents
        return op(*primals), p_dot["w"] * p["b"] * x + p["w"] * p_dot["b"] * x + p["w"] * p["b"] * x_dot

    @op.def_vjp
    def _(primals, *, perturbed):
        seen["vjp"] = perturbed
        p, x = primals
        return op(*primals), lambda bar: ({"w": p["b"] * x * bar, "b": p["w"] * x * bar}, p["w"] * p["b"] * bar)

    f = lambda w: op({"w": w, "b": 3.0}, 5.0)
    close(call(lambda w: jax.jvp(f, (w,), (1.0,))[1])(2.0), 15.0)
    close(call(jax.grad(f))(2.0), 15.0)
    assert seen["jvp"] == seen["vjp"] == ({"w": True, "b": False}, False)


def test_perturbed_in_custom_vjp_s_forward_function(call):
    seen = []
    op = scale()
    op.def_vjp(lambda x, factor, perturbed: seen.append(perturbed) or (x * factor, None), lambda _, bar: (bar, None))
    call(jax.grad(lambda x: jnp.sum(op(x, 2.0))))(X)
    assert seen[-1] == (True, False)


# -------------------------------------------------------------------------------------------------------------- surrogate
def straight_through():
    op = Primitive("rounded")
    op.def_impl(lambda x: jnp.round(x))

    @op.def_vjp(surrogate="straight-through estimator")
    def rule(primals):
        return jnp.round(*primals), lambda y_bar: y_bar

    return op, rule


def test_a_surrogate_is_a_decorator_with_a_reason(call):
    op, rule = straight_through()
    assert callable(rule)
    assert op._rules.surrogate == "straight-through estimator"
    close(call(jax.grad(lambda x: jnp.sum(op(x))))(X), jnp.ones(3))
    assert "straight-through estimator" in str(op.explain())


def test_a_nonlinear_pullback_of_a_surrogate_is_differentiated_as_it_is(call):
    """d/d(scale) of clip(scale, -1, 1) is 1 inside and 0 outside; the derivative of what the pullback does."""
    op = Primitive("clipped")
    op.def_impl(lambda x: x)
    op.def_vjp(lambda primals: (op(*primals), lambda y_bar: jnp.clip(y_bar, -1.0, 1.0)), surrogate="gradient clipping")

    def gradient(scale):
        return jax.grad(lambda x: jnp.sin(scale * op(x)))(0.0)

    close(call(gradient)(0.5), 0.5)
    close(call(gradient)(5.0), 1.0)
    close(call(jax.grad(gradient))(0.5), 1.0)
    close(call(jax.grad(gradient))(5.0), 0.0)
    close(call(lambda s: jax.jvp(gradient, (s,), (1.0,)))(0.5), (0.5, 1.0))


def test_a_surrogate_whose_pullback_is_no_zero_at_zero(call):
    """What the pullback gives for a zero cotangent is what it gives, not zero."""
    op = Primitive("biased")
    op.def_impl(lambda x: (x, 2 * x))
    op.def_vjp(lambda primals: (op(*primals), lambda bars: jnp.cos(bars[0]) + bars[1]), surrogate="for a test")
    close(call(jax.grad(lambda x: op(x)[1]))(1.0), 2.0)
    close(call(jax.grad(lambda x: op(x)[0]))(1.0), np.cos(1.0))
    close(call(jax.vmap(jax.grad(lambda x: op(x)[1])))(jnp.ones(2)), jnp.full(2, 2.0))


# --------------------------------------------------------------------------------------------------------------- partials
def test_partials_give_both_rules(call):
    op = scale()
    op.def_partials(lambda y, x, factor: (factor, x))
    check_scale(op, call)
    assert {"jvp", "vjp"} <= set(op._rules.given)


def test_partials_of_one_operand_may_come_bare(call):
    op = Primitive("sine")
    op.def_impl(jnp.sin)
    op.def_partials(lambda y, x: jnp.cos(x))
    close(call(jax.grad(op))(0.5), np.cos(0.5))
    close(call(jax.grad(jax.grad(op)))(0.5), -np.sin(0.5))


def test_partials_that_are_none_or_numbers(call):
    op = Primitive("op")
    op.def_impl(lambda x, y, n: 2 * x + 0 * y)
    op.def_partials(lambda out, x, y, n: (2, None, None))
    close(call(jax.grad(lambda x, y: op(x, y, jnp.int32(1)), (0, 1)))(1.0, 1.0), (2.0, 0.0))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_partials_see_params_and_the_result(dtype, call):
    op = Primitive("exp")
    op.def_impl(lambda x, *, rate=2: jnp.exp(rate * x))
    op.def_partials(lambda y, x, *, rate: rate * y)
    x = jnp.asarray(0.5, dtype)
    got = call(jax.grad(op))(x)
    assert got.dtype == x.dtype
    np.testing.assert_allclose(float(got), 2 * np.exp(1.0), rtol=1e-2)


def test_a_real_operand_of_a_complex_op_gets_a_real_cotangent(call):
    """y = x z: x_bar = Re(sum(z y_bar)), z_bar = x y_bar; JAX's convention does not conjugate."""
    op = Primitive("times")
    op.def_impl(lambda x, z: x.astype(z.dtype) * z)
    op.def_partials(lambda y, x, z: (z, x))
    x, z, y_bar = jnp.float32(2.0), jnp.array([1 + 2j, 3 - 1j], "complex64"), jnp.array([1j, 2 + 1j], "complex64")
    _, pullback = jax.vjp(op, x, z)
    x_bar, z_bar = call(pullback)(y_bar)
    assert (x_bar.dtype, z_bar.dtype) == (jnp.float32, jnp.complex64)
    close((x_bar, z_bar), (np.real(np.sum(z * y_bar)), 2 * y_bar))
    close(call(lambda x: jax.jvp(op, (x, z), (1.0 + 0 * x, z))[1])(x), z + 2 * z)


def test_a_real_result_of_a_complex_operand(call):
    """|z|^2: y_dot = Re(2 conj(z) z_dot), and JAX's grad is 2 conj(z)."""
    op = Primitive("abs2")
    op.def_impl(lambda z: (z * z.conj()).real)
    op.def_partials(lambda y, z: 2 * z.conj())
    z, z_dot = jnp.complex64(1 + 2j), jnp.complex64(3 - 1j)
    close(call(jax.grad(op))(z), jax.grad(lambda z: (z * z.conj()).real)(z))
    close(call(lambda z: jax.jvp(op, (z,), (z_dot,))[1])(z), 2 * np.real(np.conj(z) * z_dot))


@pytest.mark.parametrize("batched", [(0, 0), (0, None), (None, 0)])
@pytest.mark.parametrize("word", ["vmap", "elementwise", "sequential"])
def test_partials_under_vmap(word, batched, call):
    op = scale(batching=word)
    op.def_partials(lambda y, x, factor: (factor, x))
    x, factor = jnp.arange(6.0).reshape(2, 3) + 1, jnp.array([2.0, 5.0])
    args = (x if batched[0] == 0 else x[0], factor if batched[1] == 0 else factor[0])
    got = call(jax.vmap(jax.grad(lambda x, f: jnp.sum(op(x, f) ** 2), (0, 1)), batched))(*args)
    expected = jax.vmap(jax.grad(lambda x, f: jnp.sum((x * f) ** 2), (0, 1)), batched)(*args)
    close(got, expected)


@pytest.mark.parametrize(
    ("impl", "partials"),
    [
        (lambda x, f: x * f, lambda y, x, f: (f,)),
        (lambda x, f: x * f, lambda y, x, f: (jnp.ones((2, 3)), x)),
        (lambda x, f: jnp.sum(x * f), lambda y, x, f: (jnp.ones(3), x)),
        (lambda x, f: x * f, lambda y, x, f: (jax.lax.complex(x, x), x)),
        (lambda x, f: (x, f), lambda y, x, f: (1.0, 1.0)),
        (lambda x, f: x * f, lambda y, x, f: (f, jnp.ones(4))),
        (lambda x, f: x * f, lambda y, x, f: (f, "x")),
        (lambda x, f: x * f, lambda y, x, f: (f, (x, x))),
    ],
    ids=["number", "shape", "no elementwise op", "complex", "two results", "another size", "text", "tuple"],
)
def test_wrong_partials(impl, partials, call):
    op = Primitive("op")
    op.def_impl(impl)
    op.def_partials(partials)
    with pytest.raises(RuleWrong):
        call(lambda x: jax.jvp(op, (x, 2.0), (x, 2.0)))(X)


# -------------------------------------------------------------------------------------------------- what goes through rules
def test_an_author_s_own_exception_comes_out(call):
    class Mine(ValueError):
        pass

    def fail(*args, **kwargs):
        raise Mine("as the author wrote it")

    op = scale()
    op.def_jvp(fail)
    op.def_vjp(fail)
    with pytest.raises(Mine, match="as the author wrote it"):
        call(lambda x: jax.jvp(lambda x: op(x, 2.0), (x,), (x,)))(X)
    with pytest.raises(Mine, match="as the author wrote it"):
        call(jax.grad(lambda x: jnp.sum(op(x, 2.0))))(X)


def test_a_type_error_inside_a_rule_is_not_taken_for_a_wrong_signature(call):
    op = scale()
    op.def_jvp(lambda primals, tangents: len(5))
    with pytest.raises(TypeError, match="has no len"):
        call(lambda x: jax.jvp(lambda x: op(x, 2.0), (x,), (x,)))(X)


@pytest.mark.parametrize(
    "value", [2.0, np.float32(2.0), np.array(2.0), 2.0 + 0j], ids=["float", "numpy", "array", "complex"]
)
def test_rules_meet_arrays_whatever_was_passed(value, call):
    op = Primitive("square")
    op.def_impl(lambda x: x * x)
    op.def_jvp(lambda primals, tangents: (op(*primals), 2 * primals[0].astype(tangents[0].dtype) * tangents[0]))

    @op.def_vjp
    def _(primals):
        return op(*primals), lambda y_bar: 2 * primals[0].at[()].get().astype(y_bar.dtype) * y_bar

    close(call(lambda x: jax.jvp(op, (x,), (x,))[1])(value), 8.0)
    close(jax.jvp(op, (value,), (value,))[1], 8.0)
    y, pullback = jax.vjp(op, value)
    close(pullback(jnp.ones_like(y))[0], 4.0)


def test_rules_may_branch_on_values_in_eager_mode():
    op = Primitive("op")
    op.def_impl(lambda x: jnp.abs(x))

    @op.def_jvp
    def _(primals, tangents):
        (x,), (x_dot,) = primals, tangents
        return op(x), x_dot if x > 0 else -x_dot

    @op.def_vjp
    def _(primals):
        (x,) = primals
        return op(x), lambda y_bar: y_bar if x > 0 and y_bar > 0 else -y_bar

    close(jax.jvp(op, (-2.0,), (1.0,))[1], -1.0)
    close(jax.grad(op)(-2.0), -1.0)
    close(jax.grad(op)(2.0), 1.0)


def test_rules_are_traced_once_for_equal_types():
    traced = []
    op = scale()
    op.def_vjp(lambda primals: traced.append(1) or pullback_alone(primals))
    jax.jit(jax.grad(lambda x: jnp.sum(functools.reduce(lambda y, _: op(y, 2.0), range(10), x))))(X)
    assert len(traced) <= 2


def test_decorators_return_the_function_unchanged():
    op = Primitive("op")

    def fn(*args, **kwargs):
        return args

    for method in (op.def_impl, op.def_host, op.def_abstract_eval, op.def_jvp, op.def_vjp, op.def_partials):
        assert method(fn) is fn
    for method in (op.def_batching, op.def_examples):
        assert method(fn) is fn
    assert op.def_kernel(platform="cpu")(fn) is fn
    assert op.def_kernel(fn, platform="cpu") is fn
    assert op.def_lowering(fn) is fn
    assert op.def_lowering(platform="tpu")(fn) is fn
    assert op.def_transpose(linear="x")(fn) is fn
    assert op.def_transpose(fn, linear=("x",)) is fn
    assert op.def_vjp(surrogate="why")(fn) is fn
    assert op.def_jvp(x=fn) is None
    assert op.def_vjp(x=fn) is None


# ----------------------------------------------------------------------------------------------------- callable objects
@dataclass
class Times:
    """A callable with ``__eq__`` and without ``__hash__``."""

    factor: Any

    def __call__(self, x):
        return x * self.factor

    def method(self, x):
        return x * self.factor


class Same:
    """All are equal, and none is like another."""

    def __init__(self, factor):
        self.factor = factor

    def __eq__(self, other):
        return isinstance(other, Same)

    def __hash__(self):
        return 0

    def __call__(self, x):
        return x * self.factor


@pytest.mark.parametrize(
    "make",
    [Times, Same, lambda f: Times(f).method, lambda f: functools.partial(Times(f))],
    ids=["unhashable", "equal", "method", "partial"],
)
@pytest.mark.parametrize("how", ["impl", "kernel", "both", "primitive"])
def test_an_implementation_is_known_by_its_identity(make, how, call):
    two, three = make(jnp.float32(2)), make(jnp.float32(3))
    op = primitive(two) if how == "primitive" else Primitive("op")
    if how in ("impl", "both"):
        op.def_impl(two)
    if how in ("kernel", "both"):
        op.def_kernel(two, platform="cpu")
    close(call(op)(1.0), 2.0)
    if how != "kernel":
        close(call(lambda x: jax.jvp(op, (x,), (x,))[1])(1.0), 2.0)
        close(call(jax.grad(op))(1.0), 2.0)
    close(call(jax.vmap(op))(jnp.ones(2)), [2.0, 2.0])
    (op.def_kernel(three, platform="cpu") if how == "kernel" else op.def_impl(three))
    if how != "both":
        close(call(op)(1.0), 3.0)


@pytest.mark.parametrize("make", [Times, lambda f: Times(f).method], ids=["object", "method"])
def test_every_other_rule_may_be_a_callable_object(make, call):
    op = Primitive("op")
    op.def_host(make(np.float32(2)))
    op.def_abstract_eval(lambda x: x)
    op.def_transpose(make(2.0), linear="x")
    close(call(op)(jnp.float32(1)), 2.0)
    close(call(jax.grad(op))(jnp.float32(1)), 2.0)


# ------------------------------------------------------------------------------------------ what JAX takes from a rule too
def layer():
    op = Primitive("layer")
    op.def_impl(lambda p, x: (p["w"] + p["b"]) * x)
    return op


PARAMS = {"w": X, "b": 2 * X}


def test_one_cotangent_may_stand_for_each_leaf_of_an_operand(call):
    """As for ``jax.custom_vjp``, whose answer is the truth."""

    def fwd(p, x):
        return (p["w"] + p["b"]) * x, (p, x)

    def bwd(residuals, ct):
        p, x = residuals
        return ct * x, ct * (p["w"] + p["b"])

    op, plain = layer(), jax.custom_vjp(lambda p, x: (p["w"] + p["b"]) * x)
    op.def_vjp(fwd, bwd)
    plain.defvjp(fwd, bwd)
    total = lambda f: lambda p, x: jnp.sum(f(p, x) ** 2)
    close(call(jax.grad(total(op), (0, 1)))(PARAMS, X), jax.grad(total(plain), (0, 1))(PARAMS, X))


@pytest.mark.parametrize(
    "cotangents",
    [
        lambda ct: (jnp.sum(ct), ct),  # fits no leaf
        lambda ct: ct,  # stands for all operands, as none of JAX's rules may
        lambda ct: ({"w": ct}, ct),
    ],
    ids=["wrong shape", "bare", "other keys"],
)
def test_a_cotangent_that_does_not_fit_each_leaf_is_refused(cotangents, call):
    op = layer()
    op.def_vjp(lambda primals: (op(*primals), cotangents))
    with pytest.raises(RuleWrong, match="different structure than the operands"):
        call(jax.grad(lambda p: jnp.sum(op(p, X))))(PARAMS)


def test_jax_s_symbolic_zero_is_a_zero(call):
    zero = lambda x: jax.custom_derivatives.SymbolicZero(jax.typeof(x).to_tangent_aval())
    op = Primitive("op")
    op.def_impl(lambda x, y: x + y)
    op.def_jvp(lambda primals, tangents: (op(*primals), tangents[0] + zero(primals[1])))
    op.def_vjp(lambda primals: (op(*primals), lambda ct: (ct, zero(primals[1]))))
    close(call(jax.grad(lambda x: jnp.sum(op(x, x))))(X), jnp.ones(3))
    op.def_jvp(lambda primals, tangents: (op(*primals), zero(primals[0])))
    close(call(lambda x: jax.jvp(op, (x, x), (x, x))[1])(X), 0 * X)


def test_a_result_may_be_none(call):
    op = Primitive("op")
    op.def_impl(lambda x: (2 * x, None))
    op.def_jvp(lambda primals, tangents: (op(*primals), (2 * tangents[0], None)))
    op.def_vjp(lambda primals: (op(*primals), lambda cts: 2 * cts[0] if cts[1] is None else None))
    assert call(op)(X)[1] is None
    close(call(lambda x: jax.jvp(op, (x,), (x,))[1])(X), (2 * X, None))
    close(call(jax.grad(lambda x: jnp.sum(op(x)[0])))(X), jnp.full(3, 2.0))
    assert jax.vmap(op)(X)[1] is None


@pytest.mark.parametrize("bwd", [lambda *args: 2 * args[1], lambda r, ct, k=2: k * ct], ids=["variadic", "default"])
def test_a_bwd_may_take_more_than_it_gets(bwd, call):
    op = Primitive("double")
    op.def_impl(lambda x: 2 * x)
    op.def_vjp(lambda x: (op(x), None), bwd)
    close(call(jax.grad(op))(1.0), 2.0)


# ----------------------------------------------------------------------------------------------------- endless recursion
def itself(how):
    op = Primitive("op")
    op.def_impl((lambda x: op(x) + 1) if how == "impl" else lambda x: x)
    if how == "jvp":
        op.def_jvp(lambda primals, tangents: jax.jvp(op, primals, tangents))
    if how == "vjp":
        op.def_vjp(lambda primals: jax.vjp(op, *primals))
    return op


@pytest.mark.parametrize("how", ["impl", "jvp", "vjp"])
def test_a_rule_that_needs_itself_is_named(how, call):
    way = {"impl": lambda op: op, "jvp": jax.jacfwd, "vjp": jax.grad}[how](itself(how))
    with pytest.raises(RuleWrong, match="recurses without end"):
        call(way)(1.0)


def test_two_operations_that_need_each_other_are_named(call):
    one, two = Primitive("one"), Primitive("two")
    one.def_impl(lambda x: two(x) + 1)
    two.def_impl(lambda x: one(x))
    with pytest.raises(RuleWrong, match="recurses without end"):
        call(one)(1.0)


def test_an_operation_may_apply_itself_with_another_param(call):
    op = Primitive("factorial")
    op.def_impl(lambda x, *, n: x if n == 0 else n * op(x, n=n - 1))
    close(call(lambda x: op(x, n=4))(1.0), 24.0)
    close(call(jax.grad(lambda x: op(x, n=4)))(1.0), 24.0)
