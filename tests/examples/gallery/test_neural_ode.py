from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.integrate
from truth import along

close = functools.partial(np.testing.assert_allclose, rtol=1e-7, atol=1e-9)
STEPS = 36


def by_scipy(weights, y0, t1=1.0):
    w, b, v = weights
    f = lambda t, y: v @ np.tanh(w @ y + b * t)
    return scipy.integrate.solve_ivp(f, (0.0, float(t1)), y0, "DOP853", rtol=1e-12, atol=1e-13).y[:, -1]


def solve(example, weights, y0, t1=1.0):
    return example.evolve(example.network(weights), y0, 0.0, t1, steps=STEPS)


def test_derivatives_in_the_weights_of_the_vector_field(example):
    (primals, tangents) = (example.made_up(3, 4), example.made_up(3, 4, seed=1))
    primals, tangents = (*primals, 1.0), (*tangents, 0.3)
    loss = lambda *operands: jnp.sum(jnp.sin(solve(example, *operands)))

    @jax.jit
    def all_of(*primals):
        gradient = jax.grad(loss, (0, 1, 2))
        two = jax.tree.map(lambda a: jnp.stack([a, 0.9 * a]), primals)
        return (
            solve(example, *primals),
            jax.jvp(loss, primals, tangents)[1],
            *jax.jvp(gradient, primals, tangents),
            jax.vmap(gradient)(*two),
        )

    y, slope, gradient, product, batch = all_of(*primals)
    np.testing.assert_allclose(y, by_scipy(*primals), rtol=1e-4)
    truth = along(lambda *operands: np.sum(np.sin(all_of(*operands)[0])), primals, tangents)
    close(slope, truth)
    inner = lambda one, other: sum(np.vdot(a, b) for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True))
    np.testing.assert_allclose(inner(gradient, tangents), slope, rtol=1e-12)  # transposes, to rounding
    jax.tree.map(close, product, along(lambda *operands: all_of(*operands)[2], primals, tangents))
    jax.tree.map(lambda each, alone: close(each[0], alone), batch, gradient)
    fewer = jax.tree.map(lambda a: 0.9 * a, primals)
    jax.tree.map(lambda each, alone: close(each[1], alone), batch, all_of(*fewer)[2])


def test_what_is_kept_grows_with_the_root_of_the_steps(example):
    weights, y0 = example.made_up(50, 4)

    def kept(steps):
        of_y0 = lambda y0: example.evolve(example.network(weights), y0, 0.0, 1.0, steps=steps)
        return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(lambda y0: jax.vjp(of_y0, y0)[1], y0)))

    assert kept(64 * 64) - kept(16 * 16) == (64 - 16) * (50 + 1)  # y, and the number of the step


def test_check(example):
    with jax.enable_x64(False):
        assert example.evolve.report(only="primal").ok
