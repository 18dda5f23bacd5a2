"""Tiny, huge and half-precision numbers: intermediate results overflow, or lose their digits."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.users.operation import bf16, draws, f16, fault, op

double = lambda y, x: 2 * x
op("square_tiny", lambda x: x * x, lambda: [(jnp.asarray([1e-120, -3e-120, 2e-121]),)], partials=double, x64=True)
op("square_half", lambda x: x * x, lambda: [(jnp.asarray([180.0, -240.0, 3.0, 0.5], f16),)], partials=double)
op("exp_half", jnp.exp, lambda: [(jnp.asarray([10.5, -4.0, 0.3], f16),)], partials=lambda y, x: y)


def scaled_norm(x):
    top = jnp.max(jnp.abs(x))
    return top * jnp.sqrt(jnp.sum((x / top) ** 2))


op(
    "norm_half",
    scaled_norm,
    lambda: [(jnp.asarray([150.0, -300.0, 40.0, 220.0, 90.0], f16),)],
    vjp={"x": lambda y_bar, y, x: y_bar * (x / y)},
    jvp={"x": lambda x_dot, y, x: jnp.sum(x / y * x_dot)},
)
op(
    "softmax_bfloat16",
    lambda x: jax.nn.softmax(x, -1),
    lambda: [(draws((3, 6), dtype=bf16)[0],)],
    vjp={"x": lambda y_bar, y, x: y * (y_bar - jnp.sum(y * y_bar, -1, keepdims=True))},
)
op(
    "variance_half",
    lambda x: jnp.mean((x - jnp.mean(x)) ** 2),
    lambda: [(jnp.asarray([100.0, 101.5, 99.0, 97.0, 103.0], f16),)],
    jvp={"x": lambda x_dot, y, x: 2 * jnp.mean((x - jnp.mean(x)) * x_dot)},
)
op(
    "logsumexp_large",
    lambda x: jax.nn.logsumexp(x, -1),
    lambda: [(1e4 + draws((4, 5))[0],)],
    jvp={"x": lambda x_dot, y, x: jnp.sum(jnp.exp(x - y[..., None]) * x_dot, -1)},
    vjp={"x": lambda y_bar, y, x: jnp.exp(x - y[..., None]) * y_bar[..., None]},
)
op(
    "photon_energy",
    lambda frequency, planck: planck * frequency,
    lambda: [(jnp.asarray([5.1e14, 4.3e14, 6.6e14]), jnp.asarray(6.626e-34))],
    partials=lambda y, frequency, planck: (planck, frequency),
    x64=True,
)
op(
    "coulomb",
    lambda q, r: 8.99e9 * q / r**2,
    lambda: [(jnp.asarray([1.6e-19, -3.2e-19, 4.8e-19], np.float32), jnp.asarray([1e-10, 3e-10, 2e-9], np.float32))],
    partials=lambda y, q, r: (8.99e9 / r**2, -2 * (8.99e9 * q / r**2) / r),
)
op(
    "relative_change",
    lambda x, y: jnp.log1p((x - y) / y),
    lambda: [(1 + 1e-5 * draws((6,))[0], jnp.ones(6, np.float32))],
    partials=lambda z, x, y: (1 / x, -1 / y),
)
op("sin_large", jnp.sin, lambda: [(jnp.asarray([1e4, -3e4, 2.5e4], np.float32),)], partials=lambda y, x: jnp.cos(x))
op(
    "gelu_bfloat16",
    lambda x: 0.5 * x * (1 + jax.lax.erf(x * 0.5**0.5)),
    lambda: [(draws((7,), dtype=bf16)[0],)],
    partials=lambda y, x: 0.5 * (1 + jax.lax.erf(x * 0.5**0.5)) + (2 * np.pi) ** -0.5 * x * jnp.exp(-x * x / 2),
)

# -- faults: one rule each

fault("square_half", "partials", None, lambda y, x: x, "the factor 2 is missing")
fault("square_tiny", "partials", None, lambda y, x: 2 * jnp.abs(x), "wrong sign for negative operands")
fault("exp_half", "partials", None, lambda y, x: y * 1.01, "one per cent too large")
fault("norm_half", "vjp", "x", lambda y_bar, y, x: y_bar * x / jnp.max(jnp.abs(x)), "divides by the largest element")
fault("softmax_bfloat16", "vjp", "x", lambda y_bar, y, x: y * (y_bar - jnp.sum(y * y_bar)), "sums over the rows too")
fault(
    "variance_half",
    "jvp",
    "x",
    lambda x_dot, y, x: 2 * jnp.sum((x - jnp.mean(x)) * x_dot) / (x.size - 1),
    "divides by n - 1",
)
fault(
    "logsumexp_large",
    "jvp",
    "x",
    lambda x_dot, y, x: jnp.sum(jnp.exp(x - y[..., None]) * x_dot),
    "sums over the rows too",
)
fault("photon_energy", "partials", None, lambda y, frequency, planck: (planck * 1.00001, frequency), "1e-5 too large")
fault("coulomb", "partials", None, lambda y, q, r: (8.99e9 / r**2, -(8.99e9 * q / r**2) / r), "half of the slope in r")
fault("relative_change", "partials", None, lambda z, x, y: (1 / x, 1 / y), "the sign of y")
fault("sin_large", "partials", None, lambda y, x: jnp.sqrt(1 - y * y), "the cosine without its sign")
fault("gelu_bfloat16", "partials", None, lambda y, x: 0.5 * (1 + jax.lax.erf(x * 0.5**0.5)), "a term is missing")
