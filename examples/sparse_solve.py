"""Solve `A x = b` for a sparse matrix `A` with SciPy's SuperLU, as a function of the values in `A` and of `b`.

SuperLU is opaque to JAX: it is a host function. Which entries of `A` are stored is a static param; their values are an
operand. Differentiating `A x = b` gives

    A x_dot = b_dot - A_dot x                           (JVP: one more solve with A)
    A^T lam = x_bar,   b_bar = lam,   A_bar = -lam x^T  (VJP: one solve with A^T; A_bar at the stored entries only)

The operation is linear in `b`, and its transpose is the solve with `A^T`. That is declared too, so that derivatives of
any order go through, with SuperLU doing every solve.

Run it with `python examples/sparse_solve.py`, or check it with `jaxprim check examples/sparse_solve.py`.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from jaxprim import Example, Primitive

sparse_solve = Primitive("sparse_solve")


class Pattern(NamedTuple):
    """Which entries of a square matrix are stored, in CSC order: by column, then by row."""

    size: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]

    def __repr__(self):
        return f"<{len(self.rows)} entries of {self.size} x {self.size}>"

    @staticmethod
    def of(matrix):
        """The pattern of a SciPy matrix, and its values."""
        csc = scipy.sparse.csc_matrix(matrix)
        csc.sum_duplicates()
        columns = np.repeat(np.arange(csc.shape[1]), np.diff(csc.indptr))
        return Pattern(csc.shape[0], tuple(csc.indices.tolist()), tuple(columns.tolist())), csc.data

    def indices(self, transposed):
        """The row and column of each entry of `A`, or of `A^T`."""
        rows, columns = np.array(self.rows), np.array(self.columns)
        return (columns, rows) if transposed else (rows, columns)


@functools.lru_cache(maxsize=8)
def factors(values, dtype, pattern):
    """SuperLU's factors. The solves of one batch, or of one gradient, share them."""
    entries = (np.frombuffer(values, dtype), pattern.indices(False))
    return scipy.sparse.linalg.splu(scipy.sparse.csc_matrix(entries, (pattern.size, pattern.size)))


@sparse_solve.def_host
def _(values, b, *, pattern, transposed=False):
    lu = factors(values.tobytes(), values.dtype, pattern)
    return lu.solve(np.array(b), "T" if transposed else "N")


@sparse_solve.def_abstract_eval
def _(values, b, *, pattern, transposed=False):
    if values.dtype != b.dtype or b.shape != (pattern.size,):
        raise TypeError(f"values {values.dtype} and b {b.dtype}{b.shape} do not fit a matrix of size {pattern.size}")
    return jax.ShapeDtypeStruct(b.shape, b.dtype)


def multiply(values, x, pattern, transposed):
    """`A x`, or `A^T x`."""
    rows, columns = pattern.indices(transposed)
    return jnp.zeros_like(x).at[rows].add(values * x[columns])


@sparse_solve.def_jvp
def _(primals, tangents, *, pattern, transposed):
    values, b = primals
    values_dot, b_dot = tangents
    x = sparse_solve(values, b, pattern=pattern, transposed=transposed)
    right = b_dot - multiply(values_dot, x, pattern, transposed)
    return x, sparse_solve(values, right, pattern=pattern, transposed=transposed)


@sparse_solve.def_vjp
def _(primals, *, pattern, transposed):
    values, b = primals
    x = sparse_solve(values, b, pattern=pattern, transposed=transposed)
    rows, columns = pattern.indices(transposed)

    def pullback(x_bar):
        lam = sparse_solve(values, x_bar, pattern=pattern, transposed=not transposed)
        return -lam[rows] * x[columns], lam

    return x, pullback


@sparse_solve.def_transpose(linear="b")
def _(x_bar, values, *, pattern, transposed):
    return sparse_solve(values, x_bar, pattern=pattern, transposed=not transposed)


def laplacian(size):
    """The second difference on a line, plus 1 on the diagonal, and a corner that makes it unsymmetric."""
    matrix = scipy.sparse.diags_array([-1.0, 3.0, -1.0], offsets=[-1, 0, 1], shape=(size, size)).tolil()
    matrix[0, size - 1] = 0.5
    return matrix


@sparse_solve.def_examples
def _():
    pattern, values = Pattern.of(laplacian(3))
    values, b = jnp.asarray(values, jnp.float32), jnp.linspace(-1.0, 1.0, 3)
    return [Example((values, b), {"pattern": pattern, "transposed": transposed}) for transposed in (False, True)]


if __name__ == "__main__":
    pattern, values = Pattern.of(laplacian(5))
    solve = functools.partial(sparse_solve, pattern=pattern)
    values, b = jnp.asarray(values, jnp.float32), jnp.ones(5)
    print("x:", solve(values, b))
    print("gradient of sum(x^2) in b:", jax.grad(lambda b: jnp.sum(solve(values, b) ** 2))(b))
    print(sparse_solve.explain())
    print(sparse_solve.check())
