# The letters of the equation, as in the example.
# ruff: noqa: N803, N806
from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from tools import cxx
from truth import along

pytestmark = cxx
close = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-10)
directions = pytest.mark.parametrize("transposed", [False, True])


def matrices(seed=0, shift=3.0, n=4, m=3):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(n, n)) + shift * np.eye(n),
        rng.normal(size=(m, m)) + shift * np.eye(m),
        rng.normal(size=(n, m)),
    )


def scipys(A, B, C, transposed=False):
    return scipy.linalg.solve_sylvester(A.T, B.T, C) if transposed else scipy.linalg.solve_sylvester(A, B, C)


@pytest.mark.parametrize(
    ("transposed", "dtype", "rtol"), [(False, "float32", 1e-4), (False, "float64", 1e-12), (True, "float64", 1e-12)]
)
def test_value(example, transposed, dtype, rtol):
    A, B, C = matrices()
    found = example.sylvester(A.astype(dtype), B.astype(dtype), C.astype(dtype), transposed=transposed)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, scipys(A, B, C, transposed), rtol=rtol, atol=rtol)


@directions
def test_derivatives_against_differences(example, transposed):
    primals, tangents = matrices(), matrices(1, 0.0)
    op = functools.partial(example.sylvester, transposed=transposed)
    truth = along(functools.partial(scipys, transposed=transposed), primals, tangents)
    close(jax.jvp(op, primals, tangents)[1], truth)
    X_bar = np.cos(truth)
    cotangents = jax.vjp(op, *primals)[1](X_bar)
    close(sum(np.sum(c * t) for c, t in zip(cotangents, tangents, strict=True)), np.sum(X_bar * truth))


def test_hessian_vector_products_against_differences_of_the_gradient(example):
    primals, tangents = matrices(), matrices(1, 0.0)
    gradient = jax.jit(jax.grad(lambda *matrices: jnp.sum(jnp.sin(example.sylvester(*matrices))), (0, 1, 2)))
    truth = along(gradient, primals, tangents)
    jax.tree.map(close, jax.jvp(gradient, primals, tangents)[1], truth)
    jax.tree.map(close, jax.vjp(gradient, *primals)[1](tangents), truth)


def calls(function, *operands):
    text = jax.jit(function).lower(*operands).compile().as_text()
    return [text.count(f'custom_call_target="jaxprim.{name}.') for name in ("dgees", "dtrsyl")]


def test_value_and_derivatives_share_two_schur_forms(example):
    """One for A and one for B in a whole program; and a substitution for each solve."""
    A, B, C = primals = matrices()
    loss = lambda A, B, C: jnp.sum(example.sylvester(A, B, C) ** 2)
    assert calls(loss, *primals) == [2, 1]
    assert calls(jax.value_and_grad(loss, (0, 1, 2)), *primals) == [2, 2]
    assert calls(lambda *operands: jax.jvp(example.sylvester, operands, operands), *primals) == [2, 2]
    forms, substitutions = calls(lambda A: jax.jvp(jax.grad(loss), (A, B, C), (A, B, C)), A)
    assert forms == 2
    assert substitutions <= 5  # by hand it is 4: the pullback's tangent is one solve for each of its two operands


def test_vmap(example):
    A, B, C = matrices()
    As, Cs = np.stack([A, A + np.eye(4)], 1), np.stack([C, 2 * C])
    found = jax.vmap(example.sylvester, (1, None, 0))(As, B, Cs)
    close(found, [scipys(A, B, C), scipys(A + np.eye(4), B, 2 * C)])


def test_a_singular_equation_is_an_error(example):
    A, _, C = matrices(n=3)
    with pytest.raises((RuntimeError, ValueError), match="dtrsyl: A and -B have an eigenvalue in common"):
        jax.block_until_ready(example.sylvester(A, -A, C))


def test_check(example):
    with jax.enable_x64(False):
        first, _ = example.sylvester.examples()
        assert example.sylvester.check(*first.operands, **first.params, speed="fast").ok
