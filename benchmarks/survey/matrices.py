"""``jax.numpy.linalg``, ``jax.scipy.linalg``, ``jax.scipy.sparse.linalg`` and ``jax.lax.linalg``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.linalg
import jax.scipy.sparse.linalg
import numpy as np
import scipy.linalg

from .op import Op, definite, normal, points, regular

SQUARE = regular(3)
COMPLEX = SQUARE + 1j * normal(3, 3, seed=2)
TALL = normal(4, 2)
LOW_RANK = np.outer(normal(3), normal(3, seed=1))
REPEATED = np.diag([2.0, 2.0, 5.0])
NEAR = SQUARE - 0.9999 * np.linalg.eigvals(SQUARE).real.min() * np.eye(3)
ABOUT = points(SQUARE, NEAR, COMPLEX)


def ops() -> Iterator[Op]:
    np_linalg, sp_linalg = jnp.linalg, jax.scipy.linalg
    yield _op("jax.numpy.linalg inv", np_linalg.inv, ABOUT, np.linalg.inv)
    yield _op("jax.numpy.linalg det", np_linalg.det, (*ABOUT, (LOW_RANK,)), np.linalg.det)
    yield _op("jax.numpy.linalg slogdet", np_linalg.slogdet, points(SQUARE, -SQUARE, COMPLEX), np.linalg.slogdet)
    yield _op("jax.numpy.linalg solve", np_linalg.solve, points((SQUARE, normal(3)), (COMPLEX, normal(3, 2))))
    yield _op("jax.numpy.linalg lstsq, solution", lambda a, b: np_linalg.lstsq(a, b)[0], points((TALL, normal(4))))
    yield _op("jax.numpy.linalg pinv", np_linalg.pinv, points(TALL, TALL.T, COMPLEX, LOW_RANK))
    yield _op("jax.numpy.linalg qr", np_linalg.qr, points(SQUARE, TALL, COMPLEX))
    yield _op("jax.numpy.linalg svdvals", np_linalg.svdvals, points(TALL, SQUARE, COMPLEX, REPEATED, LOW_RANK))
    yield _op("jax.numpy.linalg svd, U S V^T", _svd_again, points(TALL, SQUARE, COMPLEX))
    yield _op("jax.numpy.linalg eigvalsh", lambda a: np_linalg.eigvalsh(a + a.mT), points(SQUARE, REPEATED))
    yield _op("jax.numpy.linalg eigh, exp", _eigh_exp, points(SQUARE, REPEATED))
    yield _op("jax.numpy.linalg eigvals", np_linalg.eigvals, points(SQUARE, COMPLEX))
    yield _op("jax.numpy.linalg matrix_power, 3", lambda a: np_linalg.matrix_power(a, 3), points(SQUARE))
    yield _op("jax.numpy.linalg norm, nuclear", lambda a: np_linalg.norm(a, ord="nuc"), points(TALL))
    yield _op("jax.numpy.linalg norm, spectral", lambda a: np_linalg.norm(a, ord=2), points(TALL))
    yield _op("jax.numpy.linalg cond", np_linalg.cond, points(SQUARE), np.linalg.cond)
    yield _op("jax.scipy.linalg cholesky", sp_linalg.cholesky, points(definite(3)))
    yield _op("jax.scipy.linalg cho_solve", _cho_solve, points((definite(3), normal(3))))
    yield _op("jax.scipy.linalg lu", sp_linalg.lu, points(SQUARE, COMPLEX))
    yield _op("jax.scipy.linalg lu_solve", _lu_solve, points((SQUARE, normal(3))))
    yield _op("jax.scipy.linalg solve_triangular", sp_linalg.solve_triangular, points((SQUARE, normal(3))))
    yield _op("jax.scipy.linalg expm", sp_linalg.expm, points(SQUARE, 0 * SQUARE, 20 * SQUARE), scipy.linalg.expm)
    yield _op("jax.scipy.linalg sqrtm", sp_linalg.sqrtm, points(definite(3)), scipy.linalg.sqrtm)
    yield _op("jax.scipy.linalg solve_sylvester", sp_linalg.solve_sylvester, points((SQUARE, SQUARE.T, normal(3, 3))))
    yield _op("jax.scipy.linalg polar", sp_linalg.polar, points(SQUARE), scipy.linalg.polar)
    yield _op("jax.scipy.linalg toeplitz", sp_linalg.toeplitz, points((normal(3), normal(3, seed=1))))
    yield _op("jax.lax linalg.tridiagonal_solve", jax.lax.linalg.tridiagonal_solve, points(_tridiagonal()))
    for name in ("cg", "gmres", "bicgstab"):
        yield _op(f"jax.scipy.sparse.linalg {name}", _sparse(name), points((definite(3), normal(3))))


def _op(name: str, function: Callable[..., Any], about: Any, reference: Any = None) -> Op:
    return Op(name, lambda: function, about, reference)


def _svd_again(a: Any) -> Any:
    """`U exp(S) V^T`, which does not depend on the signs of the singular vectors."""
    u, s, vt = jnp.linalg.svd(a, full_matrices=False)
    return (u * jnp.exp(-s)) @ vt


def _eigh_exp(a: Any) -> Any:
    """`exp(A)` of a symmetric matrix, a smooth function also where eigenvalues meet."""
    w, v = jnp.linalg.eigh(a + a.mT)
    return (v * jnp.exp(-w)) @ v.mT


def _cho_solve(a: Any, b: Any) -> Any:
    return jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(a), b)


def _lu_solve(a: Any, b: Any) -> Any:
    return jax.scipy.linalg.lu_solve(jax.scipy.linalg.lu_factor(a), b)


def _sparse(name: str) -> Callable[..., Any]:
    def solve(a: Any, b: Any) -> Any:
        """Of a symmetric matrix, in whatever direction `a` is moved, as the rule of `cg` takes it to be one."""
        symmetric = (a + a.mT) / 2
        return getattr(jax.scipy.sparse.linalg, name)(lambda x: symmetric @ x, b, tol=1e-7)[0]

    return solve


def _tridiagonal() -> tuple[np.ndarray, ...]:
    lower, upper = normal(4), normal(4, seed=1)
    lower[0] = upper[-1] = 0.0
    return lower, 5 + normal(4, seed=2), upper, normal(4, 2, seed=3)
