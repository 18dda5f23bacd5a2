"""The rules of finite differences that `from_numpy` gives."""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprim
from jaxprim import HostError, from_numpy

FINITE = "finite differences"


def test_keyword_only_arguments_are_static():
    def power(x, *, exponent=2):
        return x**exponent

    p = from_numpy(power, derivative=FINITE)
    assert float(p(3.0)) == 9
    np.testing.assert_allclose(jax.grad(lambda x: p(x, exponent=3))(2.0), 12, rtol=1e-4)


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("function", ["sinc", "exp", "tanh", "arctan"])
def test_finite_differences_pass_the_check(function, x64):
    p = from_numpy(getattr(np, function), derivative=FINITE)
    with jax.enable_x64(x64):
        x = jnp.linspace(-2.0, 2.0, 5)
        every = function == "sinc"  # the others differ in their values alone
        assert jaxprim.report(p, x, only=None if every else ["jvp-differences", "vjp-differences", "accuracy"]).ok
        expected = jax.vmap(jax.grad(getattr(jnp, function)))(x)
        np.testing.assert_allclose(jax.vmap(jax.grad(p))(x), expected, atol=1e-11 if x64 else 5e-5)


@pytest.mark.parametrize(("dtype", "rtol"), [("float16", 0.01), ("bfloat16", 0.05)])
def test_finite_differences_in_half_precision(dtype, rtol):
    p = from_numpy(np.tanh, derivative=FINITE)
    x = jnp.array([-0.5, 0.25, 1.0], dtype)
    found = jax.vmap(jax.grad(p))(x).astype(jnp.float32)
    np.testing.assert_allclose(found, 1 - np.tanh(np.array([-0.5, 0.25, 1.0])) ** 2, rtol=rtol)


def test_several_operands_integers_and_several_results():
    def solve(a, b, k):
        return np.linalg.solve(a, b) * k, np.int32(3)

    like = lambda a, b, k: (b, jax.ShapeDtypeStruct((), np.int32))
    p = from_numpy(solve, like=like, derivative=FINITE)
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        a, b = jnp.asarray(rng.standard_normal((3, 3)) + 3 * np.eye(3)), jnp.arange(3.0)
        got = jax.grad(lambda a, b: p(a, b, 2)[0].sum(), (0, 1))(a, b)
        expected = jax.grad(lambda a, b: 2 * jnp.linalg.solve(a, b).sum(), (0, 1))(a, b)
        for g, e in zip(got, expected, strict=True):
            np.testing.assert_allclose(g, e, atol=1e-9)


def test_complex_functions_that_are_not_holomorphic():
    p = from_numpy(lambda z: np.conj(z) * z * z, like="z", derivative=FINITE, name="p")
    with jax.enable_x64(True):
        z = jnp.array([1 + 2j, 3 - 1j])
        assert jaxprim.report(p, z).ok
        got, expected = (jax.vjp(f, z)[1](1j * z)[0] for f in (p, lambda z: jnp.conj(z) * z * z))
        np.testing.assert_allclose(got, expected, rtol=1e-10)


def test_a_function_that_is_not_smooth_states_the_error():
    stairs = from_numpy(lambda x: np.floor(x * 1e6) / 1e6, derivative=FINITE, name="stairs")
    with jax.enable_x64(True), pytest.raises(HostError, match="stairs: its finite differences are not accurate here"):
        jax.grad(stairs)(1.3)


def test_explain_says_what_the_rules_are():
    p = from_numpy(np.sinc, derivative=FINITE)
    place = f"{__file__.rpartition('/')[2]}:{sys._getframe().f_lineno - 1}"
    for rule in ("jvp", "vjp"):
        row = p.explain()[rule]
        assert (row.status, row.notes) == (
            "given",
            (
                "finite differences of 4th order, written by from_numpy",
                "relative error about 1e-12 in float64 and 1e-5 in float32; a larger error raises HostError",
            ),
        )
        assert row.origin.endswith(place)
