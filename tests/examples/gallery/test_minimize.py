from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from truth import along

close = functools.partial(np.testing.assert_allclose, rtol=1e-7, atol=1e-9)


def operands(example, seed=0):
    fitted, _ = example.made_up(12, 4, seed)
    return np.zeros(4), jax.tree.map(np.asarray, fitted)


def test_value_and_derivatives_of_two_orders(example):
    """Beside a root of the gradient, and differences of that."""
    start, data = operands(example)
    found = scipy.optimize.root(lambda y: example.penalized_in_numpy(y, data)[1], start, tol=1e-13).x
    loss = lambda data: jnp.sum(jnp.sin(example.ours(jnp.asarray(start), data)))
    _, tangent = operands(example, 1)

    @jax.jit
    def both(data, tangent):
        y = example.ours(jnp.asarray(start), data)
        gradient, product = jax.jvp(jax.grad(loss), (data,), (tangent,))
        return y, gradient, product, jax.jvp(loss, (data,), (tangent,))[1]

    y, gradient, product, slope = both(data, tangent)
    close(y, found)
    solved = lambda data: scipy.optimize.root(lambda y: example.penalized_in_numpy(y, data)[1], start, tol=1e-13).x
    truth = along(lambda data: np.sum(np.sin(solved(data))), (data,), (tangent,))
    close(slope, truth)
    close(sum(np.vdot(g, t) for g, t in zip(gradient, tangent, strict=True)), truth)
    jax.tree.map(close, product, along(lambda data: both(data, tangent)[1], (data,), (tangent,)))


def test_vmap_over_data_and_start(example):
    (start, data), (_, other) = operands(example), operands(example, 1)
    loss = lambda start, data: jnp.sum(example.ours(start, data) ** 2)
    starts, both = np.stack([start, start + 1]), jax.tree.map(lambda *leaves: np.stack(leaves), data, other)
    at_start, gradients = jax.jit(jax.vmap(jax.grad(loss, (0, 1))))(starts, both)
    assert not np.any(at_start)  # the minimum is the same, wherever the search starts
    for k, each in enumerate((data, other)):
        truth = along(lambda data: loss(start, data), (each,), (each,))
        close(sum(np.vdot(g[k], t) for g, t in zip(gradients, each, strict=True)), truth)


def test_what_has_no_minimum_is_an_error(example):
    hill = example.Objective(lambda y, x: -(y @ y) / 2, lambda y, x: (-(y @ y) / 2, -y), lambda y, x: -np.eye(2))
    with pytest.raises((ArithmeticError, RuntimeError, ValueError), match="minimize stopped after"):
        jax.block_until_ready(example.minimize(np.ones(2), 0.0, objective=hill))


def test_check(example):
    """A gradient in NumPy of another function than that in JAX does not pass."""
    (given,) = example.minimize.examples()
    other = example.LOGISTIC._replace(in_jax=lambda y, data: example.penalized(y, data) + 0.01 * y[0])
    for objective, status in ((example.LOGISTIC, "pass"), (other, "fail")):
        report = example.minimize.report(*given.operands, objective=objective, only="equation")
        assert [finding.status for finding in report.findings] == [status]
