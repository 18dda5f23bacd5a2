from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from truth import along

import jaxprim

close = functools.partial(np.testing.assert_allclose, rtol=1e-7, atol=1e-9)
TIMES = (0.0, 0.5, 1.5)


def linear(example):
    """y' = A y with the entries of A as parameters: its solution is known."""
    return example.Equation(
        lambda t, y, p: p.reshape(2, 2) @ y,
        lambda t, y, p: p.reshape(2, 2),
        lambda t, y, p: np.kron(np.eye(2), y),
    )


def exact(y0, p):
    return np.array([scipy.linalg.expm(t * p.reshape(2, 2)) @ y0 for t in TIMES])


def operands(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=2), rng.normal(size=4)


def solve(example, equation=None, **options):
    return functools.partial(
        example.ode, equation=equation or linear(example), solver=example.Solver(TIMES)._replace(**options)
    )


@pytest.mark.parametrize("method", ["DOP853", "Radau", "LSODA"])
def test_value_and_derivatives_are_those_of_the_matrix_exponential(example, method):
    primals, tangents = operands(), operands(1)
    op = solve(example, method=method, rtol=1e-9)
    close(op(*primals), exact(*primals), rtol=1e-6)
    truth = along(exact, primals, tangents)
    close(jax.jvp(op, primals, tangents)[1], truth, rtol=1e-6, atol=1e-7)
    y_bar = np.cos(truth)
    bars = jax.jit(lambda *primals: jax.vjp(op, *primals)[1](y_bar))(*primals)
    close(sum(np.sum(b * t) for b, t in zip(bars, tangents, strict=True)), np.sum(y_bar * truth), rtol=1e-6)


def test_a_nonlinear_equation_against_differences_of_the_solution(example):
    y0, p = np.array([1.5, 0.5]), np.array([0.6, 0.8, 0.7, 0.9])
    op = solve(example, example.PREDATORS)
    tangents = np.array([1.0, -0.5]), np.array([0.25, 0.0, -1.0, 0.5])
    close(jax.jvp(op, (y0, p), tangents)[1], along(op, (y0, p), tangents, step=1e-2))


def test_a_stiff_equation(example):
    y0, p = np.array([1.0, 0.0, 0.0]), np.array([0.04, 1e4, 3e7])
    op = solve(example, example.REACTIONS, method="Radau", times=(0.0, 40.0), rtol=1e-8)
    found = op(y0, p)[-1]
    # Hairer and Wanner, "Solving Ordinary Differential Equations II", IV.10.
    np.testing.assert_allclose(found, [0.7158270688, 0.9185534765e-5, 0.2841637457], rtol=1e-6)
    gradient = jax.grad(lambda p: op(y0, p)[-1, 2])(p) * p
    by_differences = along(lambda p: op(y0, p)[-1, 2], (p,), (p,), step=2e-3)
    np.testing.assert_allclose(jnp.sum(gradient), by_differences, rtol=1e-5)
    np.testing.assert_allclose(jnp.sum(jax.jvp(lambda p: op(y0, p)[-1], (p,), (p,))[1]), 0, atol=1e-8)  # mass is kept


def runs(example, function, *operands):
    """Nonlinear solves, linearizations, and the calls of each host function."""
    example.solved.cache_clear()
    example.linearized.cache_clear()
    with jaxprim.record_rules(quiet=True) as record:
        jax.block_until_ready(jax.jit(function)(*operands))
    calls = {name: count for (name, rule, _), count in record.counts.items() if rule == "host"}
    return example.solved.cache_info().misses, example.linearized.cache_info().misses, calls


def test_one_nonlinear_solve_for_a_value_and_its_derivatives(example):
    y0, p = operands()
    op, once = solve(example), functools.partial(runs, example)
    loss = lambda y0, p: jnp.sum(op(y0, p) ** 2)
    assert once(op, y0, p) == (1, 0, {"ode": 1})
    assert once(lambda *x: jax.jvp(op, x, x), y0, p) == (1, 1, {"ode": 1, "ode_tangent": 1})
    assert once(jax.value_and_grad(loss, (0, 1)), y0, p) == (1, 1, {"ode": 1, "ode_adjoint": 1})
    assert once(jax.jacfwd(op, 1), y0, p) == (1, 1, {"ode_tangent": 1})  # 4 tangents at once
    assert once(jax.jacrev(op, 1), y0, p)[:2] == (1, 1)


def test_the_two_modes_agree_to_rounding(example):
    """Also where the solution is coarse: they are transposes of one discrete map."""
    y0, p = operands()
    op = solve(example, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(
        jax.jacfwd(op, (0, 1))(y0, p)[1], jax.jacrev(op, (0, 1))(y0, p)[1], rtol=1e-12, atol=1e-13
    )


def test_batches(example):
    op = solve(example)
    (y0, p), (other, _) = operands(), operands(1)
    found = jax.jit(jax.vmap(op, (1, None)))(np.stack([y0, other], 1), p)
    close(found, [exact(y0, p), exact(other, p)])
    gradients = jax.vmap(jax.grad(lambda y0, p: jnp.sum(op(y0, p))), (0, None))(np.stack([y0, other]), p)
    close(gradients, [np.sum([scipy.linalg.expm(t * p.reshape(2, 2)) for t in TIMES], (0, 1))] * 2)


def test_what_does_not_fit_is_refused(example):
    y0, p = operands()
    with pytest.raises(TypeError, match="must be vectors of the same dtype"):
        solve(example)(y0, p.astype("float32"))
    with pytest.raises(TypeError, match="times must rise"):
        solve(example, times=(1.0, 0.0))(y0, p)
    with pytest.raises(jaxprim.RuleMissing):
        jax.hessian(lambda p: jnp.sum(solve(example)(y0, p)))(p)


def test_check(example):
    with jax.enable_x64(False):
        assert example.ode.check(speed="fast").ok
