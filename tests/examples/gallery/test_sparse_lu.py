from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from truth import along

import jaxprim

close = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12)
directions = pytest.mark.parametrize("transposed", [False, True])
ROWS, COLUMNS = np.array([0, 1, 2, 3, 0, 2, 3, 1], np.int32), np.array([0, 1, 2, 3, 2, 0, 1, 1], np.int32)


def system(dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda n: (rng.normal(size=n) + (1j * rng.normal(size=n) if dtype == "complex128" else 0)).astype(dtype)
    return (draw(8) + 4 * (ROWS == COLUMNS)).astype(dtype), draw(4)


def dense(values, b, transposed=False):
    matrix = np.zeros((4, 4), values.dtype)
    np.add.at(matrix, (ROWS, COLUMNS), values)
    return np.linalg.solve(matrix.T if transposed else matrix, b)


def sparse(example, transposed=False):
    return lambda values, b: example.sparse_lu(values, ROWS, COLUMNS, b, transposed=transposed)


@directions
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_value(example, dtype, transposed):
    values, b = system(dtype)
    found = sparse(example, transposed)(values, b)
    np.testing.assert_allclose(found, dense(values, b, transposed), rtol=1e-5 if dtype == "float32" else 1e-12)


@directions
def test_derivatives_against_differences(example, transposed):
    primals, tangents = system(), system(seed=1)
    op = sparse(example, transposed)
    truth = along(functools.partial(dense, transposed=transposed), primals, tangents)
    close(jax.jvp(op, primals, tangents)[1], truth)
    x_bar = np.cos(truth)
    cotangents = jax.vjp(op, *primals)[1](x_bar)
    close(sum(np.sum(c * t) for c, t in zip(cotangents, tangents, strict=True)), np.sum(x_bar * truth))


def test_hessian_vector_products_against_differences_of_the_gradient(example):
    primals, tangents = system(), system(seed=1)
    gradient = jax.grad(lambda *operands: jnp.sum(jnp.sin(sparse(example)(*operands))), (0, 1))
    truth = along(gradient, primals, tangents)
    jax.tree.map(close, jax.jvp(gradient, primals, tangents)[1], truth)
    jax.tree.map(close, jax.vjp(gradient, *primals)[1](tangents), truth)


def factorizations(example, function, *operands):
    example.factorize.cache_clear()
    jax.block_until_ready(function(*operands))
    return example.factorize.cache_info().misses


def test_one_factorization_for_the_value_and_all_derivatives(example):
    values, b = system()
    op = sparse(example)
    loss = lambda values, b: jnp.sum(op(values, b) ** 2)
    once = functools.partial(factorizations, example)
    hessian_product = lambda v, b: jax.jvp(jax.grad(loss, (0, 1)), (v, b), (v, b))
    for wrap in (lambda f: f, jax.jit):
        assert once(wrap(lambda v, b: jax.jvp(op, (v, b), (v, b))), values, b) == 1
        assert once(wrap(jax.value_and_grad(loss, (0, 1))), values, b) == 1
        assert once(wrap(hessian_product), values, b) == 1
    assert once(jax.jit(jax.grad(jax.checkpoint(loss))), values, b) == 1
    assert once(jax.jit(jax.jacrev(op)), values, b) == 1
    assert once(op, values + 1e-12, b) == 1  # other numbers are another matrix


def test_a_batch_of_right_hand_sides_is_one_call(example):
    values, b = system()
    many = np.stack([b, 2 * b, b - 1])
    with jaxprim.record_rules(quiet=True) as record:
        found = jax.block_until_ready(jax.jit(jax.vmap(sparse(example), (None, 0)))(values, many))
    close(found, [dense(values, b) for b in many])
    assert [count for (_, rule, _), count in record.counts.items() if rule == "host"] == [1]


def test_a_batch_of_matrices_and_both(example):
    values, b = system()
    both = jax.vmap(jax.vmap(sparse(example), (None, 0)), (1, None))
    found = both(np.stack([values, 2 * values], 1), np.stack([b, b - 1, -b]))
    close(found, [[dense(scale * values, b) for b in (b, b - 1, -b)] for scale in (1, 2)])


def test_another_pattern_is_the_same_program(example):
    values, b = system()
    program = jax.jit(example.sparse_lu)
    close(program(values, ROWS, COLUMNS, b), dense(values, b))
    close(program(values, COLUMNS, ROWS, b), dense(values, b, True))
    assert program._cache_size() == 1


def test_what_does_not_fit_is_refused(example):
    values, b = system()
    with pytest.raises(TypeError, match="b must be a vector of the same dtype"):
        example.sparse_lu(values, ROWS, COLUMNS, b.astype("float32"))
    with pytest.raises(RuntimeError, match="exactly singular"):
        example.sparse_lu(0 * values, ROWS, COLUMNS, b)


def test_check(example):
    with jax.enable_x64(False):
        assert example.sparse_lu.check(speed="fast").ok
