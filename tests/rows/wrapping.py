"""Rows: other transformations of JAX around the op, and what looks at a function without running it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jax.experimental import checkify
from jax.experimental.jet import jet

from rows.case import Case, batch, floats, loss, realified, tangents


def jit_in_grad_in_jit(case: Case) -> Any:
    inner = case.with_f(jax.jit(case.f))
    return jax.jit(inner.grad(jax.jit(inner.loss)))(*case.xs)


def inlined_jit(case: Case) -> Any:
    inner = case.with_f(jax.jit(case.f, inline=True))
    return inner.grad()(*case.xs)


def custom_jvp_around(case: Case) -> Any:
    """A custom_jvp function whose rule uses the op, and its derivative."""

    @jax.custom_jvp
    def f(*xs: Any) -> Any:
        return case.g(*xs)

    f.defjvp(lambda xs, dots: jax.jvp(case.g, xs, dots))
    c = Case(f, case.xs, tuple(range(len(case.xs))))
    return jax.jvp(c.g, c.xs, tangents(c.xs)), c.grad()(*c.xs), jax.vmap(c.grad())(*batch(c.xs))


def custom_vjp_around(case: Case) -> Any:
    @jax.custom_vjp
    def f(*xs: Any) -> Any:
        return case.g(*xs)

    f.defvjp(lambda *xs: jax.vjp(case.g, *xs), lambda pullback, cts: pullback(cts))
    c = Case(f, case.xs, tuple(range(len(case.xs))))
    return c.grad()(*c.xs), jax.vmap(c.grad())(*batch(c.xs))


def custom_vmap_around(case: Case) -> Any:
    f = custom_vmap(lambda *args: case.f(*args))

    @f.def_vmap
    def _(size: int, batched: Any, *args: Any) -> Any:
        axes = jax.tree.map(lambda b: 0 if b else None, tuple(batched))
        out = jax.vmap(case.f, in_axes=axes, axis_size=size)(*args)
        return out, jax.tree.map(lambda _: True, out)

    c = case.with_f(f)
    return jax.vmap(f)(*batch(case.args)), jax.jvp(c.g, c.xs, tangents(c.xs))


def eval_shape(case: Case) -> Any:
    shapes = jax.eval_shape(case.f, *case.args), jax.eval_shape(case.grad(), *case.xs)
    return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)


def make_jaxpr(case: Case) -> Any:
    """The jaxpr, evaluated."""
    flat = lambda *xs: jax.tree.leaves(case.grad()(*xs))
    jaxpr = jax.make_jaxpr(flat)(*case.xs)
    return jax.core.eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, *jax.tree.leaves(case.xs))


def closure_convert(case: Case) -> Any:
    converted, consts = jax.closure_convert(case.loss, *case.xs)
    return case.grad(lambda *xs: converted(*xs, *consts))(*case.xs)


def checkified(case: Case) -> Any:
    def asserted(*xs: Any) -> Any:
        value = case.loss(*xs)
        checkify.check(jnp.isfinite(value), "not finite")
        return value

    error, out = checkify.checkify(asserted)(*case.xs)
    gradient_error, gradient = checkify.checkify(case.grad(), errors=checkify.float_checks)(*case.xs)
    found = [e.get() is not None for e in (error, gradient_error)]
    return jnp.asarray(found), out, gradient


def taylor_mode(case: Case) -> Any:
    """jet to the third order, against nothing but the reference's jet."""
    real = realified(case)
    flat, tree = jax.tree.flatten(real.xs)
    series = [[t, jnp.full_like(t, 0.3), jnp.full_like(t, -0.2)] for t in tangents(flat)]
    return jet(lambda *xs: floats(real.g(*tree.unflatten(xs))), flat, series)


def op_twice(case: Case) -> Any:
    """The op twice in one function, and of its own results."""
    return case.grad(lambda *xs: loss(case.g(*xs)) * loss(case.g(*jax.tree.map(jnp.sin, xs))))(*case.xs)
