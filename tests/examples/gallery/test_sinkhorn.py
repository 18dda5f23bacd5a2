from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from truth import along

close = functools.partial(np.testing.assert_allclose, rtol=1e-7, atol=1e-9)


def operands(seed=0, n=4, m=3):
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(0.5, 1.0, n), rng.uniform(0.5, 1.0, m)
    return rng.uniform(size=(n, m)), a / a.sum(), b / b.sum(), np.array(0.2)


def by_scaling(cost, a, b, epsilon):
    """The plan by the textbook's iteration on `exp(-C / epsilon)`."""
    kernel, v = np.exp(-cost / epsilon), np.ones_like(b)
    for _ in range(1000):
        u = a / (kernel @ v)
        v = b / (kernel.T @ u)
    return u[:, None] * kernel * v


def directions(seed=1):
    cost, a, b, epsilon = operands(seed)
    return cost, 0.1 * (a - a.mean()), 0.1 * (b - b.mean()), 0.1 * epsilon  # the masses stay equal


def test_value_and_derivatives_of_two_orders(example):
    primals, tangents = operands(), directions()
    loss = lambda *operands: jnp.sum(jnp.sin(5 * example.plan(*operands)))

    @jax.jit
    def all_of(*primals):
        gradient = jax.grad(loss, (0, 1, 2, 3))
        return example.plan(*primals), jax.jvp(loss, primals, tangents)[1], *jax.jvp(gradient, primals, tangents)

    plan, slope, gradient, product = all_of(*primals)
    close(plan, by_scaling(*primals))
    truth = along(lambda *operands: np.sum(np.sin(5 * by_scaling(*operands))), primals, tangents)
    close(slope, truth)
    close(sum(np.vdot(g, t) for g, t in zip(gradient, tangents, strict=True)), truth)
    jax.tree.map(close, product, along(lambda *operands: all_of(*operands)[2], primals, tangents))


def test_vmap(example):
    (cost, a, b, _), (other, *_) = operands(), operands(1)
    gradient = jax.grad(example.transport_cost)
    found = jax.jit(jax.vmap(gradient, (2, None, None, 0)))(np.stack([cost, other], 2), a, b, np.array([0.2, 0.3]))
    for k, (each, epsilon) in enumerate(((cost, 0.2), (other, 0.3))):
        truth = along(lambda cost, e=epsilon: np.sum(by_scaling(cost, a, b, e) * cost), (each,), (each,))
        close(np.vdot(found[k], each), truth)


def test_check(example):
    with jax.enable_x64(False):
        assert example.potential.report(only="equation").ok
