# The letters of the problem, as in the example.
# ruff: noqa: N803, N806
from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from truth import along

close = functools.partial(np.testing.assert_allclose, rtol=1e-7, atol=1e-9)
ALL = tuple(range(6))


def problem(example, seed=0):
    return tuple(map(np.asarray, example.made_up(5, 2, 4, seed)))


def by_active_set(Q, q, A, b, G, h):
    """The solution by trying every set of inequalities that may be met exactly."""
    n, m, p = q.size, b.size, h.size
    for bits in range(2**p):
        active = [i for i in range(p) if bits >> i & 1]
        rows = np.concatenate([A, G[active]])
        k = len(rows)
        matrix = np.block([[Q, rows.T], [rows, np.zeros((k, k))]])
        if np.linalg.matrix_rank(matrix) < n + k:
            continue
        x, nu, lam = np.split(np.linalg.solve(matrix, np.concatenate([-q, b, h[active]])), [n, n + m])
        if np.all(lam >= 0) and np.all(G @ x <= h + 1e-9):
            of_all = np.zeros(p)
            of_all[active] = lam
            return x, nu, of_all
    raise AssertionError("no solution")


def test_value_and_derivatives_of_two_orders(example):
    primals = problem(example)
    tangents = tuple(0.1 * x for x in problem(example, 1))
    loss = lambda *problem: sum(jnp.sum(jnp.sin(part)) for part in example.qp(*problem))

    @jax.jit
    def all_of(*primals):
        gradient = jax.grad(loss, ALL)
        return example.qp(*primals), jax.jvp(loss, primals, tangents)[1], *jax.jvp(gradient, primals, tangents)

    y, slope, gradient, product = all_of(*primals)
    jax.tree.map(close, tuple(y), by_active_set(*primals))
    assert 0 < np.sum(y.lam > 0) < 4  # both kinds of inequalities
    truth = along(lambda *problem: sum(np.sum(np.sin(part)) for part in by_active_set(*problem)), primals, tangents)
    close(slope, truth)
    close(sum(np.vdot(g, t) for g, t in zip(gradient, tangents, strict=True)), truth)
    jax.tree.map(close, product, along(lambda *problem: all_of(*problem)[2], primals, tangents))


def test_vmap_over_matrices_and_over_directions(example):
    primals, other = problem(example), problem(example, 2)
    of_q = lambda Q, q: example.solution(Q, q, *primals[2:])
    jacobian = jax.jit(jax.vmap(jax.jacrev(of_q, 1), (0, None)))
    found = jacobian(np.stack([primals[0], other[0]]), primals[1])
    for k, Q in enumerate((primals[0], other[0])):
        along_q = lambda q, Q=Q: by_active_set(Q, q, *primals[2:])[0]
        close(found[k] @ other[1], along(along_q, (primals[1],), (other[1],), step=1e-4), rtol=1e-5, atol=1e-6)


def test_all_directions_of_a_derivative_are_one_call(example):
    import jaxprim

    with jaxprim.record_rules(quiet=True) as record:
        jax.block_until_ready(jax.jit(jax.jacrev(example.solution, ALL))(*problem(example)))
    runs = {name: count for (name, rule, _), count in record.counts.items() if rule == "host"}
    assert runs == {"qp": 1, "back": 1}


def test_least_squares_without_equations(example):
    rng = np.random.default_rng(0)
    M, c = rng.normal(size=(12, 6)), rng.normal(size=12)
    found = example.qp(M.T @ M, -M.T @ c, np.zeros((0, 6)), np.zeros(0), -np.eye(6), np.zeros(6))
    close(found.x, scipy.optimize.nnls(M, c)[0])


def test_what_does_not_fit_or_has_no_solution_is_an_error(example):
    Q, q, A, b, G, h = problem(example)
    with pytest.raises((ArithmeticError, RuntimeError, ValueError), match="is there a solution"):
        jax.block_until_ready(example.qp(Q, q, A, b, np.stack([q, -q]), np.array([-1.0, -1.0])))
    with pytest.raises(TypeError, match="do not fit"):
        example.qp(Q, q, A.T, b, G, h)


def test_check(example):
    with jax.enable_x64(False):
        assert example.qp.report(only=["equation", "linear-solve"]).ok
