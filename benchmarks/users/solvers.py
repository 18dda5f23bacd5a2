"""Host functions, solvers, and rules for batches."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from benchmarks.users.operation import draws, f64, fault, made, op


def cube_root(x):
    y = np.asarray(x, np.float64)
    return np.cbrt(y).astype(x.dtype)


same = lambda x, *rest, **params: x
op(
    "cube_root",
    cube_root,
    lambda: [(draws((4,), low=0.3)[0],)],
    partials=lambda y, x: 1 / (3 * y * y),
    host=True,
    abstract_eval=same,
)


def conjugate_gradients(b):
    """Solves a fixed system to a relative residual of 1e-5."""
    n = b.shape[0]
    a = np.diag(np.linspace(1, 9, n)) + 0.3 * (np.eye(n, k=1) + np.eye(n, k=-1))
    x, r = np.zeros(n), np.asarray(b, np.float64)
    p, limit = r, 1e-5 * np.linalg.norm(r)
    for _ in range(4 * n):
        if np.linalg.norm(r) <= limit:
            break
        step = r @ r / (p @ a @ p)
        x, new = x + step * p, r - step * (a @ p)
        p, r = new + (new @ new) / (r @ r) * p, new
    return x.astype(b.dtype)


op(
    "conjugate_gradients",
    conjugate_gradients,
    lambda: [(draws((40,), dtype=f64)[0],)],
    host=True,
    abstract_eval=same,
    transpose=(lambda y_bar: made("conjugate_gradients")(y_bar), ("b",)),
    accuracy=2e-5,
    x64=True,
)


def kepler(mean, e):
    anomaly = mean + e * jnp.sin(mean)
    for _ in range(12):
        anomaly = anomaly - (anomaly - e * jnp.sin(anomaly) - mean) / (1 - e * jnp.cos(anomaly))
    return anomaly


op(
    "kepler",
    kepler,
    lambda: [(draws((4,), low=0.3)[0], jnp.float32(0.3))],
    partials=lambda y, mean, e: (1 / (1 - e * jnp.cos(y)), jnp.sin(y) / (1 - e * jnp.cos(y))),
    domain=lambda mean, e: (mean, jnp.clip(e, 0, 0.8)),
)


def matvec_batching(axis, args, dims):
    (a, x), (da, dx) = args, dims
    if da is None:
        return jnp.moveaxis(x, dx, 0) @ a.T, 0
    a = jnp.moveaxis(a, da, 0)
    return (a @ x if dx is None else jnp.einsum("bij,bj->bi", a, jnp.moveaxis(x, dx, 0))), 0


op(
    "matvec",
    lambda a, x: a @ x,
    lambda: [tuple(draws((3, 4), (4,)))],
    batching=matvec_batching,
    jvp={"a": lambda a_dot, y, a, x: a_dot @ x, "x": lambda x_dot, y, a, x: a @ x_dot},
)


def inverse_rms(x):
    return 1 / jnp.sqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)


def rms_norm_x_bar(y_bar, y, x, w):
    r, g = inverse_rms(x), y_bar * w
    return r * g - r**3 * x * jnp.mean(x * g, -1, keepdims=True)


op(
    "rms_norm",
    lambda x, w: x * w * inverse_rms(x),
    lambda: [tuple(draws((3, 5), (5,)))],
    vjp={"x": rms_norm_x_bar, "w": lambda y_bar, y, x, w: jnp.sum(y_bar * x * inverse_rms(x), 0)},
)
op(
    "outer",
    lambda x, y: jnp.outer(x, y),
    lambda: [tuple(draws((3,), (4,)))],
    vjp={"x": lambda z_bar, z, x, y: z_bar @ y, "y": lambda z_bar, z, x, y: z_bar.T @ x},
)

# -- faults: one rule each

fault("cube_root", "partials", None, lambda y, x: 1 / (3 * jnp.abs(y)), "an exponent")
fault(
    "conjugate_gradients",
    "transpose",
    None,
    lambda y_bar: made("conjugate_gradients")(y_bar) * 1.005,
    "half a per cent too large",
)
fault(
    "kepler",
    "partials",
    None,
    lambda y, mean, e: (1 / (1 - e * jnp.cos(mean)), jnp.sin(y) / (1 - e * jnp.cos(y))),
    "at the operand, not at the solution",
)
fault(
    "matvec",
    "batching",
    None,
    lambda axis, args, dims: (
        ((args[0] @ args[1].T).T, 0)
        if dims == (None, 0)
        else matvec_batching(axis, (args[0], args[1]), (dims[0], dims[1]))
        if dims[1] is None
        else (jnp.einsum("bij,bj->bi", args[0], args[1]), 0)
    ),
    "takes every batch axis for the first",
)
fault("matvec", "jvp", "x", lambda x_dot, y, a, x: a @ x_dot + 1e-3 * x_dot[0], "a small term too many")
fault("rms_norm", "vjp", "w", lambda y_bar, y, x, w: jnp.sum(y_bar * x, 0), "not normalised")
fault(
    "rms_norm",
    "vjp",
    "x",
    lambda y_bar, y, x, w: y_bar * w * inverse_rms(x),
    "the norm is taken as constant",
)
fault("outer", "vjp", "y", lambda z_bar, z, x, y: jnp.sum(z_bar, 0) * jnp.mean(x), "right for equal elements only")
