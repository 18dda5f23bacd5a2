"""`jaxprim.ad`: rules that were written for ``jax.interpreters.ad`` move without changes."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.interpreters import ad as jax_ad

from jaxprim import Primitive, Zero, ad

X = jnp.arange(1.0, 4.0)
ZEROS = {
    "jaxprim's": Zero.zero_if_zero(X),
    "of another shape": Zero.of((), "float32"),
    "of an integer": Zero.from_primal_value(2),
    "JAX's": jax_ad.Zero(jax.typeof(X)),
    "symbolic": jax.custom_derivatives.SymbolicZero(jax.typeof(X)),
}


@pytest.mark.parametrize("zero", ZEROS.values(), ids=ZEROS)
def test_a_zero_is_neutral(zero):
    assert ad.add_tangents(zero, X) is X
    assert ad.add_tangents(X, zero) is X
    assert ad.add_tangents(zero, zero) is zero
    assert functools.reduce(ad.add_tangents, [zero, X, zero, *ZEROS.values()]) is X
    np.testing.assert_array_equal(jax.jit(lambda x: ad.add_tangents(zero, ad.add_tangents(x, x)))(X), 2 * X)


@pytest.mark.parametrize("name", ["jaxprim's", "of another shape", "of an integer", "JAX's"])
def test_instantiate_zeros_gives_an_array(name):
    found = ad.instantiate_zeros(ZEROS[name])
    assert isinstance(found, jax.Array)
    np.testing.assert_array_equal(found, jnp.zeros(ZEROS[name].aval.shape))
    assert ad.instantiate_zeros(X) is X


def test_from_primal_value():
    zero = ad.Zero.from_primal_value(jnp.ones(3, "bfloat16"))
    assert (type(zero), zero.shape, zero.dtype) == (Zero, (3,), jnp.bfloat16)
    assert ad.Zero.from_primal_value(2).aval.dtype == jax.dtypes.float0


def test_other_names_are_jax_s():
    assert ad.UndefinedPrimal is jax_ad.UndefinedPrimal


def outer_rule(outer):
    """A rule like that of the nonuniform FFT in jax-finufft: bilinear, with sums of tangents."""

    def rule(primals, tangents):
        (x, y), (x_dot, y_dot) = primals, tangents
        parts = [
            ad.Zero.from_primal_value(outer(x, y)),
            x_dot if type(x_dot) is ad.Zero else x_dot[:, None] * y[None],
            y_dot if type(y_dot) is ad.Zero else x[:, None] * y_dot[None],
        ]
        return outer(x, y), functools.reduce(ad.add_tangents, parts, ad.Zero.from_primal_value(x))

    return rule


@pytest.mark.parametrize("argnums", [0, 1, (0, 1)], ids=str)
@pytest.mark.parametrize("call", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_a_rule_of_jax_s_own_style(argnums, call):
    plain = lambda x, y: x[:, None] * y[None]
    outer = Primitive("outer")
    outer.def_impl(plain)
    outer.def_jvp(outer_rule(outer))
    for derivative in (jax.jacfwd, lambda f, argnums: jax.grad(lambda *a: jnp.sum(f(*a) ** 2), argnums)):
        got, want = (call(derivative(f, argnums))(X, X[:2]) for f in (outer, plain))
        jax.tree.map(np.testing.assert_allclose, got, want)
