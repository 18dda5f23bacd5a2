"""Linear operations: a transpose rule, a pair that are each other's transpose, and what is derived from them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim import Primitive, RuleMissing

M = np.arange(6.0, dtype=np.float32).reshape(2, 3) + 1


def times(matrix):
    return lambda x: matrix @ x


def rows_of(matrix):
    return lambda x: jax.ShapeDtypeStruct((matrix.shape[0],), x.dtype)


def pair():
    apply, adjoint = Primitive("apply"), Primitive("adjoint")
    for op, matrix in ((apply, M), (adjoint, M.T)):
        op.def_host(times(matrix))
        op.def_abstract_eval(rows_of(matrix))
    apply.def_transpose(adjoint, linear="x")
    adjoint.def_transpose(apply, linear="x")
    return apply, adjoint


@pytest.mark.parametrize("call", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_two_ops_that_are_each_other_s_transpose(call):
    apply, adjoint = pair()
    x, y = jnp.arange(3.0), jnp.array([1.0, 10.0])
    np.testing.assert_allclose(call(apply)(x), M @ np.arange(3))
    np.testing.assert_allclose(call(lambda y: jax.linear_transpose(apply, x)(y)[0])(y), M.T @ np.asarray(y))
    np.testing.assert_allclose(call(lambda y: jax.linear_transpose(adjoint, y)(x)[0])(y), M @ np.arange(3))
    np.testing.assert_allclose(call(lambda x: jax.jvp(apply, (x,), (2 * x,))[1])(x), 2 * M @ np.arange(3))
    np.testing.assert_allclose(call(jax.grad(lambda x: jnp.sum(apply(x) ** 2)))(x), 2 * M.T @ (M @ np.arange(3)))
    np.testing.assert_allclose(call(jax.hessian(lambda x: jnp.sum(apply(x) ** 2)))(x), 2 * M.T @ M)
    batch = jnp.stack([x, 2 * x])
    np.testing.assert_allclose(call(jax.vmap(jax.grad(lambda x: jnp.sum(apply(x)))))(batch), np.tile(M.sum(0), (2, 1)))


def test_a_rule_with_other_operands_and_params():
    op = Primitive("op")
    op.def_host(lambda x, scale, *, sign=1: sign * scale * x)
    op.def_abstract_eval(lambda x, scale, *, sign=1: x)
    op.def_transpose(lambda bar, scale, *, sign: op(bar, scale, sign=sign), linear="x")
    x = jnp.arange(3.0)
    np.testing.assert_allclose(jax.linear_transpose(lambda x: op(x, 2.0, sign=-1), x)(x)[0], -2 * x)
    np.testing.assert_allclose(jax.grad(lambda x: jnp.sum(op(x, 2.0)))(x), 2.0)
    with pytest.raises(RuleMissing, match="scale is perturbed"):
        jax.grad(lambda s: jnp.sum(op(x, s)))(2.0)


def test_several_linear_operands_together():
    op = Primitive("op")
    op.def_impl(lambda x, y: 2 * x + 3 * y)
    op.def_transpose(lambda bar: (2 * bar, 3 * bar), linear=("x", "y"))
    x = jnp.ones(2)
    got = jax.linear_transpose(op, x, x)(x)
    np.testing.assert_allclose(got, [[2, 2], [3, 3]])
    np.testing.assert_allclose(jax.linear_transpose(lambda y: op(jnp.zeros(2), y), x)(x)[0], 3.0)


def test_a_vjp_rule_is_no_transpose():
    """A plain linear_transpose of an op with a VJP rule must not give a silent wrong number."""
    op = Primitive("square")
    op.def_impl(lambda x: x * x)
    op.def_vjp(lambda p: (op(*p), lambda bar: 2 * p[0] * bar))
    with pytest.raises(Exception, match=r".+"):
        jax.linear_transpose(op, 1.0)(1.0)


def test_the_impl_is_transposed_where_no_rule_says_how():
    op = Primitive("op")
    op.def_impl(lambda x: jnp.asarray(M) @ x)
    np.testing.assert_allclose(jax.linear_transpose(op, jnp.ones(3))(jnp.ones(2))[0], M.sum(0))


# ----------------------------------------------------------------------------------------------------- types of operands
def head(opaque):
    """The sum of the first n numbers of two arrays of their own lengths, times a factor."""
    impl = lambda x, factor, *, n: factor * (x["a"][:n] + x["b"][:n])
    op = Primitive("head")
    if opaque:
        op.def_host(impl)
        op.def_abstract_eval(lambda x, factor, *, n: jax.ShapeDtypeStruct((n,), x["a"].dtype))
    else:
        op.def_impl(impl)

    @op.def_transpose(linear="x")
    def _(y_bar, factor, *, n, avals):
        (x,) = avals
        return jax.tree.map(lambda a: jnp.pad(factor * y_bar, (0, a.shape[0] - n)).astype(a.dtype), x)

    return op


@pytest.mark.parametrize("opaque", [False, True], ids=["impl", "host"])
@pytest.mark.parametrize("call", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_a_rule_may_ask_for_the_types_of_its_operands(opaque, call):
    op, plain = head(opaque), lambda x, factor, *, n: factor * (x["a"][:n] + x["b"][:n])
    x, two = {"a": jnp.arange(3.0), "b": jnp.arange(4.0)}, np.float32(2)
    total = lambda f: lambda x: jnp.sum(f(x, two, n=2) ** 2)
    back = lambda f: lambda x: jax.linear_transpose(lambda x: f(x, two, n=2), x)(jnp.ones(2))
    many = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), x)
    for way, value in [
        (lambda f: jax.grad(total(f)), x),
        (back, x),
        (lambda f: jax.vmap(jax.grad(total(f))), many),
        (lambda f: jax.grad(lambda x: jnp.sum(jax.vmap(total(f))(x))), many),
        (lambda f: jax.jacfwd(jax.grad(total(f))), x),
        (lambda f: jax.jacrev(jax.grad(total(f))), x),
    ]:
        jax.tree.map(np.testing.assert_allclose, call(way(op))(value), way(plain)(value))


def test_a_static_param_may_be_called_avals():
    op = Primitive("op")
    op.def_impl(lambda x, *, avals: avals * x)
    op.def_transpose(lambda y_bar, *, avals: avals * y_bar, linear="x")
    assert float(jax.grad(lambda x: op(x, avals=3.0))(1.0)) == 3.0
