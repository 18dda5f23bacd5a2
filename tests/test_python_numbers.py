"""A Python number as an operand stays weakly typed, also where its own dtype is wider than the arrays beside it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim import Primitive


def scale() -> Primitive:
    op = Primitive("scale")
    op.def_impl(lambda x, factor: x * factor)

    @op.def_jvp
    def _(primals, tangents):
        (x, factor), (x_dot, factor_dot) = primals, tangents
        return op(x, factor), x_dot * factor + x * factor_dot

    @op.def_vjp
    def _(primals):
        x, factor = primals
        return op(x, factor), lambda y_bar: (y_bar * factor, jnp.sum(y_bar * x))

    return op


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("wrap", [lambda f: f, jax.checkpoint], ids=["plain", "checkpoint"])
@pytest.mark.parametrize("jit", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_derivatives_beside_narrower_arrays(dtype, wrap, jit):
    op = scale()
    with jax.enable_x64(True):
        x = jnp.ones(3, dtype)
        total = wrap(lambda x, factor: jnp.sum(op(x, factor)))
        x_bar, factor_bar = jit(jax.grad(total, (0, 1)))(x, 2.0)
        y, y_dot = jit(lambda x, f: jax.jvp(total, (x, f), (x, 1.0)))(x, 2.0)
    assert x_bar.dtype == y.dtype == y_dot.dtype == dtype
    np.testing.assert_array_equal(np.asarray(x_bar, float), [2.0, 2.0, 2.0])
    assert (float(factor_bar), float(y), float(y_dot)) == (3.0, 6.0, 9.0)
