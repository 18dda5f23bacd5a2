"""Solvers of lineax, and what the iterative words are told. The truth is LAPACK."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tools import needs

from jaxprim import Primitive
from jaxprim.forms.linear_solvers import ByWord, System, is_lineax

N = 4
RNG = np.random.default_rng(1)
A = (RNG.normal(size=(N, N)) + 4 * np.eye(N)).astype("float32")
S = (A @ A.T).astype("float32")
B, Y_BAR = RNG.normal(size=(2, N)).astype("float32")


def derivatives(matrix, **options):
    """Both derivatives of the solution of a linear system."""
    op = Primitive("linear_system")
    op.def_impl(lambda b: jnp.linalg.solve(matrix, b))
    op.def_implicit(lambda y, b: matrix @ y - b, **options)
    return jax.jit(lambda b: (jax.jvp(op, (b,), (b,))[1], jax.vjp(op, b)[1](Y_BAR)[0]))(B)


def truth(matrix):
    return np.linalg.solve(matrix, B), np.linalg.solve(matrix.T, Y_BAR)


def close(got, want):
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-3, atol=1e-4)


@needs("lineax")
@pytest.mark.parametrize("name", ["LU", "GMRES", "AutoLinearSolver"])
def test_a_solver_of_lineax(name):
    import lineax

    given = {"LU": (), "GMRES": (1e-6, 1e-6), "AutoLinearSolver": (True,)}[name]
    close(derivatives(A, solve=getattr(lineax, name)(*given)), truth(A))


@needs("lineax")
def test_a_solver_of_lineax_is_told_what_the_matrix_is():
    import lineax

    close(derivatives(S, solve=lineax.CG(1e-6, 1e-6)), truth(S))
    close(derivatives(S, solve=lineax.Cholesky(), symmetric=True), truth(S))
    op = Primitive("minimum")
    op.def_impl(lambda b: jnp.linalg.solve(S, b))
    op.def_implicit(minimum=lambda y, b: y @ S @ y / 2 - b @ y, solve=lineax.AutoLinearSolver(True))
    inverse = np.linalg.inv(S)
    close([jax.hessian(lambda b: jnp.sum(op(b) ** 3))(B)], [inverse @ np.diag(6 * inverse @ B) @ inverse])
    assert "solve=lineax.AutoLinearSolver" in str(op.explain())


def test_what_only_looks_like_lineax_is_not():
    class Solver:
        def init(self, operator, options): ...
        def compute(self, state, vector, options): ...

    assert not is_lineax(Solver())


def system(matrix):
    return System(lambda v: [matrix @ v[0]], [jnp.asarray(B)], lambda v: v[0], lambda value, author: [value])


@pytest.mark.parametrize("word", ["cg", "gmres", "bicgstab", "normal_cg"])
def test_an_iteration_stops_at_its_tolerance(word):
    error = lambda tol: np.max(np.abs(S @ ByWord(word, tol).solve(system(S), [jnp.asarray(B)], transpose=False)[0] - B))
    assert error(None) < 1e-4 < error(0.3)


def test_an_iteration_that_cannot_meet_its_tolerance_ends():
    """After about 10 products for each unknown, as the other methods, and not after 10 restarts for each."""
    op = Primitive("linear_system")
    op.def_impl(lambda b: jnp.linalg.solve(A, b))
    op.def_implicit(lambda y, b: A @ y - b, solve="gmres", tol=1e-30)
    close([jax.jacfwd(op)(B)], [np.linalg.inv(A)])


def test_no_unknowns():
    nothing = System(lambda v: v, [], lambda v: v, lambda value, author: value)
    assert ByWord("dense").solve(nothing, [], transpose=True) == []


@pytest.mark.parametrize("solve", ["gmres", "a function"])
def test_reverse_over_reverse_where_some_of_several_unknowns_move(solve):
    """JAX transposes `custom_linear_solve` of several arrays only if all of them depend on the cotangent."""
    dense = lambda matvec, b: ByWord("dense").solve(System(matvec, b, list, lambda v, _: v), b, transpose=False)
    options = {"a function": {"solve": dense, "transpose_solve": dense}}
    op = Primitive("pair")
    op.def_impl(lambda x: [jnp.exp(x), jnp.exp(2 * x)])
    op.def_implicit(lambda y, x: [jnp.log(y[0]) - x, y[1] - y[0] ** 2], **options.get(solve, {"solve": solve}))
    product = lambda loss: jax.grad(lambda x: jnp.vdot(jax.grad(loss)(x), B))(B)
    close([product(lambda x: jnp.sum(op(x)[0] ** 2))], [4 * np.exp(2 * B) * B])
