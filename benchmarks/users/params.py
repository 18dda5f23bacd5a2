"""Integers, booleans and keys among the operands, and enumerations among the static params."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from benchmarks.users.operation import draws, fault, one, op
from jaxprim import Example

op(
    "integer_power",
    lambda x, n: x**n,
    lambda: [(draws((4,), low=0.5)[0], jnp.asarray([2, 3, 1, 4]))],
    jvp={"x": lambda x_dot, y, x, n: jnp.where(n == 0, 0, n.astype(x.dtype) * x ** (n - 1)) * x_dot},
    vjp={"x": lambda y_bar, y, x, n: jnp.where(n == 0, 0, n.astype(x.dtype) * x ** (n - 1)) * y_bar},
)
op(
    "lookup",
    lambda table, index: table[index],
    lambda: [(draws((5, 2))[0], jnp.asarray([4, 0, 0, 2]))],
    jvp={"table": lambda table_dot, y, table, index: table_dot[index]},
    vjp={"table": lambda y_bar, y, table, index: jnp.zeros_like(table).at[index].add(y_bar)},
    domain=lambda table, index: (table, jnp.clip(index, 0, len(table) - 1)),
)
op(
    "select",
    lambda mask, x, y: jnp.where(mask, x, y),
    lambda: [(jnp.asarray([True, False, True]), *draws((3,), (3,)))],
    vjp={
        "x": lambda z_bar, z, mask, x, y: jnp.where(mask, z_bar, 0),
        "y": lambda z_bar, z, mask, x, y: jnp.where(mask, 0, z_bar),
    },
)
op(
    "segment_sum",
    lambda x, owner, *, groups: jax.ops.segment_sum(x, owner, groups),
    lambda: [Example((draws((6,))[0], jnp.asarray([0, 2, 1, 1, 0, 2])), {"groups": 3})],
    transpose=(lambda y_bar, owner, *, groups: y_bar[owner], ("x",)),
)
op(
    "dropout",
    lambda x, key, *, rate: jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0),
    lambda: [Example((draws((8,))[0], jax.random.key(4)), {"rate": 0.4})],
    jvp={
        "x": lambda x_dot, y, x, key, *, rate: jnp.where(
            jax.random.bernoulli(key, 1 - rate, x.shape), x_dot / (1 - rate), 0
        )
    },
)


def transform(x, *, kind):
    if kind not in (1, 2):
        raise ValueError(f"kind is 1 or 2, not {kind}")
    return jnp.cumsum(x) if kind == 1 else jnp.cumsum(x[::-1])[::-1]


op(
    "transform",
    transform,
    lambda: [Example((draws((6,))[0],), {"kind": k}) for k in (1, 2)],
    transpose=(lambda y_bar, *, kind: transform(y_bar, kind=3 - kind), ("x",)),
)


def activation(x, *, kind):
    return {"tanh": jnp.tanh, "logistic": jax.nn.sigmoid}[kind](x)


op(
    "activation",
    activation,
    lambda: [Example((draws((6,))[0],), {"kind": k}) for k in ("tanh", "logistic")],
    partials=lambda y, x, *, kind: 1 - y * y if kind == "tanh" else y * (1 - y),
)
op(
    "monomial",
    lambda x, *, order: x**order,
    one(draws((5,), low=0.5)[0], order=3),
    partials=lambda y, x, *, order: order * x ** (order - 1) if order else jnp.zeros_like(x),
)
op(
    "moving_mean",
    lambda x, *, width: jnp.convolve(x, jnp.ones(width, x.dtype) / width, mode="same"),
    one(draws((9,))[0], width=3),
    transpose=(lambda y_bar, *, width: jnp.convolve(y_bar, jnp.ones(width, y_bar.dtype) / width, mode="same"), ("x",)),
    domain=lambda x, *, width: width % 2 == 1 and 1 <= width <= 9,
)

# -- faults: one rule each

fault("integer_power", "jvp", "x", lambda x_dot, y, x, n: n.astype(x.dtype) * x**n * x_dot, "the exponent")
fault(
    "lookup",
    "vjp",
    "table",
    lambda y_bar, y, table, index: jnp.zeros_like(table).at[index].set(y_bar),
    "an index that occurs twice",
)
fault("select", "vjp", "y", lambda z_bar, z, mask, x, y: jnp.where(mask, z_bar, 0), "the mask of x")
fault(
    "segment_sum",
    "transpose",
    None,
    lambda y_bar, owner, *, groups: y_bar[owner] / groups,
    "a mean where a sum belongs",
)
fault(
    "dropout",
    "jvp",
    "x",
    lambda x_dot, y, x, key, *, rate: jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x_dot, 0),
    "not scaled",
)
fault("transform", "transpose", None, lambda y_bar, *, kind: transform(y_bar, kind=kind), "the same direction")
fault("transform", "transpose", None, lambda y_bar, *, kind: transform(y_bar, kind=2), "one kind only")
fault(
    "activation",
    "partials",
    None,
    lambda y, x, *, kind: 1 - y * y if kind == "tanh" else y * (1 + y),
    "the logistic one",
)
fault("monomial", "partials", None, lambda y, x, *, order: 3 * x**2, "the order is forgotten")
fault(
    "moving_mean",
    "transpose",
    None,
    lambda y_bar, *, width: jnp.convolve(y_bar, jnp.ones(3, y_bar.dtype) / 3, mode="same"),
    "the width is forgotten",
)
