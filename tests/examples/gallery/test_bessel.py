from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from tools import cxx
from truth import along

import jaxprim

pytestmark = cxx
names = pytest.mark.parametrize("name", ["jv", "yv", "iv", "kv"])
V, X = np.array([0.0, 0.5, 1.25, 7.0]), np.array([0.3, 2.0, 5.0, 11.0])


@names
def test_value_and_both_modes_against_scipy(example, name):
    op, scipys = getattr(example, name), getattr(scipy.special, name)
    np.testing.assert_array_equal(jax.jit(op)(V, X), scipys(V, X))
    slope = along(lambda x: scipys(V, x), (X,), (np.ones(4),))
    np.testing.assert_allclose(jax.jvp(lambda x: op(V, x), (X,), (np.ones(4),))[1], slope, rtol=1e-9)
    np.testing.assert_allclose(jax.grad(lambda x: jnp.sum(op(V, x)))(X), slope, rtol=1e-9)


@names
def test_second_derivatives_solve_bessels_equation(example, name):
    op = getattr(example, name)
    f = lambda x: jnp.sum(op(V, x))
    y, first, second = op(V, X), jax.grad(f)(X), jnp.diag(jax.hessian(f)(X))
    sign = 1 if name in ("jv", "yv") else -1
    terms = X**2 * second, X * first, (sign * X**2 - V**2) * y
    np.testing.assert_allclose(sum(terms), 0, atol=1e-12 * np.max(np.abs(terms)))


def test_the_derivative_of_k_in_its_order(example):
    v, x = np.meshgrid([0.0, 0.5, 3.25, -2.0, 40.0], [1e-3, 0.1, 1.0, 30.0, 600.0])
    truth = along(lambda v: scipy.special.kv(v, x), (v,), (np.ones_like(v),), step=2e-3)
    np.testing.assert_allclose(example.kv_by_order(v, x), truth, rtol=1e-8, atol=1e-300)
    mixed = jax.jacfwd(jax.grad(example.kv, 0), 1)(1.5, 2.0)
    other = jax.jacrev(jax.grad(example.kv, 1), 0)(1.5, 2.0)
    by_order = lambda x: along(lambda v: scipy.special.kv(v, x), (1.5,), (1.0,), step=2e-2)
    np.testing.assert_allclose([mixed, other], along(by_order, (2.0,), (1.0,)), rtol=1e-9)


def test_the_order_of_the_others_is_refused(example):
    with pytest.raises(jaxprim.RuleMissing, match="v"):
        jax.grad(example.jv)(0.5, 1.0)


def test_single_precision_and_no_x64(example):
    for x64 in (False, True):
        with jax.enable_x64(x64):
            found = jax.jit(jax.vmap(example.jv, (None, 0)))(np.float32(0.5), X.astype("float32"))
        assert found.dtype == "float32"
        np.testing.assert_allclose(found, scipy.special.jv(0.5, X), rtol=1e-6)


def test_the_pointer_runs_unless_the_host_function_is_asked_for(example):
    assert "jaxprim.jv." in jax.jit(example.jv).lower(V, X).as_text()
    with jaxprim.use("host"):
        assert "jaxprim.jv." not in jax.jit(example.jv).lower(V, X).as_text()


def test_matern_covariances_of_half_integer_smoothness(example):
    r = np.array([0.1, 1.0, 3.0])
    np.testing.assert_allclose(example.matern(r, 0.5, 2.0), np.exp(-r / 2), rtol=1e-13)
    np.testing.assert_allclose(example.matern(r, 1.5, 1.0), (1 + np.sqrt(3) * r) * np.exp(-np.sqrt(3) * r), rtol=1e-13)


def test_check(example):
    with jax.enable_x64(False):
        assert example.kv.check(speed="fast").ok
