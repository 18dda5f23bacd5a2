"""Rows: loops and branches.

The checker and fuzzing have theirs in `jaxprim.checking.contexts`. These are written anew: a mistake there must not hide
one here.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rows.case import Case, batch, is_float, loss, tangents


def _step(case: Case, xs: Any) -> Any:
    """The next operands: they depend on the op's value."""
    value = loss(case.g(*xs))
    return jax.tree.map(lambda x: x * 0.5 + 0.05 * value.astype(x.dtype) if is_float(x) else x, xs)


def _both_modes(case: Case, fn: Any) -> Any:
    """The tangent and the gradient of a function of the perturbed operands."""
    return jax.jvp(fn, case.xs, tangents(case.xs)), case.grad(lambda *xs: loss(fn(*xs)))(*case.xs)


def scan_carry(case: Case) -> Any:
    def run(*xs: Any) -> Any:
        return jax.lax.scan(lambda c, _: (_step(case, c), None), xs, None, length=3)[0]

    return _both_modes(case, run)


def scan_ys(case: Case) -> Any:
    def run(*xs: Any) -> Any:
        return jax.lax.scan(lambda c, row: (c, case.g(*row)), 0.0, batch(xs))[1]

    return _both_modes(case, run)


def scan_const(case: Case) -> Any:
    """The op's operands are the same in each step; its value is used in each."""

    def run(*xs: Any) -> Any:
        return jax.lax.scan(lambda c, s: (c * 0.5 + s * loss(case.g(*xs)), None), jnp.zeros(()), jnp.arange(3.0))[0]

    return _both_modes(case, run)


def scan_under_vmap(case: Case) -> Any:
    def run(*xs: Any) -> Any:
        return jax.lax.scan(lambda c, _: (_step(case, c), None), xs, None, length=2)[0]

    c = Case(jax.vmap(run), batch(case.xs), tuple(range(len(case.xs))))
    return c.g(*c.xs), c.grad()(*c.xs)


def lax_map(case: Case) -> Any:
    return _both_modes(case, lambda *xs: jax.lax.map(lambda row: case.g(*row), batch(xs)))


def while_loop(case: Case) -> Any:
    """Forward mode alone: JAX has no reverse of an unbounded loop."""

    def run(*xs: Any) -> Any:
        return jax.lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, _step(case, c[1])), (0, xs))[1]

    return jax.jvp(run, case.xs, tangents(case.xs))


def while_vmapped(case: Case) -> Any:
    """Each element takes another number of steps."""

    def run(steps: Any, *xs: Any) -> Any:
        return jax.lax.while_loop(lambda c: c[0] < steps, lambda c: (c[0] + 1, _step(case, c[1])), (0, xs))[1]

    whole = lambda *xs: jax.vmap(run)(jnp.arange(2), *xs)
    return jax.jvp(whole, batch(case.xs), tangents(batch(case.xs)))


def while_reverse(case: Case) -> Any:
    def run(*xs: Any) -> Any:
        return loss(jax.lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, _step(case, c[1])), (0, xs))[1])

    return case.grad(run)(*case.xs)


def fori(case: Case) -> Any:
    return _both_modes(case, lambda *xs: jax.lax.fori_loop(0, 2, lambda _, c: _step(case, c), xs))


def cond(case: Case) -> Any:
    return _both_modes(case, lambda *xs: jax.lax.cond(jnp.asarray(True), lambda c: _step(case, c), lambda c: c, xs))


def switch(case: Case) -> Any:
    branches = [lambda c: c, lambda c: _step(case, c), lambda c: jax.tree.map(jnp.negative, c)]
    return _both_modes(case, lambda *xs: jax.lax.switch(jnp.asarray(1), branches, xs))


def cond_vmapped(case: Case) -> Any:
    """A batched predicate turns the branches into a select."""
    branches = [lambda c: c, lambda c: _step(case, c)]
    one = lambda index, *xs: jax.lax.switch(index, branches, xs)
    c = Case(lambda *xs: jax.vmap(one)(jnp.arange(2), *xs), batch(case.xs), tuple(range(len(case.xs))))
    return _both_modes(c, c.g)
