# The letters of astronomy, as in the example.
# ruff: noqa: N803, N806
from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

E_RANGE = (0.0, 0.0167, 0.5, 0.9, 0.99)
M_RANGE = np.concatenate([-np.geomspace(1e-6, 40.0, 60), [0.0], np.geomspace(1e-6, 40.0, 60), [np.pi, -np.pi]])


def reference(e, M):
    """Bisection in long double: another method, another precision."""
    e, M = np.longdouble(e), np.asarray(M, np.longdouble)
    low, high = M - 1, M + 1
    for _ in range(80):
        middle = (low + high) / 2
        is_below = middle - e * np.sin(middle) < M
        low, high = np.where(is_below, middle, low), np.where(is_below, high, middle)
    return (low + high) / 2


def differences(f, x, h=1e-4):
    """Fourth-order central differences."""
    return (8 * (f(x + h) - f(x - h)) - (f(x + 2 * h) - f(x - 2 * h))) / (12 * h)


@pytest.mark.parametrize("e", E_RANGE)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_solves_the_equation(example, e, dtype):
    with jax.enable_x64(True):
        e, M = np.asarray(e, dtype), M_RANGE.astype(dtype)
        found = np.asarray(example.kepler(jnp.full_like(M, e), M))
    assert found.dtype == dtype
    exact = reference(e, M)
    # Rounding E and M, and the reduction to one half turn, move M by some eps |M|; the slope passes that on to E.
    allowed = np.finfo(dtype).eps * (np.abs(exact) + np.abs(M)) / (1 - e * np.cos(exact))
    assert np.all(np.abs(found - exact) <= allowed + 1e-18)  # The bisection ends 2^-80 from the root.


@pytest.mark.parametrize("e", [0.0167, 0.5, 0.99])
def test_derivatives_are_those_of_the_reference(example, e):
    M = np.array([0.5, -1.0, 3.0, 6.0])
    with jax.enable_x64(True):
        by_e, by_M = jax.vmap(jax.grad(example.kepler, (0, 1)))(np.full_like(M, e), M)
        forward = jax.jvp(example.kepler, (np.full_like(M, e), M), (np.ones_like(M), np.ones_like(M)))[1]
    np.testing.assert_allclose(by_M, differences(lambda M: reference(e, M), M).astype(float), rtol=1e-7)
    np.testing.assert_allclose(by_e, differences(lambda e: reference(e, M), e).astype(float), rtol=1e-7)
    np.testing.assert_allclose(forward, by_e + by_M, rtol=1e-12)


def test_second_derivative(example):
    with jax.enable_x64(True):
        slope = jax.grad(example.kepler, 1)
        found = jax.hessian(example.kepler, (0, 1))(0.5, 1.0)
        by_differences = [differences(lambda e: slope(e, 1.0), 0.5), differences(lambda M: slope(0.5, M), 1.0)]
    np.testing.assert_allclose(found[1], by_differences, rtol=1e-9)


def test_under_jit_and_vmap(example):
    e, M = jnp.array([0.1, 0.99]), jnp.array([1.0, 0.01])
    alone = [example.kepler(*pair) for pair in zip(e, M, strict=True)]
    np.testing.assert_allclose(jax.jit(jax.vmap(example.kepler))(e, M), alone, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(example.kepler, (None, 0))(0.1, M[:1]), alone[:1], rtol=1e-6)


def test_check(example):
    assert example.kepler.check().ok
    with jax.enable_x64(True):
        assert example.kepler.check(jnp.array([0.0167, 0.99]), jnp.array([2.0, 0.01])).ok
