"""Right elementwise operations, as one table of functions and derivatives.

`xp` is a library with NumPy's names, so that the same row makes the operation in JAX, in autograd and in PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks.checker.operation import Op, between, normal, with_zero

Draw = Callable[[np.random.Generator], tuple[Any, ...]]
FIVE = (5,)

# name: (f(xp, x), f'(xp, x, y), operands, note)
TABLE: dict[str, tuple[Callable[..., Any], Callable[..., Any], Draw, str]] = {
    "sin": (lambda xp, x: xp.sin(x), lambda xp, x, y: xp.cos(x), with_zero(normal(FIVE)), "f(0) = 0"),
    "exp": (lambda xp, x: xp.exp(x), lambda xp, x, y: y, normal(FIVE), "the result is the residual"),
    "tanh": (lambda xp, x: xp.tanh(x), lambda xp, x, y: 1 / xp.cosh(x) ** 2, normal(FIVE), ""),
    "log": (lambda xp, x: xp.log(x), lambda xp, x, y: 1 / x, between(0.3, 4, FIVE), "a domain with an edge"),
    "sqrt": (lambda xp, x: xp.sqrt(x), lambda xp, x, y: 0.5 / y, between(0.2, 4, FIVE), ""),
    "log1p": (lambda xp, x: xp.log1p(x), lambda xp, x, y: 1 / (1 + x), with_zero(between(-0.5, 3, FIVE)), "f(0) = 0"),
    "expm1": (lambda xp, x: xp.expm1(x), lambda xp, x, y: xp.exp(x), with_zero(normal(FIVE)), "f(0) = 0"),
    "reciprocal": (lambda xp, x: 1 / x, lambda xp, x, y: -y * y, between(0.4, 3, FIVE), ""),
    "cube": (lambda xp, x: x * x * x, lambda xp, x, y: 3 * x * x, with_zero(normal(FIVE)), "f(0) = f'(0) = 0"),
    "sigmoid": (lambda xp, x: 1 / (1 + xp.exp(-x)), lambda xp, x, y: y * (1 - y), normal(FIVE), ""),
    "gaussian": (lambda xp, x: xp.exp(-x * x), lambda xp, x, y: -2 * x * y, with_zero(normal(FIVE)), "f'(0) = 0"),
    "x_exp": (lambda xp, x: x * xp.exp(-x), lambda xp, x, y: (1 - x) * xp.exp(-x), with_zero(normal(FIVE)), "f(0) = 0"),
    "arctan": (lambda xp, x: xp.arctan(x), lambda xp, x, y: 1 / (1 + x * x), normal(FIVE), ""),
    "sinh": (lambda xp, x: xp.sinh(x), lambda xp, x, y: xp.cosh(x), with_zero(normal(FIVE)), "f(0) = 0"),
    "x_sin": (lambda xp, x: x * xp.sin(x), lambda xp, x, y: xp.sin(x) + x * xp.cos(x), with_zero(normal(FIVE)), ""),
    "rational": (
        lambda xp, x: x / (1 + x * x),
        lambda xp, x, y: (1 - x * x) / (1 + x * x) ** 2,
        with_zero(normal(FIVE)),
        "",
    ),
    "steep": (
        lambda xp, x: xp.sin(50 * x),
        lambda xp, x, y: 50 * xp.cos(50 * x),
        between(-1, 1, FIVE),
        "a difference with a long step is wrong",
    ),
    "log_cosh": (
        lambda xp, x: x + xp.log1p(xp.exp(-2 * x)) - np.log(2.0),
        lambda xp, x, y: xp.tanh(x),
        between(0.5, 3, FIVE),
        "terms that cancel",
    ),
}


def row(name: str) -> Op:
    """The operation of one row."""
    f, df, draw, note = TABLE[name]
    slope = partial(df, jnp)
    return Op(
        name,
        partial(f, jnp),
        lambda p, t: slope(p[0], f(jnp, p[0])) * t[0],
        lambda p, y, ct: (slope(p[0], y) * ct,),
        draw,
        note=note,
        elementwise=name,
    )


def _scaled(name: str, scale: float, unit: float) -> Op:
    """``scale * (x / unit)^2``, at operands of size `unit`."""
    factor = scale / unit / unit if unit > 1e-10 else None

    def fn(x: Any) -> Any:
        return scale * (x / unit) ** 2 if factor is None else factor * x * x

    def slope(x: Any) -> Any:
        return 2 * scale / unit * (x / unit)

    def draw(rng: np.random.Generator) -> tuple[Any, ...]:
        return (unit * rng.uniform(0.5, 2, size=5),)

    jvp, vjp = (lambda p, t: slope(p[0]) * t[0]), (lambda p, y, ct: (slope(p[0]) * ct,))
    return Op(name, fn, jvp, vjp, draw, note="a scale far from one")


def ops() -> list[Op]:
    """Every elementwise operation, with those whose operands are what is special."""
    rows = [row(name) for name in TABLE]
    sin, log, sqrt = row("sin"), row("log"), row("sqrt")
    special = [
        sin.but(name="sin_million", draw=normal((1_000_000,)), note="10^6 elements"),
        sin.but(name="sin_float64", dtype="float64", note="float64"),
        row("tanh").but(name="tanh_bfloat16", dtype="bfloat16", note="bfloat16"),
        row("x_exp").but(name="x_exp_float64", dtype="float64", note="float64"),
        sin.but(name="sin_large", draw=between(900, 1100, FIVE), slack=1e3, note="an operand that is ill-conditioned"),
        log.but(
            name="log_near_one", draw=between(0.999, 1.001, FIVE), slack=1e3, note="a small result, ill-conditioned"
        ),
        sqrt.but(name="sqrt_tiny", draw=between(1e-10, 4e-10, FIVE), note="operands near 1e-10"),
        sin.but(name="sin_scalar", draw=normal(()), note="0-d"),
        sin.but(name="sin_empty", draw=normal((0,)), note="no element"),
        sin.but(name="sin_one", draw=normal((1,)), note="size 1"),
        sin.but(name="sin_rank4", draw=normal((1, 2, 1, 3)), note="rank 4, axes of size 1"),
        row("tanh").but(name="tanh_custom_jvp", form="custom_jvp", note="a custom_jvp"),
        row("exp").but(name="exp_custom_vjp", form="custom_vjp", note="a custom_vjp"),
        row("sigmoid").but(name="sigmoid_custom_jvp", form="custom_jvp", dtype="float64", note="a custom_jvp"),
        row("x_sin").but(name="x_sin_custom_vjp", form="custom_vjp", note="a custom_vjp"),
        _scaled("huge_result", 1e30, 1.0),
        _scaled("tiny_result", 1e-30, 1.0),
        _scaled("huge_operand", 1.0, 1e15),
        _scaled("tiny_operand", 1.0, 1e-15),
    ]
    return rows + special
