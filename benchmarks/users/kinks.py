"""Kinks, poles and edges, most of them at zero."""

from __future__ import annotations

import jax.numpy as jnp

from benchmarks.users.operation import draws, fault, op

op("absolute", jnp.abs, lambda: [(draws((5,))[0],)], partials=lambda y, x: jnp.sign(x))
op(
    "relu",
    lambda x: jnp.maximum(x, 0),
    lambda: [(draws((6,))[0],)],
    partials=lambda y, x: jnp.where(x > 0, 1, 0).astype(x.dtype),
)
op("reciprocal", lambda x: 1 / x, lambda: [(draws((4,), low=0.5)[0],)], partials=lambda y, x: -y * y)
op("logarithm", jnp.log, lambda: [(draws((4,), low=0.2)[0],)], partials=lambda y, x: 1 / x)
op("root", jnp.sqrt, lambda: [(draws((4,), low=0.2)[0],)], partials=lambda y, x: 0.5 / y)
op(
    "x_log_x",
    lambda x: jnp.where(x > 0, x * jnp.log(jnp.where(x > 0, x, 1)), 0),
    lambda: [(draws((4,), low=0.1)[0],)],
    partials=lambda y, x: jnp.where(x > 0, jnp.log(jnp.where(x > 0, x, 1)) + 1, 0),
)


def sinc(x):
    safe = jnp.where(x == 0, 1, x)
    return jnp.where(x == 0, 1, jnp.sin(safe) / safe)


def sinc_slope(y, x):
    """(cos x - sin(x) / x) / x, and its series where the two terms cancel."""
    small = jnp.abs(x) < 0.3
    safe = jnp.where(small, 1, x)
    return jnp.where(
        small, -x / 3 + x**3 / 30 - x**5 / 840 + x**7 / 45360, (jnp.cos(safe) - jnp.sin(safe) / safe) / safe
    )


op("sinc", sinc, lambda: [(draws((5,))[0],)], partials=sinc_slope)
op(
    "unit",
    lambda x: x / jnp.sqrt(jnp.sum(x * x)),
    lambda: [(draws((4,))[0],)],
    vjp={"x": lambda y_bar, y, x: (y_bar - y * jnp.sum(y * y_bar)) / jnp.sqrt(jnp.sum(x * x))},
)
op(
    "angle",
    jnp.arctan2,
    lambda: [tuple(draws((5,), (5,)))],
    partials=lambda z, y, x: (x / (x * x + y * y), -y / (x * x + y * y)),
)
op(
    "clip",
    lambda x, low, high: jnp.minimum(jnp.maximum(x, low), high),
    lambda: [(draws((8,))[0], jnp.float32(-0.8), jnp.float32(0.7))],
    partials=lambda y, x, low, high: (
        jnp.where((x > low) & (x < high), 1.0, 0.0),
        jnp.where(x <= low, 1.0, 0.0),
        jnp.where(x >= high, 1.0, 0.0),
    ),
    domain=lambda x, low, high: (x, jnp.minimum(low, high), jnp.maximum(low, high)),
)
op(
    "huber",
    lambda x, delta: jnp.where(jnp.abs(x) < delta, x * x / 2, delta * (jnp.abs(x) - delta / 2)),
    lambda: [(draws((8,))[0], jnp.float32(0.6))],
    partials=lambda y, x, delta: (jnp.clip(x, -delta, delta), jnp.where(jnp.abs(x) < delta, 0, jnp.abs(x) - delta)),
    domain=lambda x, delta: (x, jnp.abs(delta)),
)
op(
    "sorted",
    lambda x: jnp.sort(x),
    lambda: [(draws((6,))[0],)],
    jvp={"x": lambda x_dot, y, x: x_dot[jnp.argsort(x)]},
    vjp={"x": lambda y_bar, y, x: jnp.zeros_like(x).at[jnp.argsort(x)].set(y_bar)},
)

# -- faults: one rule each

fault("absolute", "partials", None, lambda y, x: jnp.where(x >= 0, 1.0, -2.0), "a factor 2 where x is negative")
fault("relu", "partials", None, lambda y, x: jnp.where(x > -0.5, 1.0, 0.0), "the kink is elsewhere")
fault("reciprocal", "partials", None, lambda y, x: -jnp.abs(y), "right at 1 only")
fault("logarithm", "partials", None, lambda y, x: jnp.where(x > 5, 2 / x, 1 / x), "wrong for x > 5")
fault("root", "partials", None, lambda y, x: 0.5 * y / jnp.maximum(x, 0.3), "wrong for x < 0.3")
fault(
    "x_log_x",
    "partials",
    None,
    lambda y, x: jnp.where(x > 0, jnp.log(jnp.where(x > 0, x, 1)), 0),
    "the 1 is missing",
)
fault(
    "sinc",
    "partials",
    None,
    lambda y, x: jnp.where(jnp.abs(x) < 0.6, -x / 3, sinc_slope(y, x)),
    "the series is cut too early",
)
fault("unit", "vjp", "x", lambda y_bar, y, x: y_bar / jnp.sqrt(jnp.sum(x * x)), "the norm is taken as constant")
fault(
    "angle",
    "partials",
    None,
    lambda z, y, x: (-y / (x * x + y * y), x / (x * x + y * y)),
    "the operands are exchanged",
)
fault(
    "clip",
    "partials",
    None,
    lambda y, x, low, high: (
        jnp.where((x > low) & (x < high), 1.0, 0.0),
        jnp.where(x <= low, 1.0, 0.0),
        jnp.zeros_like(x),
    ),
    "high has no slope",
)
fault(
    "huber",
    "partials",
    None,
    lambda y, x, delta: (jnp.clip(x, -delta, delta), jnp.where(jnp.abs(x) < delta, 0, jnp.abs(x))),
    "the slope in delta",
)
fault("sorted", "vjp", "x", lambda y_bar, y, x: y_bar[jnp.argsort(x)], "the inverse permutation is needed")
