"""The value that a rule returns is differentiated as it is written, as with `custom_jvp` and `custom_vjp`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim import Primitive

Fn = Callable[..., Any]
X = jnp.array([0.5, 2.0, -1.5])

# Forward functions of a rule, none of which calls the operation, and the impl.
VALUES: dict[str, tuple[Fn, Fn]] = {
    "its operand": (lambda x: x, lambda x: x),
    "other code": (lambda x: x * x * x, lambda x: x**3),
    "a jitted function": (jax.jit(jnp.sin), jnp.sin),
    "a scan": (lambda x: jax.lax.scan(lambda c, _: (c * 1.5, None), x, None, length=2)[0], lambda x: 2.25 * x),
    "a part of it": (lambda x: x.at[0].mul(1.0), lambda x: x),
}


def twice(x: Any) -> Any:
    return 2 * x


def by_jvp(impl: Fn, value: Fn) -> tuple[Fn, Primitive]:
    rule = lambda primals, dots: (value(*primals), twice(dots[0]) * primals[0])
    theirs = jax.custom_jvp(impl)
    theirs.defjvp(rule)
    ours = Primitive("ours")
    ours.def_impl(impl)
    ours.def_jvp(rule)
    return theirs, ours


def by_vjp(impl: Fn, value: Fn) -> tuple[Fn, Primitive]:
    rule = (lambda x: (value(x), x)), (lambda x, y_bar: (twice(y_bar) * x,))
    theirs = jax.custom_vjp(impl)
    theirs.defvjp(*rule)
    ours = Primitive("ours")
    ours.def_impl(impl)
    ours.def_vjp(*rule)
    return theirs, ours


def loss(fn: Fn) -> Fn:
    return lambda x: jnp.sum(jnp.sin(fn(x)) * fn(x * x))


def scanned(fn: Fn) -> Fn:
    return lambda x: jax.lax.scan(lambda c, _: (fn(c), None), x, None, length=2)[0]


REVERSE: dict[str, Callable[[Fn], Fn]] = {
    "grad": lambda fn: jax.grad(loss(fn)),
    "reverse over reverse": lambda fn: jax.jacrev(jax.grad(loss(fn))),
    "jit": lambda fn: jax.jit(jax.jacrev(jax.grad(loss(fn)))),
    "checkpoint": lambda fn: jax.jacrev(jax.grad(jax.checkpoint(loss(fn)))),
    "checkpoint outside": lambda fn: jax.grad(jax.checkpoint(lambda x: jnp.sum(jax.grad(loss(fn))(x) ** 2))),
    "vmap": lambda fn: jax.vmap(jax.grad(jax.grad(lambda x: fn(x) ** 2))),
    "scan": lambda fn: jax.jacrev(jax.grad(loss(scanned(fn)))),
    "third": lambda fn: jax.grad(lambda x: jnp.sum(jax.jacrev(jax.grad(loss(fn)))(x) ** 2)),
}
FORWARD: dict[str, Callable[[Fn], Fn]] = {
    "jacfwd": lambda fn: jax.jacfwd(loss(fn)),
    "hessian": lambda fn: jax.hessian(loss(fn)),
    "forward over forward": lambda fn: jax.jit(jax.jacfwd(jax.jacfwd(loss(fn)))),
    "reverse over forward": lambda fn: jax.jacrev(jax.jacfwd(loss(scanned(fn)))),
    "linearize": lambda fn: lambda x: jax.linearize(jax.grad(loss(fn)), x)[1](x),
}


@pytest.mark.parametrize("way", REVERSE.values(), ids=REVERSE)
@pytest.mark.parametrize("made", [by_jvp, by_vjp])
@pytest.mark.parametrize("what", VALUES)
def test_reverse_mode_is_that_of_jax(what: str, made: Any, way: Callable[[Fn], Fn]) -> None:
    value, impl = VALUES[what]
    if what == "a part of it" and way is REVERSE["vmap"]:
        pytest.skip("needs a vector")
    theirs, ours = made(impl, value)
    np.testing.assert_allclose(way(ours)(X), way(theirs)(X), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("way", FORWARD.values(), ids=FORWARD)
@pytest.mark.parametrize("made", [by_jvp, by_vjp])
@pytest.mark.parametrize("what", VALUES)
def test_forward_mode_is_that_of_jax(what: str, made: Any, way: Callable[[Fn], Fn]) -> None:
    """`custom_vjp` has no forward mode. Its derivative is the same one, so `custom_jvp` tells it."""
    value, impl = VALUES[what]
    theirs, _ = by_jvp(impl, value)
    np.testing.assert_allclose(way(made(impl, value)[1])(X), way(theirs)(X), rtol=1e-4, atol=1e-4)
