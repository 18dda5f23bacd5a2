"""Linear maps: what a pullback that looks at its cotangents gives, where some of them are zero.

The references are `jax.custom_vjp` with the same pullback in a plain `grad`, where it gets arrays of zeros.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxprim import Primitive

X = jnp.array([0.3, 0.7, 1.2])
half = jax.jit(lambda a: jnp.exp(a) / 2)

# The pullback of an operation with two results: a is the cotangent of the first, b of the second.
PULLBACKS: dict[str, Any] = {
    "finite": lambda a, b: jnp.where(jnp.isfinite(a) & jnp.isfinite(b), 2 * a + 3 * b, 0.0),
    "equal": lambda a, b: jnp.where(a == 0, 3 * b, 5 * b),
    "cond": lambda a, b: lax.cond(jnp.all(jnp.isfinite(a)), lambda: 2 * a + 3 * b, lambda: 0.0 * b),
    "jitted": lambda a, b: half(a) * b,
    "exp": lambda a, b: jnp.exp(a) * b + 2 * a,
    "while": lambda a, b: lax.while_loop(lambda s: jnp.max(s[0]) < 2, lambda s: (s[0] + 1, s[1] * 2), (a, b))[1],
    "scan": lambda a, b: lax.scan(lambda c, i: (c + jnp.cos(c) * i, c), a, jnp.arange(3.0))[0] * b,
    "custom_jvp": lambda a, b: jax.nn.softplus(a) * b,
    "integer": lambda a, b: (a.astype(jnp.int32) + 1).astype(b.dtype) * b,
    "set": lambda a, b: jnp.ones(3).at[0].set(a[0]) * b,
    "switch": lambda a, b: lax.switch(jnp.sum(a == 0).astype(jnp.int32), [lambda: a, lambda: b, lambda: a, lambda: 3 * b]),
    "vmapped cond": lambda a, b: jax.vmap(lambda x, y: lax.cond(x == 0, lambda: y, lambda: x))(a, b),
}  # fmt: skip
CONTEXTS: dict[str, Any] = {
    "grad": jax.grad,
    "jit": lambda f: jax.jit(jax.grad(f)),
    "checkpoint": lambda f: jax.grad(jax.checkpoint(f)),
    "vmap": lambda f: lambda x: jax.vmap(jax.grad(f))(x[None])[0],
    "scan": lambda f: jax.grad(lambda x: lax.scan(lambda c, _: (c + f(x), None), 0.0, None, length=1)[0]),
}


@pytest.mark.parametrize("name", PULLBACKS)
def test_a_pullback_may_look_at_a_cotangent_that_is_zero(name: str) -> None:
    pull = PULLBACKS[name]
    ours, theirs = Primitive("pair"), jax.custom_vjp(lambda x: (2 * x, 3 * x))
    ours.def_impl(lambda x: (2 * x, 3 * x))
    ours.def_vjp(lambda primals: (ours(*primals), lambda cts: pull(*cts)))
    theirs.defvjp(lambda x: (theirs(x), None), lambda _, cts: (pull(*cts),))
    for used in (0, 1):
        loss = lambda op, used=used: lambda x: (op(x)[used] * jnp.arange(1.0, 4.0)).sum()
        want = jax.grad(loss(theirs))(X)
        for context, wrap in CONTEXTS.items():
            np.testing.assert_allclose(wrap(loss(ours))(X), want, rtol=1e-6, err_msg=f"{context}, result {used}")


def test_a_jvp_rule_may_look_at_a_tangent_that_is_zero() -> None:
    """Under `linearize` one map takes the tangents of both operands, and then only of one."""
    p = Primitive("p")
    p.def_impl(lambda x, y: x * y)
    p.def_jvp(lambda primals, dots: (p(*primals), jnp.where(jnp.isfinite(dots[0]), dots[0] * primals[1] + dots[1], 0)))
    p.def_vjp(lambda primals: (p(*primals), lambda y_bar: (y_bar * primals[1], y_bar)))
    second = lambda x, t: jax.jvp(lambda y, s: jax.jvp(p, (x, y), (0 * y, s))[1], (t, t), (0 * t, t))[1]
    np.testing.assert_allclose(jax.jit(second)(X, X + 1), X + 1, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(lambda x: jax.jvp(p, (X, X), (0 * X, x))[1].sum())(X), np.ones(3))
