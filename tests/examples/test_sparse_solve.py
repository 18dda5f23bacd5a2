from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

TOLERANCE = {"float32": 1e-4, "float64": 1e-11, "complex64": 1e-4, "complex128": 1e-11}
dtypes = pytest.mark.parametrize("dtype", TOLERANCE)
directions = pytest.mark.parametrize("transposed", [False, True])


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


def system(example, dtype="float64", size=6):
    pattern, values = example.Pattern.of(example.laplacian(size))
    rng = np.random.default_rng(0)
    b = rng.normal(size=size)
    if dtype.startswith("complex"):
        values, b = values + 0.3j * rng.normal(size=values.size), b + 1j * rng.normal(size=size)
    return pattern, values.astype(dtype), b.astype(dtype)


def dense_solve(values, b, *, pattern, transposed=False):
    """The same function with nothing in common: JAX's dense solver."""
    matrix = jnp.zeros((pattern.size, pattern.size), values.dtype)
    matrix = matrix.at[np.array(pattern.rows), np.array(pattern.columns)].set(values)
    return jnp.linalg.solve(matrix.T if transposed else matrix, b)


def both(example, pattern, transposed):
    params = {"pattern": pattern, "transposed": transposed}
    return functools.partial(example.sparse_solve, **params), functools.partial(dense_solve, **params)


def loss_of(solve):
    return lambda values, b: jnp.sum(jnp.arange(1, b.size + 1) * jnp.abs(solve(values, b)) ** 2)


@dtypes
@directions
def test_value_and_derivatives_are_those_of_the_dense_solver(example, dtype, transposed):
    pattern, values, b = system(example, dtype)
    sparse, dense = both(example, pattern, transposed)
    close = functools.partial(np.testing.assert_allclose, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    close(sparse(values, b), dense(values, b))
    dots = (np.flip(values), np.flip(b))
    close(jax.jvp(sparse, (values, b), dots)[1], jax.jvp(dense, (values, b), dots)[1])
    jax.tree.map(close, jax.grad(loss_of(sparse), (0, 1))(values, b), jax.grad(loss_of(dense), (0, 1))(values, b))


@directions
def test_jvp_against_differences(example, transposed):
    pattern, values, b = system(example)
    sparse, _ = both(example, pattern, transposed)
    v, w, h = np.cos(values), np.sin(b), 1e-4
    along = lambda t: sparse(values + t * v, b + t * w)
    by_differences = (8 * (along(h) - along(-h)) - (along(2 * h) - along(-2 * h))) / (12 * h)
    np.testing.assert_allclose(jax.jvp(sparse, (values, b), (v, w))[1], by_differences, rtol=1e-9)


def test_second_derivatives(example):
    pattern, values, b = system(example, size=3)
    sparse, dense = both(example, pattern, False)
    found, expected = jax.hessian(loss_of(sparse), (0, 1))(values, b), jax.hessian(loss_of(dense), (0, 1))(values, b)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-9), found, expected)
    by_b = jax.jacrev(jax.jacfwd(loss_of(sparse), 1), 1)(values, b)
    np.testing.assert_allclose(by_b, expected[1][1], rtol=1e-9, atol=1e-9)


def test_under_jit_vmap_and_scan(example):
    pattern, values, b = system(example)
    sparse, dense = both(example, pattern, False)
    many = np.stack([b, 2 * b, b - 1])
    np.testing.assert_allclose(jax.jit(sparse)(values, b), dense(values, b))
    np.testing.assert_allclose(
        jax.vmap(sparse, (None, 0))(values, many), jax.vmap(dense, (None, 0))(values, many), rtol=1e-12
    )
    _, xs = jax.lax.scan(lambda c, b: (c, sparse(c, b)), jnp.asarray(values), many)
    np.testing.assert_allclose(xs, jax.vmap(dense, (None, 0))(values, many), rtol=1e-12)


def test_one_factorization_serves_a_gradient_and_a_batch(example):
    pattern, values, b = system(example)
    sparse, _ = both(example, pattern, False)
    example.factors.cache_clear()
    jax.grad(loss_of(sparse), (0, 1))(values, b)
    jax.vmap(sparse, (None, 0))(values, np.stack([b, 2 * b, b - 1]))
    assert example.factors.cache_info().misses == 1


def test_a_wrong_size_is_refused(example):
    pattern, values, b = system(example)
    with pytest.raises(TypeError, match="do not fit a matrix of size 6"):
        example.sparse_solve(values, b[:5], pattern=pattern)


def test_check(example):
    with jax.enable_x64(False):
        assert example.sparse_solve.check().ok
