from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from tools import cxx
from truth import along

pytestmark = cxx
close = functools.partial(np.testing.assert_allclose, rtol=1e-8, atol=1e-10)
LABEL = np.array([3, 0, 1], np.int32)


def logits(dtype="float64"):
    return np.random.default_rng(0).normal(size=(3, 4), scale=3).astype(dtype)


def reference(z):
    lse = scipy.special.logsumexp(z, -1)
    return lse - z[np.arange(3), LABEL], lse


@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 1e-6), ("float64", 1e-14)])
def test_value(example, dtype, rtol):
    z = logits(dtype)
    for found in (example.cross_entropy(z, LABEL), jax.jit(example.cross_entropy)(z, LABEL)):
        jax.tree.map(lambda f, t: np.testing.assert_allclose(f, t, rtol=rtol, atol=rtol), found, reference(z))


def test_large_logits_do_not_overflow(example):
    z = np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, -np.inf]])
    loss, lse = example.cross_entropy(z, np.array([1, 0], np.int32))
    close(loss, [2e4, np.log(2)])
    close(lse, [1e4, np.log(2) - 1e4])
    total = lambda z: jnp.sum(example.cross_entropy(z, np.array([1, 0], np.int32))[0])
    close(jax.grad(total)(z), [[1, -1, 0], [-0.5, 0.5, 0]])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [2, 5, 600])
def test_what_is_no_number_is_not_lost(example, dtype, size):
    """The kernels are compiled with `fast_math`, which promises nothing for NaN and infinity."""
    z = np.zeros((5, size), dtype)
    z[0, 0], z[1, -1], z[2, 1:], z[3, :-1] = np.nan, np.nan, -np.inf, -np.inf
    label = np.zeros(5, np.int32)
    loss, lse = example.cross_entropy(z, label)
    np.testing.assert_allclose(lse, [np.nan, np.nan, 0, 0, np.log(size)], rtol=1e-6)
    np.testing.assert_allclose(loss, lse - z[:, 0], rtol=1e-6)
    z_bar = jax.grad(lambda z: jnp.sum(example.cross_entropy(z, label)[0]))(z)
    assert np.isnan(z_bar[:2]).all()
    np.testing.assert_array_equal(z_bar[2], 0)
    np.testing.assert_array_equal(z_bar[3], [-1, *[0] * (size - 2), 1])


def test_derivatives_against_differences(example):
    z, z_dot = logits(), np.cos(logits())
    op = lambda z: example.cross_entropy(z, LABEL)
    truth = along(reference, (z,), (z_dot,))
    jax.tree.map(close, jax.jvp(op, (z,), (z_dot,))[1], truth)
    cotangents = (np.array([1.0, -2.0, 0.5]), np.array([0.25, 3.0, -1.0]))
    (z_bar,) = jax.vjp(op, z)[1](cotangents)
    close(np.sum(z_bar * z_dot), sum(np.sum(c * t) for c, t in zip(cotangents, truth, strict=True)))


def test_one_result_alone(example):
    """The cotangent of the other is a symbolic zero."""
    z = logits()
    softmax = scipy.special.softmax(z, -1)
    for jit in (lambda f: f, jax.jit):
        close(jit(jax.grad(lambda z: jnp.sum(example.cross_entropy(z, LABEL)[0])))(z), softmax - np.eye(4)[LABEL])
        close(jit(jax.grad(lambda z: jnp.sum(example.cross_entropy(z, LABEL)[1])))(z), softmax)


def test_hessian_vector_products_against_differences_of_the_gradient(example):
    z, z_dot = logits(), np.cos(logits())
    gradient = jax.grad(lambda z: sum(map(jnp.sum, map(jnp.square, example.cross_entropy(z, LABEL)))))
    truth = along(gradient, (z,), (z_dot,))
    close(jax.jvp(gradient, (z,), (z_dot,))[1], truth)
    close(jax.vjp(gradient, z)[1](z_dot)[0], truth)


def test_vmap_is_one_call(example):
    z, labels = logits(), np.stack([LABEL, LABEL[::-1]], 1)
    over = jax.vmap(example.cross_entropy, (None, 1))
    loss, _ = over(z, labels)
    close(loss, [reference(z)[1] - z[np.arange(3), row] for row in labels.T])
    assert jax.jit(over).lower(z, labels).as_text().count("jaxprim.cross_entropy.") == 1


def test_a_label_that_is_no_class_is_an_error(example):
    with pytest.raises((RuntimeError, ValueError), match="cross_entropy: label 4 of 4 classes"):
        jax.block_until_ready(example.cross_entropy(logits(), np.array([0, 1, 4], np.int32)))


def test_check(example):
    with jax.enable_x64(False):
        assert example.cross_entropy.check(speed="fast").ok
