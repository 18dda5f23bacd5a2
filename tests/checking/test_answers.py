from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from jaxprim.checking.answers import why_refused

X = jnp.ones(3)


def error_of(run):
    with pytest.raises(Exception) as error:
        run()
    return error.value


@jax.custom_vjp
def reverse_only(x):
    return x


reverse_only.defvjp(lambda x: (x, None), lambda _, y_bar: (y_bar,))


def callback(x):
    return jax.pure_callback(lambda x: x, jax.ShapeDtypeStruct((3,), jnp.float32), x)


A = jnp.array([[0.5, 1.0], [-2.0, 0.3]])


def loop(x):
    return jax.lax.while_loop(lambda s: s[1] < 3, lambda s: (s[0] * 2, s[1] + 1), (x, 0))[0]


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(lambda: jax.jvp(reverse_only, (X,), (X,)), id="jvp of custom_vjp"),
        pytest.param(lambda: jax.jvp(callback, (X,), (X,)), id="jvp of a callback"),
        pytest.param(lambda: jax.vjp(callback, X), id="vjp of a callback"),
        pytest.param(lambda: jax.vjp(loop, X)[1](X), id="vjp of a while loop"),
        pytest.param(lambda: jax.grad(lambda a: jax.scipy.special.betainc(a, 2.0, 0.3))(1.5), id="betainc"),
        pytest.param(lambda: jax.hessian(lambda a: jnp.linalg.eigvals(a).real.sum())(A), id="eigenvectors"),
    ],
)
def test_what_jax_cannot_differentiate_is_a_refusal(run):
    assert why_refused(error_of(run)).startswith("JAX has no such rule for it: ")


def test_an_author_s_mistake_is_no_refusal():
    assert why_refused(ValueError("matmul: shapes do not fit")) is None
    assert why_refused(KeyError("callbacks do not support JVP")) is None
    assert why_refused(RuntimeError("cannot be autodifferentiated")) is not None
