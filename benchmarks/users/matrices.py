"""Condition numbers from 1e7 to 1e10, long sums, and decompositions of matrices."""

from __future__ import annotations

import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np

from benchmarks.users.operation import conditioned, draws, f64, fault, op, positive

SOLVE = {
    "jvp": {
        "a": lambda a_dot, x, a, b: jnp.linalg.solve(a, -a_dot @ x),
        "b": lambda b_dot, x, a, b: jnp.linalg.solve(a, b_dot),
    },
    "vjp": {
        "a": lambda x_bar, x, a, b: -jnp.outer(jnp.linalg.solve(a.T, x_bar), x),
        "b": lambda x_bar, x, a, b: jnp.linalg.solve(a.T, x_bar),
    },
}
op("solve", jnp.linalg.solve, lambda: [(positive(4) + draws((4, 4))[0], draws((4,))[0])], **SOLVE)
for exponent in (7, 10):
    op(
        f"solve_1e{exponent}",
        jnp.linalg.solve,
        lambda e=exponent: [(conditioned(5, 10.0**e), draws((5,), dtype=f64)[0])],
        x64=True,
        **SOLVE,
    )
op(
    "inverse_1e8",
    jnp.linalg.inv,
    lambda: [(conditioned(4, 1e8),)],
    jvp={"a": lambda a_dot, y, a: -y @ a_dot @ y},
    vjp={"a": lambda y_bar, y, a: -y.T @ y_bar @ y.T},
    x64=True,
)
op(
    "norm_long",
    lambda x: jnp.sqrt(jnp.sum(x * x)),
    lambda: [(draws((100_000,))[0],)],
    vjp={"x": lambda y_bar, y, x: y_bar * x / y},
)
op(
    "mean_long",
    lambda x: jnp.mean(x),
    lambda: [(draws((100_000,))[0] + 3,)],
    vjp={"x": lambda y_bar, y, x: jnp.full_like(x, 1 / x.size) * y_bar},
)
op(
    "logdet",
    lambda a: jnp.linalg.slogdet(a)[1],
    lambda: [(positive(4),)],
    vjp={"a": lambda y_bar, y, a: y_bar * jnp.linalg.inv(a).T},
    jvp={"a": lambda a_dot, y, a: jnp.trace(jnp.linalg.solve(a, a_dot))},
)
op(
    "logdet_positive",
    lambda a: 2 * jnp.sum(jnp.log(jnp.diagonal(jnp.linalg.cholesky((a + a.T) / 2)))),
    lambda: [(positive(5),)],
    vjp={"a": lambda y_bar, y, a: y_bar * jnp.linalg.inv((a + a.T) / 2)},
)


def lower_half(a):
    return jnp.tril(a) - 0.5 * jnp.diag(jnp.diagonal(a))


def cholesky_jvp(a_dot, low, a):
    inner = jsl.solve_triangular(low, jsl.solve_triangular(low, (a_dot + a_dot.T) / 2, lower=True).T, lower=True).T
    return low @ lower_half(inner)


def cholesky_vjp(low_bar, low, a):
    middle = lower_half(low.T @ low_bar)
    s = jsl.solve_triangular(
        low, jsl.solve_triangular(low, (middle + middle.T) / 2, lower=True, trans=1).T, lower=True, trans=1
    )
    return (s + s.T) / 2


op(
    "cholesky",
    lambda a: jnp.linalg.cholesky((a + a.T) / 2),
    lambda: [(positive(4, f64),)],
    jvp={"a": cholesky_jvp},
    vjp={"a": cholesky_vjp},
    x64=True,
)


def eigenvectors(a):
    return jnp.linalg.eigh((a + a.T) / 2)[1]


op(
    "eigenvalues",
    lambda a: jnp.linalg.eigvalsh((a + a.T) / 2, symmetrize_input=False),
    lambda: [(positive(4) + jnp.diag(jnp.arange(4.0, dtype=np.float32)),)],
    vjp={"a": lambda w_bar, w, a: (eigenvectors(a) * w_bar) @ eigenvectors(a).T},
)
op(
    "horner",
    lambda x: ((x - 3) * x + 3) * x - 1,
    lambda: [(1 + 0.01 * draws((5,))[0],)],
    partials=lambda y, x: (3 * x - 6) * x + 3,
)

# -- faults: one rule each

solve = jnp.linalg.solve
fault("solve", "vjp", "a", lambda x_bar, x, a, b: -jnp.outer(x, solve(a.T, x_bar)), "transposed")
fault("solve", "vjp", "b", lambda x_bar, x, a, b: solve(a, x_bar), "solves with A, not with its transpose")
fault("solve_1e7", "jvp", "a", lambda a_dot, x, a, b: solve(a, a_dot @ x), "the sign")
fault("inverse_1e8", "vjp", "a", lambda y_bar, y, a: -y @ y_bar @ y, "not transposed")
fault("norm_long", "vjp", "x", lambda y_bar, y, x: 2 * y_bar * x / y, "a factor 2")
fault(
    "mean_long",
    "vjp",
    "x",
    lambda y_bar, y, x: jnp.full_like(x, 1 / (x.size - 1000)) * y_bar,
    "one per cent too large",
)
fault("logdet", "vjp", "a", lambda y_bar, y, a: y_bar * jnp.linalg.inv(a), "not transposed; the example is symmetric")
fault(
    "logdet",
    "jvp",
    "a",
    lambda a_dot, y, a: jnp.trace(a_dot) / jnp.trace(a) * a.shape[0],
    "right for multiples of I only",
)
fault(
    "cholesky",
    "jvp",
    "a",
    lambda a_dot, low, a: cholesky_jvp(a_dot, low, a) + 0.001 * jnp.tril(a_dot),
    "a small term too many",
)
fault(
    "eigenvalues",
    "vjp",
    "a",
    lambda w_bar, w, a: (eigenvectors(a).T * w_bar) @ eigenvectors(a),
    "eigenvectors are rows",
)
fault("horner", "partials", None, lambda y, x: (3 * x - 3) * x + 3, "a coefficient")
