"""A convex quadratic program, with derivatives from the conditions that its solution meets.

    minimize x^T Q x / 2 + q^T x     subject to     A x = b,     G x <= h

At the solution there are multipliers `nu` of the equations and `lam >= 0` of the inequalities with (Karush, Kuhn, Tucker)

    Q x + q + A^T nu + G^T lam = 0,        A x - b = 0,        lam (h - G x) = 0  for each inequality,

as many equations as unknowns. So the operation returns `x`, `nu` and `lam`, and these equations give all derivatives, in all
six operands, by linear systems with the matrix

    K = [[Q, A^T, G^T], [A, 0, 0], [-lam G, 0, h - G x]].

The implementation is an interior point method (Mehrotra's) in NumPy, with Newton's method on these equations at the end. It
keeps the factors of `K` for the derivatives (`keep=`): all tangents and cotangents, of any order, need no other.

`K` is singular where an inequality is met exactly with a multiplier of zero: there the solution has a kink, and no derivative.

Run it with `python examples/gallery/qp.py`, or check it with `jaxprim check examples/gallery/qp.py`.
"""
# The letters of the problem.
# ruff: noqa: N803, N806

import timeit
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import lu_factor, lu_solve

from jaxprim import Primitive


class Solution(NamedTuple):
    x: jax.Array  # [n]
    nu: jax.Array  # [m]
    lam: jax.Array  # [p]


# (Q [n, n], q [n], A [m, n], b [m], G [p, n], h [p]) -> Solution. Each linear system needs whole matrices: on several
# devices what splits are the axes of vmap, so there is no sharding rule.
qp = Primitive("qp")


def conditions(y, Q, q, A, b, G, h):
    x, nu, lam = y
    return Solution(Q @ x + q + A.T @ nu + G.T @ lam, A @ x - b, lam * (h - G @ x))


# ------------------------------------------------------------------------------------------------------ interior point
def largest(*values):
    return max(np.max(np.abs(value), initial=0.0) for value in values)


def longest(values, change):
    """How far one can go before a value becomes negative, and at most 1."""
    falls = change < 0
    return np.min(-values[falls] / change[falls], initial=1.0)


def newton(factors, s, lam, G, off, goal):
    """The step that makes the residuals `off` zero, and takes `goal` from `s lam`. What it is for `s` and `lam` is eliminated."""
    r_x, r_nu, r_s = off
    d = lu_solve(factors, -np.concatenate([r_x + G.T @ ((lam * r_s - goal) / s), r_nu]))
    ds = -r_s - G @ d[: r_x.size]
    return d[: r_x.size], d[r_x.size :], ds, -(goal + lam * ds) / s


def interior_point(Q, q, A, b, G, h, most=60):
    """Mehrotra's method. `s` stands in the place of `h - G x`, and stays positive, as `lam` does, until the end."""
    (m, n), p = A.shape, h.size
    x, nu, lam, s = np.zeros(n), np.zeros(m), np.ones(p), np.maximum(1, h)
    tol = 1e-10 * (1 + largest(Q, q, A, b, G, h))
    for _ in range(most):
        off, gap = (Q @ x + q + A.T @ nu + G.T @ lam, A @ x - b, G @ x + s - h), s * lam
        if largest(*off, gap) <= tol:
            return Solution(x, nu, np.where(lam < s, 0.0, lam))
        if largest(lam) > 1e8 * (
            1 + largest(Q, q)
        ):  # they grow without end where the inequalities contradict each other
            break
        factors = lu_factor(np.block([[Q + G.T * (lam / s) @ G, A.T], [A, np.zeros((m, m))]]), check_finite=False)
        *_, ds, dlam = newton(factors, s, lam, G, off, gap)
        reach = min(longest(s, ds), longest(lam, dlam))
        after, mean = (s + reach * ds) @ (lam + reach * dlam) / max(p, 1), np.sum(gap) / max(p, 1)
        centre = (after / mean) ** 3 * mean if p else 0.0
        dx, dnu, ds, dlam = newton(factors, s, lam, G, off, gap + ds * dlam - centre)
        length = min(1.0, 0.995 * min(longest(s, ds), longest(lam, dlam))) if p else 1.0
        x, nu, lam, s = x + length * dx, nu + length * dnu, lam + length * dlam, s + length * ds
    raise ArithmeticError(f"the conditions are still off by {largest(*off, gap):.1e}: is there a solution?")


def kkt(y, Q, A, G, h):
    """`K`, the Jacobian of the conditions in the solution."""
    (m, n), p = A.shape, h.size
    out = np.zeros((n + m + p, n + m + p))
    out[:n, :n], out[:n, n : n + m], out[:n, n + m :], out[n : n + m, :n] = Q, A.T, G.T, A
    out[n + m :, :n], out[n + m :, n + m :] = -y.lam[:, None] * G, np.diag(h - G @ y.x)
    return out


def cut(flat, like):
    n, m = like.x.size, like.nu.size
    return Solution(flat[:n], flat[n : n + m], flat[n + m :])


@qp.def_host
def _(Q, q, A, b, G, h):
    dtype = Q.dtype
    Q, q, A, b, G, h = problem = tuple(operand.astype("float64") for operand in (Q, q, A, b, G, h))
    y = interior_point(*problem)
    # To the last digit, now that it is known which inequalities are met exactly. Newton's error is squared.
    step = np.linalg.solve(kkt(y, Q, A, G, h), np.concatenate(conditions(y, *problem)))
    y = cut(np.concatenate(y) - step, y)
    factors, pivots = lu_factor(kkt(y, Q, A, G, h))
    return Solution(*(part.astype(dtype) for part in y)), factors.astype(dtype), pivots


