"""Reverse mode where JAX says more than is so."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim import Primitive


def test_an_integer_from_a_ref_is_not_perturbed():
    # JAX says that it is, and hands on a float0 that is no symbolic zero.
    advance = Primitive("advance")
    advance.def_host(lambda s: s * np.int32(5) + np.int32(1))
    advance.def_abstract_eval(lambda s: s)
    scale, told = Primitive("scale"), []
    scale.def_impl(lambda s, x: s.astype(x.dtype) * x)

    @scale.def_vjp
    def _(primals, perturbed):
        told.append(tuple(perturbed))
        s, x = primals
        return scale(s, x), lambda g: (None, s.astype(x.dtype) * g)

    def f(x):
        ref = jax.new_ref(jnp.int32(3))
        ref[...] = advance(ref[...])
        return scale(ref[...], x)

    assert jax.grad(f)(2.0) == jax.jit(jax.grad(f))(2.0) == jax.grad(jax.jit(f))(2.0) == 16
    assert jax.jvp(jax.jit(f), (2.0,), (1.0,)) == (32, 16)
    assert jax.grad(jax.grad(jax.jit(lambda x: f(x) * x)))(2.0) == 32
    assert set(told) == {(False, True)}
