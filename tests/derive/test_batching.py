"""A batch, by rule and by each word: values, nesting, mixed axes, gradients. The truth is a loop."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim import Primitive

WORDS = ["vmap", "sequential", "expand_dims", "broadcast_all", "elementwise"]
A, B = jnp.arange(24.0).reshape(2, 3, 4) + 1, jnp.arange(24.0).reshape(2, 3, 4) ** 2 + 2


def product(word, *, host=False):
    """x * y + x, elementwise."""
    op = Primitive("op", batching=word)
    if host:
        op.def_host(lambda x, y: np.asarray(x * y + x, x.dtype))
        op.def_abstract_eval(lambda x, y: x)
    else:
        op.def_impl(lambda x, y: x * y + x)
    op.def_jvp(lambda p, t: (op(*p), t[0] * (p[1] + 1) + p[0] * t[1]))
    op.def_vjp(lambda p: (op(*p), lambda bar: (bar * (p[1] + 1), bar * p[0])))
    return op


def at(x, dim, i):
    return np.asarray(x) if dim is None else np.take(np.asarray(x), i, axis=dim)


def loop(fn, dims, args, out=0):
    size = next(x.shape[d] for x, d in zip(args, dims, strict=True) if d is not None)
    return np.stack([fn(*[at(x, d, i) for x, d in zip(args, dims, strict=True)]) for i in range(size)], out)


@pytest.mark.parametrize(
    ("word", "host"), [(word, host) for word in WORDS for host in (False, True) if (word, host) != ("vmap", True)]
)
@pytest.mark.parametrize("dims", [(0, 0), (0, 2), (1, -2), (0, None), (None, 1)], ids=str)
def test_words(word, dims, host):
    op = product(word, host=host)
    elements = jnp.stack([A[0], A[0] + 5]), jnp.stack([B[0], B[0] + 7])
    args = [x[0] if d is None else jnp.moveaxis(x, 0, d) for x, d in zip(elements, dims, strict=True)]
    expected = loop(lambda x, y: x * y + x, dims, args)
    for call in (lambda f: f, jax.jit):
        np.testing.assert_allclose(call(jax.vmap(op, dims))(*args), expected)
        np.testing.assert_allclose(call(jax.vmap(op, dims, out_axes=1))(*args), np.moveaxis(expected, 0, 1))


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("inner", [(0, 0), (0, None), (None, 0)], ids=str)
@pytest.mark.parametrize("outer", [(0, 0), (0, None), (None, 0)], ids=str)
def test_nested(word, inner, outer):
    op = product(word)
    # Each operand has an element's axis, and the batch axes that it takes part in.
    sizes = [[n for n, d in ((2, o), (3, i)) if d is not None] for i, o in zip(inner, outer, strict=True)]
    args = [jnp.arange(float(np.prod([*size, 4]))).reshape(*size, 4) + 1 for size in sizes]
    fn, reference = (jax.vmap(jax.vmap(f, inner), outer) for f in (op, lambda x, y: x * y + x))
    np.testing.assert_allclose(jax.jit(fn)(*args), reference(*args))
    loss = lambda f: lambda *xs: jnp.sum(jnp.sin(f(*xs)))
    got, expected = (jax.jit(jax.grad(loss(f), (0, 1)))(*args) for f in (fn, reference))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5), got, expected)
    got, expected = (jax.jvp(f, args, args)[1] for f in (fn, reference))
    np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize("word", ["vmap", "sequential", "elementwise"])
def test_a_vjp_rule_that_sums_over_everything_stays_right(word):
    """An elementwise op with a scalar operand: each element's rule sums over that element alone."""
    op = Primitive("scale", batching=word)
    op.def_impl(lambda x, factor: x * factor)
    op.def_vjp(lambda p: (op(*p), lambda bar: (bar * p[1], jnp.sum(bar * p[0]))))
    x, factor = jnp.arange(6.0).reshape(2, 3), jnp.array([2.0, 5.0])
    got = jax.vmap(jax.grad(lambda x, f: jnp.sum(op(x, f)), (0, 1)))(x, factor)
    np.testing.assert_allclose(got[1], np.asarray(x).sum(1))
    np.testing.assert_allclose(got[0], np.repeat(np.asarray(factor)[:, None], 3, 1))


def test_an_author_s_rule_sees_axis_args_and_dims_and_not_an_unbatched_call():
    seen = []
    op = Primitive("op")
    op.def_impl(lambda t, *, power=1: t["x"] ** power + t["y"])

    @op.def_batching
    def _(axis, args, dims, *, power):
        seen.append((axis.size, axis.name, dims, power))
        (t,), (d,) = args, dims
        x = jnp.moveaxis(t["x"], d["x"], 0)
        return x**power + jnp.broadcast_to(t["y"], x.shape), 0

    t = {"x": jnp.ones((3, 2)), "y": jnp.ones(3)}
    got = jax.vmap(lambda t: op(t, power=2), ({"x": 1, "y": None},), axis_name="i")(t)
    assert seen[0] == (2, "i", ({"x": 1, "y": None},), 2)
    np.testing.assert_allclose(got, np.full((2, 3), 2.0))
    count = len(seen)
    np.testing.assert_allclose(jax.vmap(lambda _: op({"x": 2.0, "y": 1.0}))(jnp.ones(2)), 3.0)
    assert len(seen) == count


@pytest.mark.parametrize(("inner", "outer"), list(itertools.product([0, 1], [0, 1])))
def test_an_author_s_rule_nested_and_differentiated(inner, outer):
    op = Primitive("op")
    op.def_impl(lambda x: jnp.sin(x))
    op.def_batching(lambda axis, args, dims: (jnp.sin(args[0]), dims[0]))
    op.def_partials(lambda y, x: jnp.cos(x))
    fn, reference = (jax.vmap(jax.vmap(f, inner), outer) for f in (op, jnp.sin))
    np.testing.assert_allclose(jax.jit(fn)(A), reference(A), rtol=1e-6)
    got, expected = (jax.grad(lambda x, f=f: jnp.sum(f(x) ** 2))(A) for f in (fn, reference))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
