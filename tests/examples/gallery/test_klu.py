from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tools import header
from truth import along

pytestmark = header("suitesparse/klu.h", "libsuitesparse-dev")

close = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12)
# Two entries at (1, 1), and one that is zero.
ROWS, COLUMNS = np.array([0, 1, 2, 3, 0, 2, 3, 1], np.int32), np.array([0, 1, 2, 3, 2, 0, 1, 1], np.int32)


def system(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=8) + 4 * (ROWS == COLUMNS), rng.normal(size=4)


def dense(values, b, transposed=False):
    matrix = np.zeros((4, 4))
    np.add.at(matrix, (ROWS, COLUMNS), values)
    return np.linalg.solve(matrix.T if transposed else matrix, b)


def sparse(example, transposed=False):
    return lambda values, b: example.klu(values, ROWS, COLUMNS, b, transposed=transposed)


def counted(example, run, *operands):
    """The patterns made, and the factors made and found."""
    example.kernel.forget()
    before = example.kernel.kept("Pattern").made, *example.kernel.kept()[:2]
    jax.block_until_ready(run(*operands))
    after = example.kernel.kept("Pattern").made, *example.kernel.kept()[:2]
    return [b - a for a, b in zip(before, after, strict=True)]


def test_values_and_derivatives(example):
    primals, tangents = system(), system(seed=1)
    for transposed in (False, True):
        op = sparse(example, transposed)
        close(op(*primals), dense(*primals, transposed))
        truth = along(functools.partial(dense, transposed=transposed), primals, tangents)
        close(jax.jvp(op, primals, tangents)[1], truth)
        cotangents = jax.vjp(op, *primals)[1](jnp.cos(truth))
        close(sum(np.sum(c * t) for c, t in zip(cotangents, tangents, strict=True)), np.sum(np.cos(truth) * truth))
    gradient = jax.grad(lambda *operands: jnp.sum(jnp.sin(sparse(example)(*operands))), (0, 1))
    jax.tree.map(close, jax.jvp(gradient, primals, tangents)[1], along(gradient, primals, tangents))


def test_what_is_made(example):
    values, b = system()
    op = sparse(example)
    loss = lambda values, b: jnp.sum(op(values, b) ** 2)
    product = lambda v, b: jax.jvp(jax.grad(loss, (0, 1)), (v, b), (v, b))
    newton = lambda v: jax.lax.scan(lambda b, _: (op(v, b), None), b, None, length=10)[0]
    for run, counts in ((jax.grad(loss, (0, 1)), [1, 1, 1]), (product, [1, 1, 4])):
        assert counted(example, jax.jit(run), values, b) == counts
    assert counted(example, jax.jit(newton), values) == [1, 1, 9]
    many = np.stack([b, 2 * b, b - 1])
    assert counted(example, jax.vmap(op, (None, 0)), values, many) == [1, 1, 2]
    close(jax.vmap(op, (None, 0))(values, many), [dense(values, b) for b in many])
    scaled = np.stack([values, 2 * values, values / 3])
    assert counted(example, jax.vmap(op, (0, None)), scaled, b) == [1, 3, 0]  # one order for all
    close(jax.vmap(op, (0, None))(scaled, b), [dense(v, b) for v in scaled])


def test_what_does_not_fit_is_refused(example):
    values, b = system()
    for run, words in (
        (lambda: sparse(example)(0 * values, b), "the matrix is singular"),
        (lambda: sparse(example)(values, b[:3]), "an entry is outside of the matrix"),
    ):
        with pytest.raises(jax.errors.JaxRuntimeError, match=words):
            jax.block_until_ready(run())
    close(sparse(example)(values, b), dense(values, b))


@pytest.fixture(name="klujax")
def _klujax():
    """klujax, which switches 64-bit types on for the whole process when it is imported."""
    klujax = pytest.importorskip("klujax")
    jax.config.update("jax_enable_x64", False)
    return klujax


def test_as_klujax(example, klujax):
    rows, columns, values_of = example.grid(5)
    values = values_of(jnp.linspace(0.5, 1.5, 40))
    gradients = [
        jax.jit(jax.grad(example.steps(solve, rows, columns, count=3), (0, 1)))(values, jnp.ones(25))
        for solve in (example.klu, lambda values, rows, columns, b: klujax.solve(rows, columns, values, b))
    ]
    jax.tree.map(close, *gradients)


def test_check(example):
    assert example.klu.check(speed="fast").ok
