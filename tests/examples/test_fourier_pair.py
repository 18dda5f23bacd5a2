from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprim

lengths = pytest.mark.parametrize("n", [1, 4, 5])
close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)


def signal(n):
    return np.random.default_rng(n).normal(size=n).astype("float32")


def spectrum(n):
    rng = np.random.default_rng(n)
    size = n // 2 + 1
    return (rng.normal(size=size) + 1j * rng.normal(size=size)).astype("complex64")


@lengths
def test_values(example, n):
    x, y = signal(n), spectrum(n)
    close(example.half_spectrum(x, n=n), np.fft.rfft(x))
    k, m = np.arange(n // 2 + 1), np.arange(n)
    close(example.half_sum(y, n=n), (np.exp(-2j * np.pi * np.outer(m, k) / n) @ y).real)


@lengths
def test_transposes_are_those_of_jax(example, n):
    x, y = signal(n), spectrum(n)
    forward = functools.partial(example.half_spectrum, n=n)
    (by_jax,) = jax.linear_transpose(jnp.fft.rfft, x)(y)
    close(jax.linear_transpose(forward, x)(y)[0], by_jax)
    close(jax.vjp(forward, x)[1](y)[0], by_jax)
    backward = functools.partial(example.half_sum, n=n)
    padded = lambda y: jnp.fft.fft(y, n).real
    close(jax.linear_transpose(backward, y)(x)[0], jax.linear_transpose(padded, y)(x)[0])


@lengths
def test_dot_product_identity_does_not_conjugate(example, n):
    x, y = signal(n), spectrum(n)
    close(np.sum(y * example.half_spectrum(x, n=n)).real, np.sum(x * example.half_sum(y, n=n)))


def power(transform):
    return lambda x: jnp.sum(jnp.arange(3) * jnp.abs(transform(x)) ** 2)


@pytest.mark.parametrize("n", [4, 5])
def test_derivatives_of_any_order(example, n):
    x = signal(n)
    own, jaxs = power(functools.partial(example.half_spectrum, n=n)), power(jnp.fft.rfft)
    close(jax.grad(own)(x), jax.grad(jaxs)(x))
    close(jax.jit(jax.hessian(own))(x), jax.hessian(jaxs)(x), atol=1e-4)
    close(jax.jacrev(jax.grad(own))(x), jax.hessian(jaxs)(x), atol=1e-4)


def test_a_batch_is_one_call_of_the_host_function(example):
    x = np.stack([signal(5), 2 * signal(5), signal(5) - 1])
    with jaxprim.record_rules(quiet=True) as record:
        out = jax.block_until_ready(jax.vmap(functools.partial(example.half_spectrum, n=5))(x))
    close(out, np.fft.rfft(x))
    assert [count for (_, rule, _), count in record.counts.items() if rule == "host"] == [1]


def test_double_precision(example):
    with jax.enable_x64(True):
        x = signal(5).astype("float64")
        assert example.half_spectrum(x, n=5).dtype == "complex128"
        np.testing.assert_allclose(example.half_spectrum(x, n=5), np.fft.rfft(x), rtol=1e-13)


def test_a_wrong_length_is_refused(example):
    with pytest.raises(TypeError, match="a signal of length 5 with n=4"):
        example.half_spectrum(signal(5), n=4)


def test_the_adjoint_is_not_the_transpose(example):
    """The mistake that the example warns of: it is caught."""
    wrong = jaxprim.Primitive("wrong", batching="expand_dims")

    @wrong.def_host
    def _(x):
        return np.fft.rfft(x)

    @wrong.def_abstract_eval
    def _(x):
        return jax.ShapeDtypeStruct((*x.shape[:-1], 3), "complex64")

    @wrong.def_transpose(linear="x")
    def _(y_bar):
        return jnp.real(jnp.fft.fft(jnp.conj(y_bar), 4))

    x = signal(4)
    assert not np.allclose(jax.grad(power(wrong))(x), jax.grad(power(jnp.fft.rfft))(x), atol=1e-3)
    assert not jaxprim.report(wrong, x).ok


def test_check(example):
    assert example.half_spectrum.check().ok
    assert example.half_sum.check().ok
