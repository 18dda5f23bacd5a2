"""Refs that a function makes for itself are no side effects: the function is pure, in an impl and in each rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim import Primitive

Fn = Callable[..., Any]
X = jnp.arange(1.0, 4.0)


def double(x: Any) -> Any:
    """2 x, by way of a ref."""
    ref = jax.new_ref(jnp.zeros_like(x))
    ref[...] += x
    ref[...] = ref[...] + x
    return ref[...]


def in_impl() -> Primitive:
    op = Primitive("op")
    op.def_impl(lambda x: double(jnp.sin(x)))
    return op


def sine() -> Primitive:
    op = Primitive("op")
    op.def_impl(lambda x: 2 * jnp.sin(x))
    return op


def in_jvp() -> Primitive:
    op = sine()
    op.def_jvp(lambda primals, tangents: (op(*primals), double(tangents[0] * jnp.cos(primals[0]))))
    return op


def in_pullback() -> Primitive:
    op = sine()
    op.def_vjp(lambda primals: (op(*primals), lambda y_bar: double(y_bar * jnp.cos(primals[0]))))
    return op


def in_both_halves() -> Primitive:
    op = sine()
    op.def_vjp(lambda x: (double(jnp.sin(x)), x), lambda x, y_bar: (double(y_bar * jnp.cos(x)),))
    return op


def norm(fn: Fn) -> Fn:
    return lambda x: (fn(x) ** 2).sum()


WAYS: dict[str, Callable[[Fn], Fn]] = {
    "call": lambda fn: fn,
    "jit": jax.jit,
    "vmap": lambda fn: lambda x: jax.vmap(fn)(jnp.stack([x, x])),
    "grad": lambda fn: jax.grad(norm(fn)),
    "jit of grad": lambda fn: jax.jit(jax.grad(norm(fn))),
    "checkpoint": lambda fn: jax.grad(jax.checkpoint(norm(fn))),
    "vmap of grad": lambda fn: lambda x: jax.vmap(jax.grad(norm(fn)))(jnp.stack([x, x])),
    "reverse over reverse": lambda fn: jax.jacrev(jax.jacrev(norm(fn))),
    "forward over forward": lambda fn: jax.jacfwd(jax.jacfwd(norm(fn))),
    "hessian": lambda fn: jax.jit(jax.hessian(norm(fn))),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("made", [in_impl, in_jvp, in_pullback, in_both_halves])
def test_refs_of_its_own(made: Callable[[], Primitive], way: Callable[[Fn], Fn]) -> None:
    want = way(lambda x: 2 * jnp.sin(x))(X)
    np.testing.assert_allclose(way(made())(X), want, rtol=1e-4, atol=1e-5)
