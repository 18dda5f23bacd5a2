"""Transposes of rules that JAX cannot transpose as they stand. The references are JAX's derivatives of the function."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxprim import Primitive, RuleMissing

X = jnp.array([0.3, 0.7, 1.2])
ROWS = jnp.stack([X, X + 1, 2 * X])


def f(x: Any) -> Any:
    return jnp.sin(x) * x


def slope(x: Any) -> Any:
    return jnp.cos(x) * x + jnp.sin(x)


def counter(x: Any, d: Any) -> Any:
    return lax.fori_loop(0, 3, lambda i, out: out.at[i].set(slope(x[i]) * d[i]), jnp.zeros_like(x))


def joint(x: Any, d: Any) -> Any:
    """Value and tangent in one scan, as a time stepper has them."""

    def step(carry: Any, i: Any) -> Any:
        y, dy = carry
        return (y.at[i].set(f(y[i])), dy.at[i].set(slope(y[i]) * dy[i])), None

    return lax.scan(step, (x, d), jnp.arange(3))[0][1]


def by_key(x: Any, d: Any) -> Any:
    _, place, moved = lax.sort((x, jnp.arange(3), d), num_keys=1)
    return slope(x) * jnp.zeros(3).at[place].set(moved)


# Each is d -> f'(x) d, of which f'(x) d is also the transpose.
LINEAR: dict[str, Any] = {
    "counter": counter,
    "joint scan": joint,
    "joint scan in jit": jax.jit(joint),
    "joint scan in cond": lambda x, d: lax.cond(x[0] > 0, joint, lambda x, d: slope(x) * d, x, d),
    "cond": lambda x, d: lax.cond(x[0] > 0.5, lambda: slope(x) * d, lambda: d * slope(x)),
    "map": lambda x, d: lax.map(lambda pair: slope(pair[0]) * pair[1], (x, d)),
}
# These look at d. JAX differentiates them, but has no transpose of them.
LOOKING: dict[str, Any] = {
    "sort": by_key,
    "finite": lambda x, d: jnp.where(jnp.isfinite(d), slope(x) * d, 0.0),
    "cond on the cotangent": lambda x, d: lax.cond(jnp.all(jnp.isfinite(d)), lambda: slope(x) * d, lambda: 0 * d),
    "zero treated alone": lambda x, d: jnp.where(d == 0, 0.0, slope(x) * d),
    "zero skipped": lambda x, d: lax.cond(jnp.any(d != 0), lambda: slope(x) * d, lambda: jnp.zeros(3)),
    "size and sign": lambda x, d: slope(x) * jnp.abs(d) * jnp.sign(d),
    "rectified halves": lambda x, d: slope(x) * (jax.nn.relu(d) - jax.nn.relu(-d)),
    "both halves": lambda x, d: slope(x) * (jnp.maximum(d, 0) + jnp.minimum(d, 0)),
}


def square(fn: Any) -> Any:
    return lambda x: (fn(x) ** 2).sum()


TRANSFORMS: dict[str, Any] = {
    "grad": lambda g: jax.jit(jax.grad(square(g)))(X),
    "hessian": lambda g: jax.jit(jax.hessian(square(g)))(X),
    "grad(grad)": lambda g: jax.jit(jax.jacrev(jax.grad(square(g))))(X),
    "jacfwd": lambda g: jax.jacfwd(g)(X),
    "grad(vmap)": lambda g: jax.jit(jax.grad(square(jax.vmap(g))))(ROWS),
    "hessian(vmap), shared": lambda g: jax.jit(jax.hessian(square(jax.vmap(lambda k: g(k * X)))))(jnp.arange(1.0, 3.0)),
    "grad(checkpoint)": lambda g: jax.jit(jax.grad(jax.checkpoint(square(jax.vmap(g)))))(ROWS),
    "grad(scan)": lambda g: jax.grad(lambda x: lax.scan(lambda c, _: (g(c), None), x, None, length=2)[0].sum())(X),
}  # fmt: skip


@cache
def truth(name: str) -> Any:
    return TRANSFORMS[name](f)


def compare(op: Any) -> None:
    for name, transform in TRANSFORMS.items():
        np.testing.assert_allclose(transform(op), truth(name), rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", LINEAR)
def test_a_jvp_rule_is_transposed_after_its_known_part_is_evaluated(name: str) -> None:
    p = Primitive("p")
    p.def_impl(f)
    p.def_jvp(lambda primals, tangents: (p(*primals), LINEAR[name](*primals, *tangents)))
    compare(p)


@pytest.mark.parametrize("name", [*LINEAR, *LOOKING])
def test_a_pullback_has_a_forward_mode(name: str) -> None:
    pull = (LINEAR | LOOKING)[name]
    p = Primitive("p")
    p.def_impl(f)
    p.def_vjp(lambda primals: (p(*primals), lambda y_bar: pull(*primals, y_bar)))
    compare(p)


def test_an_impl_is_transposed_after_its_known_part_is_evaluated() -> None:
    p = Primitive("p")
    p.def_impl(joint)
    ours = jax.linear_transpose(lambda d: p(X, d), X)(X + 1)
    np.testing.assert_allclose(ours[0], slope(X) * (X + 1), rtol=1e-5)


def test_a_pullback_that_clips_is_differentiated_at_its_cotangent() -> None:
    """As `jax.custom_vjp` does: the derivative of a clipped cotangent is 0, and not that of the cotangent."""
    ours, theirs = Primitive("p"), jax.custom_vjp(lambda x: 3 * x)
    ours.def_impl(lambda x: 3 * x)
    ours.def_vjp(lambda primals: (ours(*primals), lambda y_bar: jnp.clip(3 * y_bar, -1, 1)))
    theirs.defvjp(lambda x: (theirs(x), None), lambda _, y_bar: (jnp.clip(3 * y_bar, -1, 1),))
    second = lambda op: jax.grad(jax.grad(lambda x: op(x) ** 2))
    for x in (0.01, 2.0):
        for wrap in (lambda fn: fn, jax.jit):
            np.testing.assert_allclose(wrap(second(ours))(x), second(theirs)(x), rtol=1e-6)


def test_a_kernel_in_a_pullback_is_applied_to_the_tangent_of_the_cotangent() -> None:
    """It has no derivative, and none is needed: the pullback is linear."""
    p = Primitive("p")
    p.def_impl(lambda x: 3 * x)
    on_host = lambda y_bar: jax.pure_callback(lambda c: 3 * c, y_bar, y_bar, vmap_method="sequential")
    p.def_vjp(lambda primals: (p(*primals), on_host))
    pull = lambda y_bar: jax.vjp(p, X)[1](y_bar)[0]
    np.testing.assert_allclose(jax.jacfwd(pull)(X), 3 * jnp.eye(3))
    np.testing.assert_allclose(jax.jit(jax.jacfwd(pull))(X), 3 * jnp.eye(3))


def test_an_opaque_tangent_is_refused_where_it_is_transposed() -> None:
    p = Primitive("p")
    p.def_impl(f)
    p.def_jvp(lambda primals, tangents: (p(*primals), jnp.sin(tangents[0])))
    for wrap in (jax.grad, lambda fn: jax.jit(jax.grad(fn)), lambda fn: jax.grad(jax.checkpoint(fn))):
        with pytest.raises(RuleMissing, match="cannot be derived from the JVP rule"):
            wrap(square(p))(X)
        with pytest.raises(RuleMissing, match="cannot be derived from the JVP rule"):
            wrap(square(jax.vmap(p)))(X)
    np.testing.assert_allclose(jax.jvp(p, (X,), (X,))[1], jnp.sin(X))
