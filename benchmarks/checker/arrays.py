"""Right operations on arrays: broadcasting, products, reductions, solves.

In a rule `p` are the primals, `t` their tangents, `y` the result and `ct` its cotangent.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks.checker.operation import Op, between, normal

inv = jnp.linalg.inv


def _well(n: int, count: int = 1, *others: tuple[int, ...]) -> Any:
    """Square matrices that are far from singular, then other operands."""

    def draw(rng: np.random.Generator) -> tuple[Any, ...]:
        matrices = [rng.normal(size=(n, n)) + 3 * np.eye(n) for _ in range(count)]
        return (*matrices, *(rng.normal(size=shape) for shape in others))

    return draw


def _hilbert(rng: np.random.Generator) -> tuple[Any, ...]:
    i = np.arange(1, 6)
    return 1.0 / (i[:, None] + i - 1), rng.normal(size=5)


BROADCASTING = [
    Op(
        "scale",
        lambda x, factor: x * factor,
        lambda p, t: t[0] * p[1] + p[0] * t[1],
        lambda p, y, ct: (ct * p[1], jnp.sum(ct * p[0])),
        normal((3,), ()),
        note="a scalar is broadcast",
    ),
    Op(
        "scale_columns",
        lambda x, row: x * row[None, :],
        lambda p, t: t[0] * p[1][None, :] + p[0] * t[1][None, :],
        lambda p, y, ct: (ct * p[1][None, :], jnp.sum(ct * p[0], 0)),
        normal((3, 3), (3,)),
        note="a row is broadcast over a square matrix",
    ),
    Op(
        "outer_sum",
        lambda x, y: x[:, None] + y[None, :],
        lambda p, t: t[0][:, None] + t[1][None, :],
        lambda p, y, ct: (jnp.sum(ct, 1), jnp.sum(ct, 0)),
        normal((3,), (3,)),
        note="both are broadcast",
    ),
    Op(
        "outer",
        lambda x, y: x[:, None] * y[None, :],
        lambda p, t: t[0][:, None] * p[1][None, :] + p[0][:, None] * t[1][None, :],
        lambda p, y, ct: (ct @ p[1], p[0] @ ct),
        normal((3,), (3,)),
    ),
    Op(
        "lerp",
        lambda a, b, w: a + w * (b - a),
        lambda p, t: t[0] * (1 - p[2]) + t[1] * p[2] + t[2] * (p[1] - p[0]),
        lambda p, y, ct: (ct * (1 - p[2]), ct * p[2], ct * (p[1] - p[0])),
        normal((4,), (4,), (4,)),
        note="three operands",
    ),
]

PRODUCTS = [
    Op(
        "matmul",
        lambda a, b: a @ b,
        lambda p, t: t[0] @ p[1] + p[0] @ t[1],
        lambda p, y, ct: (ct @ p[1].T, p[0].T @ ct),
        normal((3, 3), (3, 3)),
        note="square, so that a transposed operand fits",
    ),
    Op(
        "matvec",
        lambda a, x: a @ x,
        lambda p, t: t[0] @ p[1] + p[0] @ t[1],
        lambda p, y, ct: (ct[:, None] * p[1][None, :], ct @ p[0]),
        normal((3, 3), (3,)),
    ),
    Op(
        "batched_matmul",
        lambda a, b: jnp.einsum("bij,bjk->bik", a, b),
        lambda p, t: jnp.einsum("bij,bjk->bik", t[0], p[1]) + jnp.einsum("bij,bjk->bik", p[0], t[1]),
        lambda p, y, ct: (jnp.einsum("bik,bjk->bij", ct, p[1]), jnp.einsum("bij,bik->bjk", p[0], ct)),
        normal((2, 3, 3), (2, 3, 3)),
    ),
    Op(
        "quadratic",
        lambda a, x: x @ a @ x,
        lambda p, t: p[1] @ t[0] @ p[1] + t[1] @ (p[0] + p[0].T) @ p[1],
        lambda p, y, ct: (ct * p[1][:, None] * p[1][None, :], ct * ((p[0] + p[0].T) @ p[1])),
        normal((3, 3), (3,)),
        note="a matrix that is not symmetric",
    ),
    Op(
        "dot",
        lambda x, y: jnp.sum(x * y),
        lambda p, t: jnp.sum(t[0] * p[1] + p[0] * t[1]),
        lambda p, y, ct: (ct * p[1], ct * p[0]),
        normal((6,), (6,)),
    ),
    Op(
        "convolve",
        lambda x, k: jnp.convolve(x, k, mode="valid"),
        lambda p, t: jnp.convolve(t[0], p[1], mode="valid") + jnp.convolve(p[0], t[1], mode="valid"),
        lambda p, y, ct: (jnp.convolve(ct, p[1][::-1]), jnp.convolve(p[0][::-1], ct, mode="valid")),
        normal((6,), (3,)),
    ),
]


def _softmax(x: Any) -> Any:
    e = jnp.exp(x - jnp.max(x))
    return e / jnp.sum(e)


def _centred(s: Any, t: Any) -> Any:
    """The Jacobian of softmax at its result `s`, which is symmetric."""
    return s * (t - jnp.sum(s * t))


REDUCTIONS = [
    Op(
        "sum_squares",
        lambda x: jnp.sum(x * x),
        lambda p, t: jnp.sum(2 * p[0] * t[0]),
        lambda p, y, ct: (2 * p[0] * ct,),
        normal((5,)),
    ),
    Op(
        "mean_rows",
        lambda x: jnp.mean(x, 0),
        lambda p, t: jnp.mean(t[0] + jnp.zeros_like(p[0]), 0),
        lambda p, y, ct: (jnp.broadcast_to(ct / p[0].shape[0], p[0].shape),),
        normal((3, 3)),
        note="linear",
    ),
    Op(
        "prod",
        lambda x: jnp.prod(x),
        lambda p, t: jnp.sum(_others(p[0]) * t[0]),
        lambda p, y, ct: (_others(p[0]) * ct,),
        normal((4,)),
        note="a zero in the operand would break y / x",
    ),
    Op(
        "logsumexp",
        lambda x: jnp.log(jnp.sum(jnp.exp(x - jnp.max(x)))) + jnp.max(x),
        lambda p, t: jnp.sum(_softmax(p[0]) * t[0]),
        lambda p, y, ct: (jnp.exp(p[0] - y) * ct,),
        normal((5,)),
    ),
    Op(
        "softmax",
        _softmax,
        lambda p, t: _centred(_softmax(p[0]), t[0]),
        lambda p, y, ct: (_centred(y, ct),),
        normal((5,)),
    ),
    Op(
        "norm",
        lambda x: jnp.sqrt(jnp.sum(x * x)),
        lambda p, t: jnp.sum(p[0] * t[0]) / jnp.sqrt(jnp.sum(p[0] * p[0])),
        lambda p, y, ct: (ct * p[0] / y,),
        normal((4,)),
    ),
    Op(
        "variance",
        lambda x: jnp.mean((x - jnp.mean(x)) ** 2),
        lambda p, t: jnp.mean(2 * (p[0] - jnp.mean(p[0])) * t[0]),
        lambda p, y, ct: (2 * ct * (p[0] - jnp.mean(p[0])) / p[0].size,),
        normal((5,)),
    ),
    Op(
        "cumsum",
        lambda x: jnp.cumsum(x),
        lambda p, t: jnp.cumsum(t[0] + jnp.zeros_like(p[0])),
        lambda p, y, ct: (jnp.cumsum(ct[::-1])[::-1],),
        normal((5,)),
        note="linear",
    ),
]


def _others(x: Any) -> Any:
    """The product of all other elements, without a division."""
    n = x.shape[0]
    return jnp.prod(jnp.where(jnp.eye(n, dtype=bool), jnp.ones((), x.dtype), jnp.broadcast_to(x, (n, n))), 1)


def _solve_pullback(a: Any, x: Any, x_bar: Any) -> Any:
    """``b_bar = A^-T x_bar``, ``A_bar = -b_bar x^T``."""
    b_bar = jnp.linalg.solve(a.T, x_bar)
    return -b_bar[:, None] * x[None, :], b_bar


SOLVES = [
    Op(
        "solve",
        lambda a, b: jnp.linalg.solve(a, b),
        lambda p, t: jnp.linalg.solve(p[0], t[1] - t[0] @ jnp.linalg.solve(*p)),
        lambda p, y, ct: _solve_pullback(p[0], y, ct),
        _well(3, 1, (3,)),
        slack=10.0,
    ),
    Op(
        "solve_hilbert",
        lambda a, b: jnp.linalg.solve(a, b),
        lambda p, t: jnp.linalg.solve(p[0], t[1] - t[0] @ jnp.linalg.solve(*p)),
        lambda p, y, ct: _solve_pullback(p[0], y, ct),
        _hilbert,
        dtype="float64",
        slack=1e8,
        note="condition number 5e5",
    ),
    Op(
        "inverse",
        lambda a: inv(a),
        lambda p, t: -inv(p[0]) @ t[0] @ inv(p[0]),
        lambda p, y, ct: (-y.T @ ct @ y.T,),
        _well(3),
        slack=10.0,
    ),
    Op(
        "logdet",
        lambda a: jnp.linalg.slogdet(a)[1],
        lambda p, t: jnp.trace(inv(p[0]) @ t[0]),
        lambda p, y, ct: (ct * inv(p[0]).T,),
        _well(3),
        slack=10.0,
    ),
]


def ops() -> list[Op]:
    spread = [
        BROADCASTING[0].but(name="scale_float16", dtype="float16", draw=between(0.5, 2, (3,), ())),
        PRODUCTS[0].but(name="matmul_custom_jvp", form="custom_jvp"),
        PRODUCTS[1].but(name="matvec_custom_vjp", form="custom_vjp"),
        SOLVES[0].but(name="solve_float64", dtype="float64"),
        REDUCTIONS[0].but(name="sum_squares_million", draw=normal((1_000_000,)), slack=10.0, note="10^6 elements"),
    ]
    return [*BROADCASTING, *PRODUCTS, *REDUCTIONS, *SOLVES, *spread]
