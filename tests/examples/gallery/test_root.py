from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from truth import along

close = functools.partial(np.testing.assert_allclose, rtol=1e-8, atol=1e-10)


def by_scipy(weights, x):
    w, u = weights
    return scipy.optimize.root(lambda y: y - np.tanh(w @ y + u @ x), np.zeros(len(w)), tol=1e-14).x


def test_derivatives_in_what_the_equation_closes_over(example):
    (weights, x), (tangent, _) = example.made_up(4, 3), example.made_up(4, 3, seed=1)
    loss = lambda weights: jnp.sum(jnp.sin(example.layer(example.root, weights, x)))

    @jax.jit
    def all_of(weights):
        gradient = jax.grad(loss)
        two = jax.tree.map(lambda a, b: jnp.stack([a, b]), weights, tangent)
        return (
            example.layer(example.root, weights, x),
            jax.jvp(loss, (weights,), (tangent,))[1],
            *jax.jvp(gradient, (weights,), (tangent,)),
            jax.vmap(gradient)(two),
        )

    y, slope, gradient, product, batch = all_of(weights)
    close(y, by_scipy(weights, x))
    of_scipy = lambda weights: np.sum(np.sin(by_scipy(weights, x)))
    truth = along(of_scipy, (weights,), (tangent,))
    close(slope, truth)
    close(sum(np.vdot(g, t) for g, t in zip(gradient, tangent, strict=True)), truth)
    jax.tree.map(close, product, along(lambda weights: all_of(weights)[2], (weights,), (tangent,)))
    jax.tree.map(lambda each, alone: close(each[0], alone), batch, gradient)
    close(sum(np.vdot(g[1], t) for g, t in zip(batch, tangent, strict=True)), along(of_scipy, (tangent,), (tangent,)))


def test_trees_and_what_has_no_root(example):
    found = example.root(
        lambda y: {"a": y["a"] ** 3 - 8, "b": y["b"] - y["a"]}, {"a": jnp.array(1.0), "b": jnp.zeros(2)}
    )
    close(found["a"], 2)
    close(found["b"], [2, 2])
    assert np.isnan(example.root(lambda y: y * y + 1, jnp.array(3.0)))


def test_check(example):
    with jax.enable_x64(False):
        assert example.root.report(only="equation").ok
