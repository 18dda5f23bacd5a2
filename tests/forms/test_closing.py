"""Operations that are made inside a function, and close over traced values. Rigged rules show which one ran."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim import BadCall, Primitive

MASK, X = jnp.array([1.0, 0.0]), jnp.array([3.0, 4.0])
TWO, THREE, FIVE = jnp.float32(2), jnp.float32(3), jnp.float32(5)


def made(impl, **options):
    op = Primitive("op", **options)
    op.def_impl(impl)
    return op


def scaled(theta, x):
    return made(lambda x: theta * x * x)(x)


IN_IMPL = {
    "grad in the closure": (jax.grad(scaled), 9),
    "grad": (jax.grad(scaled, 1), 12),
    "hessian": (jax.hessian(scaled, 1), 4),
    "mixed": (jax.grad(jax.grad(scaled), 1), 6),
    "jvp": (lambda t, x: jax.jvp(lambda t: scaled(t, x), (t,), (t,))[1], 18),
    "grad of jit": (jax.grad(jax.jit(scaled)), 9),
    "checkpoint": (jax.grad(jax.checkpoint(scaled)), 9),
    "vmap": (lambda t, x: jax.vmap(scaled, (0, None))(t * jnp.array([1.0, 2.0]), x), [18, 36]),
    "grad of scan": (
        lambda t, x: jax.grad(lambda ts: jax.lax.scan(lambda c, t: (scaled(t, c), None), x / t, ts)[0])(
            jnp.array([1.0, 2.0])
        ),
        [20.25, 5.0625],  # c1 = t1 c0^2, c2 = t2 c1^2 with c0 = 3/2
    ),
}


@pytest.mark.parametrize("name", IN_IMPL)
def test_impl(name: str):
    """The derivative flows to what the impl closes over."""
    fn, expected = IN_IMPL[name]
    np.testing.assert_allclose(fn(TWO, THREE), expected, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(fn)(TWO, THREE), expected, rtol=1e-5)


def masked(mask, x):
    """x mask, with a VJP rule that is 1000 times too large."""
    op = made(lambda x: x * mask)
    op.def_vjp(lambda primals: (op(*primals), lambda ct: 1000 * ct * mask))
    return op(x)


IN_A_RULE = {
    "grad": (lambda m: jax.grad(lambda x: jnp.sum(masked(m, x)))(X), [1000, 0]),
    "jvp": (lambda m: jax.jvp(lambda x: masked(m, x), (X,), (X,))[1], [3000, 0]),
    "checkpoint": (lambda m: jax.grad(jax.checkpoint(lambda x: jnp.sum(masked(m, x))))(X), [1000, 0]),
    "grad of jit": (lambda m: jax.grad(jax.jit(lambda x, m: jnp.sum(masked(m, x))))(X, m), [1000, 0]),
    "scan": (
        lambda m: jax.grad(lambda x: jnp.sum(jax.lax.scan(lambda c, m: (masked(m, c), None), x, jnp.stack([m, m]))[0]))(
            X
        ),
        [1e6, 0],
    ),
    "vmap": (
        lambda m: jax.vmap(jax.grad(lambda x, m: jnp.sum(masked(m, x))), (None, 0))(X, jnp.stack([m, 1 - m])),
        [[1000, 0], [0, 1000]],
    ),
    "integer": (lambda m: jax.grad(lambda x: jnp.sum(masked(m.astype("int32").astype("float32"), x)))(X), [1000, 0]),
}


@pytest.mark.parametrize("name", IN_A_RULE)
def test_rule(name: str):
    """A given rule is kept, and reads the value of its own call."""
    fn, expected = IN_A_RULE[name]
    np.testing.assert_allclose(jax.jit(fn)(MASK), expected)


def by_jvp(k, x):
    op = made(lambda x: x * k)
    op.def_jvp(lambda primals, tangents: (op(*primals), 10 * k * tangents[0]))
    return op(x)


def per_operand(k, x):
    op = made(lambda x, y: x * y)
    op.def_vjp(x=lambda ct, out, x, y: 10 * k * ct * y, y=None)
    return op(x, FIVE)


def by_partials(k, x):
    op = made(lambda x: x * x)
    op.def_partials(lambda y, x: (10 * k * x,))
    return op(x)


def as_pair(k, x):
    op = made(lambda x: 2 * x)
    op.def_vjp(lambda x: (op(x), k * x), lambda residual, ct: (10 * residual * ct,))
    return op(x)


def two_results(k, x):
    op = made(lambda x: (x * k, jnp.int32(3)))
    op.def_vjp(lambda primals: (op(*primals), lambda cts: 10 * cts[0] * k))
    return op(x)[0]


def variadic(k, x):
    op = made(lambda *xs: sum(xs) * k)
    op.def_vjp(lambda primals: (op(*primals), lambda ct: tuple(10 * ct * k for _ in primals)))
    return op(x, x)


def with_param(k, x):
    op = made(lambda x, *, n=2: x**n * k)
    op.def_vjp(lambda primals, *, n: (op(*primals, n=n), lambda ct: 10 * n * k * ct))
    return op(x, n=3)


def on_host(k, x):
    op = Primitive("op")
    op.def_host(lambda x: np.asarray(2 * x))
    op.def_abstract_eval(lambda x: x)
    op.def_vjp(lambda primals: (op(*primals), lambda ct: 10 * k * ct))
    return op(x)


FORMS = {
    by_jvp: 20,
    per_operand: 100,
    by_partials: 60,
    as_pair: 60,
    two_results: 20,
    variadic: 40,
    with_param: 60,
    on_host: 20,
}


@pytest.mark.parametrize("fn", FORMS, ids=lambda fn: fn.__name__)
def test_form(fn):
    """Each form of a rule may close over a traced value."""
    np.testing.assert_allclose(jax.jit(jax.grad(fn, 1))(TWO, THREE), FORMS[fn])


def test_transpose_rule():
    def fn(k, x):
        op = made(lambda x: x * k)
        op.def_transpose(lambda ct: 100 * ct * k, linear="x")
        return jax.linear_transpose(op, x)(x)[0]

    assert jax.jit(fn)(TWO, THREE) == 600


def test_batch_rule():
    def fn(k, x):
        op = made(lambda x: x * k)
        op.def_batching(lambda axis, args, dims: (10 * args[0] * k, dims[0]))
        return jax.vmap(op)(x)

    np.testing.assert_allclose(jax.jit(fn)(TWO, X), [60, 80])


def test_equation():
    def fn(a, x):
        op = made(lambda x: jnp.sqrt(x * a))
        op.def_implicit(lambda y, x: y * y - x * a, solve="diagonal")
        return op(x)

    np.testing.assert_allclose(jax.jit(jax.grad(fn, 1))(TWO, THREE), 0.5 * np.sqrt(2 / 3), rtol=1e-5)


def test_value_that_only_a_rule_reads():
    """It is no argument of the operation, so the derivative in it is zero."""

    def fn(k, x):
        op = made(lambda x: 2 * x)
        op.def_vjp(lambda primals: (op(*primals), lambda ct: k * ct))
        return op(x)

    assert jax.jit(jax.grad(fn, (0, 1)))(TWO, THREE) == (0, 2)


def test_made_without_a_closure():
    """An operation that is made while something is traced, and reads nothing of it, is as any other."""
    fn = jax.jit(lambda x: made(lambda x: 2 * x)(x))
    assert fn(THREE) == 6


def test_later_trace_reads_its_own_value():
    op = {}

    @jax.jit
    def fn(k, x):
        op["is"] = made(lambda x: x * k)
        return op["is"](x)

    assert fn(TWO, THREE) == 6
    with pytest.raises((BadCall, jax.errors.UnexpectedTracerError)):
        op["is"](THREE)
