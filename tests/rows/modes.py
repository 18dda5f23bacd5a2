"""Rows: differentiation, once and more often."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rows.case import Case, realified, tangents, transposed


def apply(case: Case) -> Any:
    return case.f(*case.args)


def jvp(case: Case) -> Any:
    return jax.jvp(case.g, case.xs, tangents(case.xs))


def vjp(case: Case) -> Any:
    out, pullback = jax.vjp(case.g, *case.xs)
    return out, pullback(tangents(out, 1.0))


def grad(case: Case) -> Any:
    return case.grad()(*case.xs)


def value_and_grad(case: Case) -> Any:
    return jax.value_and_grad(case.loss, argnums=tuple(range(len(case.xs))))(*case.xs)


def has_aux(case: Case) -> Any:
    return case.grad(lambda *xs: case.loss(*xs) * 2)(*case.xs), jax.vjp(
        lambda *xs: (case.g(*xs), xs), *case.xs, has_aux=True
    )[2]


def linearize(case: Case) -> Any:
    out, linear = jax.linearize(case.g, *case.xs)
    return out, linear(*tangents(case.xs)), linear(*tangents(case.xs, 2.0))


def linear_transpose(case: Case) -> Any:
    out, linear = jax.linearize(case.g, *case.xs)
    return transposed(linear, case.xs, out, 1.0)


def jacfwd(case: Case) -> Any:
    real = realified(case)
    return jax.jacfwd(real.g, argnums=tuple(range(len(real.xs))))(*real.xs)


def jacrev(case: Case) -> Any:
    real = realified(case)
    return jax.jacrev(real.g, argnums=tuple(range(len(real.xs))))(*real.xs)


def _hessian(outer: Any, inner: Any) -> Any:
    def row(case: Case) -> Any:
        real = realified(case)
        every = tuple(range(len(real.xs)))
        return outer(inner(real.loss, argnums=every), argnums=every)(*real.xs)

    return row


forward_over_reverse = _hessian(jax.jacfwd, jax.jacrev)
forward_over_forward = _hessian(jax.jacfwd, jax.jacfwd)
reverse_over_reverse = _hessian(jax.jacrev, jax.jacrev)
reverse_over_forward = _hessian(jax.jacrev, jax.jacfwd)


def hessian_vector(case: Case) -> Any:
    return jax.jvp(case.grad(), case.xs, tangents(case.xs))


def third_order(case: Case) -> Any:
    """The derivative of a Hessian-vector product."""
    real = realified(case)

    def along(*xs: Any) -> Any:
        _, dots = jax.jvp(real.grad(), xs, tangents(xs))
        return sum(jnp.sum(dot) for dot in jax.tree.leaves(dots))

    return real.grad(along)(*real.xs)


def third_forward(case: Case) -> Any:
    along = case.loss
    for seed in (0.0, 1.0, 2.0):
        along = _directional(along, seed)
    return along(*case.xs)


def _directional(fn: Any, seed: float) -> Any:
    return lambda *xs: jax.jvp(fn, xs, tangents(xs, seed))[1]