@qp.def_abstract_eval
def _(Q, q, A, b, G, h):
    (n,), (m,), (p,) = q.shape, b.shape, h.shape
    if [x.shape for x in (Q, A, G)] != [(n, n), (m, n), (p, n)]:
        raise TypeError(
            f"Q {Q.shape}, A {A.shape} and G {G.shape} do not fit to q {q.shape}, b {b.shape} and h {h.shape}"
        )
    like = lambda *shape: jax.ShapeDtypeStruct(shape, Q.dtype)
    size = n + m + p
    return Solution(like(n), like(m), like(p)), like(size, size), jax.ShapeDtypeStruct((size,), "int32")


# ------------------------------------------------------------------------------------------------------ its derivative
# One more system with K, by the factors. On directions or cotangents that vmap stacks, it is one call.
back = Primitive("back", batching="expand_dims")  # (factors, pivots, b [k]) -> [k]


@back.def_host
def _(factors, pivots, b, *, trans):
    """Axes of vmap are in front of all operands, of size 1 where one is shared."""
    shape = np.broadcast_shapes(factors.shape[:-2], b.shape[:-1])
    b = np.broadcast_to(b, (*shape, b.shape[-1]))
    out = np.empty_like(b)
    for index in np.ndindex(factors.shape[:-2]):
        of_this = tuple(slice(None) if n == 1 else k for k, n in zip(index, factors.shape[:-2], strict=True))
        right = b[of_this].reshape(-1, b.shape[-1]).T
        out[of_this] = lu_solve((factors[index], pivots[index]), right, trans).T.reshape(b[of_this].shape)
    return out


back.def_abstract_eval(lambda factors, pivots, b, *, trans: b)
back.def_transpose(lambda x_bar, factors, pivots, *, trans: back(factors, pivots, x_bar, trans=1 - trans), linear="b")

qp.def_implicit(
    conditions,
    keep=("factors", "pivots"),
    solve=lambda matvec, b, *kept: cut(back(*kept, jnp.concatenate(b), trans=0), b),
    transpose_solve=lambda vecmat, b, *kept: cut(back(*kept, jnp.concatenate(b), trans=1), b),
)


@qp.def_examples
def _():
    Q = jnp.array([[2.0, 0.5, 0.0], [0.5, 1.5, 0.25], [0.0, 0.25, 1.0]])
    G = jnp.array([[1.0, 0.5, 0.0], [-1.0, 0.0, 0.5], [0.25, 1.0, 1.0], [0.0, -1.0, 0.5]])
    A, h = jnp.array([[1.0, 1.0, 1.0]]), jnp.array([0.25, 1.0, 2.0, 0.5])
    return [(Q, jnp.array([-1.0, 0.5, -2.0]), A, jnp.array([1.0]), G, h)]


# --------------------------------------------------------------------------------------------------------------- show
def made_up(n, m, p, seed=0):
    """A problem that has a solution, where about half of the inequalities are met exactly."""
    rng = np.random.default_rng(seed)
    root, A, G = rng.normal(size=(n, n)), rng.normal(size=(m, n)), rng.normal(size=(p, n))
    inner = rng.normal(size=n)
    Q, q = root @ root.T / n + np.eye(n), 3 * rng.normal(size=n)
    return tuple(map(jnp.asarray, (Q, q, A, A @ inner, G, G @ inner + rng.uniform(0.1, 1.0, p))))


def solution(*problem):
    return qp(*problem).x


def by_qpax(Q, q, A, b, G, h):
    """The same by qpax, if it is installed."""
    import qpax

    return qpax.solve_qp_primal(Q, q, A, b, G, h, solver_tol=1e-10, target_kappa=1e-12)


def by_cvxpylayers(n, m, p):
    """The same by cvxpylayers, if it is installed. Convex programs are built with `P`, where `Q = P^T P`."""
    import cvxpy as cp
    from cvxpylayers.jax import CvxpyLayer

    x, shapes = cp.Variable(n), {"P": (n, n), "q": n, "A": (m, n), "b": m, "G": (p, n), "h": p}
    given = P, q, A, b, G, h = [cp.Parameter(shape, name=name) for name, shape in shapes.items()]
    problem = cp.Problem(cp.Minimize(cp.sum_squares(P @ x) / 2 + q @ x), [A @ x == b, G @ x <= h])
    layer = CvxpyLayer(problem, given, [x])
    return lambda Q, *others: layer(jnp.linalg.cholesky(Q).T, *others)[0]


def milliseconds(fn, *operands):
    jax.block_until_ready(fn(*operands))
    return 1e3 * min(timeit.repeat(lambda: jax.block_until_ready(fn(*operands)), number=1, repeat=5))


def main(n=40, m=10, p=40):
    jax.config.update("jax_enable_x64", True)
    problem = made_up(n, m, p)
    y = qp(*problem)
    print(f"{n} unknowns, {m} equations, {p} inequalities, of which {int(jnp.sum(y.lam > 1e-9))} are met exactly")
    gradient = lambda solve: jax.grad(lambda *problem: jnp.sum(solve(*problem) ** 2), tuple(range(6)))
    ways = {"ours": (lambda: solution, jax.jit)}
    ways |= {"qpax": (lambda: by_qpax, jax.jit), "cvxpylayers, no jit": (lambda: by_cvxpylayers(n, m, p), lambda f: f)}
    for name, (make, compiled) in ways.items():
        try:
            print(f"  its gradient in all six: {name:20} {milliseconds(compiled(gradient(make())), *problem):8.2f} ms")
        except ImportError as error:
            print(f"  {name}: {error}")
    print(qp.explain())
    print(qp.check())


if __name__ == "__main__":
    main()
