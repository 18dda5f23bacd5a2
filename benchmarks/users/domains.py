"""Sorted grids and probabilities."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from benchmarks.users.operation import draws, fault, op


def cell(x, grid):
    return jnp.clip(jnp.searchsorted(grid, x, side="right") - 1, 0, len(grid) - 2)


def interpolate(x, grid, values):
    i = cell(x, grid)
    return values[i] + (x - grid[i]) / (grid[i + 1] - grid[i]) * (values[i + 1] - values[i])


def slope(x, grid, values):
    i = cell(x, grid)
    return (values[i + 1] - values[i]) / (grid[i + 1] - grid[i])


def values_bar(y_bar, y, x, grid, values):
    i = cell(x, grid)
    t = (x - grid[i]) / (grid[i + 1] - grid[i])
    return jnp.zeros_like(values).at[i].add((1 - t) * y_bar).at[i + 1].add(t * y_bar)


def grid_bar(y_bar, y, x, grid, values):
    i = cell(x, grid)
    t, s = (x - grid[i]) / (grid[i + 1] - grid[i]), slope(x, grid, values)
    return jnp.zeros_like(grid).at[i].add(-(1 - t) * s * y_bar).at[i + 1].add(-t * s * y_bar)


GRID = lambda: [
    (jnp.asarray([0.3, 1.1, 2.6, 0.7], np.float32), jnp.asarray([0.0, 0.5, 1.0, 2.0, 4.0], np.float32), draws((5,))[0])
]
op(
    "interpolation",
    interpolate,
    GRID,
    vjp={"x": lambda y_bar, y, x, grid, values: y_bar * slope(x, grid, values), "grid": grid_bar, "values": values_bar},
    domain=lambda x, grid, values: (jnp.clip(x, jnp.min(grid), jnp.max(grid)), jnp.sort(grid), values),
)
op(
    "interpolation_nan",
    lambda x, grid, values: jnp.where(jnp.all(jnp.diff(grid) > 0), interpolate(x, grid, values), jnp.nan),
    GRID,
    vjp={"x": lambda y_bar, y, x, grid, values: y_bar * slope(x, grid, values), "grid": grid_bar, "values": values_bar},
)
P = jnp.asarray([0.1, 0.2, 0.3, 0.4], np.float32)
op(
    "entropy",
    lambda p: -jnp.sum(p * jnp.log(p)),
    lambda: [(P,)],
    jvp={"p": lambda p_dot, y, p: -jnp.sum((jnp.log(p) + 1) * p_dot)},
    vjp={"p": lambda y_bar, y, p: -(jnp.log(p) + 1) * y_bar},
)
op(
    "divergence",
    lambda p, q: jnp.sum(p * jnp.log(p / q)),
    lambda: [(P, P[::-1])],
    vjp={"p": lambda y_bar, y, p, q: (jnp.log(p / q) + 1) * y_bar, "q": lambda y_bar, y, p, q: -p / q * y_bar},
    domain=lambda p, q: (jnp.abs(p) / jnp.sum(jnp.abs(p)), jnp.abs(q) / jnp.sum(jnp.abs(q))),
)
op("logit", lambda p: jnp.log(p / (1 - p)), lambda: [(P,)], partials=lambda y, p: 1 / (p * (1 - p)))
op(
    "arcsine",
    jnp.arcsin,
    lambda: [(jnp.asarray([0.1, -0.6, 0.9], np.float32),)],
    partials=lambda y, x: 1 / jnp.sqrt(1 - x * x),
)

# -- faults: one rule each

fault(
    "interpolation",
    "vjp",
    "grid",
    lambda y_bar, y, x, grid, values: -grid_bar(y_bar, y, x, grid, values),
    "the sign",
)
fault(
    "interpolation",
    "vjp",
    "values",
    lambda y_bar, y, x, grid, values: jnp.zeros_like(values).at[cell(x, grid)].add(y_bar),
    "the nearest lower knot gets all",
)
fault(
    "interpolation_nan",
    "vjp",
    "x",
    lambda y_bar, y, x, grid, values: y_bar * slope(x + 0.2, grid, values),
    "the slope of a neighbour",
)
fault("entropy", "jvp", "p", lambda p_dot, y, p: -jnp.sum(jnp.log(p) * p_dot), "right along tangents of sum zero")
fault("divergence", "vjp", "q", lambda y_bar, y, p, q: -q / p * y_bar, "upside down")
fault("logit", "partials", None, lambda y, p: 1 / p, "a term is missing")
fault("arcsine", "partials", None, lambda y, x: 1 + x * x / 2, "the first terms of a series")
