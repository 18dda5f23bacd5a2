"""Sylvester's equation `A X + X B = C`, with LAPACK: its addresses come from `scipy.linalg.cython_lapack`.

The algorithm of Bartels and Stewart: with real Schur forms `A = U R U^T` and `B = V S V^T` (`gees`), the equation becomes
`R Y + Y S = U^T C V`, which is solved by substitution (`trsyl`), and `X = U Y V^T`. Differentiating the equation gives

    A X_dot + X_dot B = C_dot - A_dot X - X B_dot                               (JVP)
    A^T L + L B^T = X_bar,    C_bar = L,  A_bar = -L X^T,  B_bar = -X^T L       (VJP)

so a derivative is a solve with the same matrices, or their transposes. Both need the same Schur forms: `A^T = U R^T U^T`,
and `trsyl` knows transposes. Kernels are pure, so XLA merges equal calls: in a compiled program that holds a value and its
derivatives of any order, `A` and `B` are each brought to Schur form once.

On platforms without LAPACK the impl solves the n m equations with a dense matrix, `(1 (x) A + B^T (x) 1) vec X = vec C`.
`check` compares the two.

Run it with `python examples/gallery/sylvester.py`, or check it with `jaxprim check examples/gallery/sylvester.py`.
"""
# The letters of the equation. E741: nothing here is the number one.
# ruff: noqa: N803, N806

import timeit

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import cython_lapack

from jaxprim import Example, Primitive, kernels

# LAPACK needs whole matrices: on several devices they are gathered, and there is no sharding rule.
sylvester = Primitive("sylvester")


# ------------------------------------------------------------------------------------------------------------- LAPACK
def lapack(routine, prefix, signature, arguments, status):
    pointer = cython_lapack.__pyx_capi__[prefix + routine]
    signature = signature.replace("T[", {"s": "f32[", "d": "f64["}[prefix])
    arguments = arguments.replace("T[", {"s": "f32[", "d": "f64["}[prefix])
    # Matrices are stored by column, sizes are 32-bit, and everything is passed by its address.
    return kernels.c_function(
        pointer, signature, arguments=arguments, sizes="i32", order="F", status={1: status}, name=prefix + routine
    )


def schur(prefix):
    """`A` to `R` and `U`. The eigenvalues are not wanted, and neither is an order of them, nor the function that tells it."""
    return lapack(
        "gees",
        prefix,
        "(a: T[n, n]) -> (r: T[n, n], u: T[n, n])",
        "&'V', &'N', scratch i32[1], &n, r=a, &n, &0, scratch T[n], scratch T[n], u, &n, scratch T[8*n], &8*n, "
        "scratch i32[n], &status",
        "the QR algorithm did not converge",
    )


def substitution(prefix, transposed):
    """`R Y + Y S = scale F`, or with transposed `R` and `S`; a scale below 1 avoids overflow."""
    letter = "T" if transposed else "N"
    return lapack(
        "trsyl",
        prefix,
        "(r: T[n, n], s: T[m, m], f: T[n, m]) -> (y: T[n, m], scale: T[])",
        f"&'{letter}', &'{letter}', &1, &n, &m, r, &n, s, &m, y=f, &n, scale, &status",
        "A and -B have an eigenvalue in common, or nearly so",
    )


GEES = {"float32": schur("s"), "float64": schur("d")}
TRSYL = {
    (name, t): substitution(name[0].translate({102: "sd"[name[-1] == "4"]}), t) for name in GEES for t in (False, True)
}


@sylvester.def_kernel(platform="cpu")
def bartels_stewart(A, B, C, *, transposed=False):
    (R, U), (S, V) = GEES[A.dtype.name](A), GEES[B.dtype.name](B)
    Y, scale = TRSYL[A.dtype.name, transposed](R, S, U.T @ C @ V)
    return U @ (Y / scale) @ V.T


@sylvester.def_impl
def kronecker(A, B, C, *, transposed=False):
    """`A` is `[n, n]`, `B` is `[m, m]`, `C` is `[n, m]`, all real. With `transposed`, `A^T X + X B^T = C`."""
    A, B = (A.T, B.T) if transposed else (A, B)
    n, m = C.shape
    matrix = jnp.kron(A, jnp.eye(m, dtype=A.dtype)) + jnp.kron(jnp.eye(n, dtype=A.dtype), B.T)
    return jnp.linalg.solve(matrix, C.reshape(n * m)).reshape(n, m)


# -------------------------------------------------------------------------------------------------------------- rules
@sylvester.def_jvp
def _(primals, tangents, *, transposed):
    (A, B, C), (A_dot, B_dot, C_dot) = primals, tangents
    X = sylvester(A, B, C, transposed=transposed)
    A_dot, B_dot = (A_dot.T, B_dot.T) if transposed else (A_dot, B_dot)
    return X, sylvester(A, B, C_dot - A_dot @ X - X @ B_dot, transposed=transposed)


@sylvester.def_vjp
def _(primals, *, transposed):
    A, B, C = primals
    X = sylvester(A, B, C, transposed=transposed)

    def pullback(X_bar):
        L = sylvester(A, B, X_bar, transposed=not transposed)
        A_bar, B_bar = -L @ X.T, -X.T @ L
        return (A_bar.T, B_bar.T, L) if transposed else (A_bar, B_bar, L)

    return X, pullback


@sylvester.def_transpose(linear="C")
def _(X_bar, A, B, *, transposed):
    return sylvester(A, B, X_bar, transposed=not transposed)


@sylvester.def_examples
def _():
    A, B = jnp.array([[2.0, 1.0], [-1.0, 3.0]]), jnp.array([[1.0, -0.5, 0.0], [2.0, 1.5, 0.25], [0.0, 1.0, 2.0]])
    return [Example((A, B, jnp.array([[1.0, 2.0, -1.0], [0.5, 0.0, 3.0]])), {"transposed": t}) for t in (False, True)]


# --------------------------------------------------------------------------------------------------------------- show
def milliseconds(fn, *operands):
    jax.block_until_ready(fn(*operands))
    return 1e3 * min(timeit.repeat(lambda: jax.block_until_ready(fn(*operands)), number=3, repeat=3)) / 3


def main(n=24):
    rng = np.random.default_rng(0)
    A, B, C = (jnp.asarray(rng.normal(size=(n, n)) + shift * np.eye(n), jnp.float32) for shift in (8, 8, 0))
    print(f"value and gradients, {n} x {n}, float32")
    for name, op in {
        "LAPACK by its address": sylvester,
        "a dense matrix of n^2 equations": sylvester.use("impl"),
    }.items():
        loss = lambda A, B, C, op=op: jnp.sum(op(A, B, C) ** 2)
        print(f"  {name:32} {milliseconds(jax.jit(jax.value_and_grad(loss, (0, 1, 2))), A, B, C):8.2f} ms")
    text = jax.jit(jax.value_and_grad(lambda A: jnp.sum(sylvester(A, B, C) ** 2))).lower(A).compile().as_text()
    print("  Schur forms in the compiled program:", text.count('custom_call_target="jaxprim.sgees'))
    print(sylvester.explain())
    print(sylvester.check())


if __name__ == "__main__":
    main()
