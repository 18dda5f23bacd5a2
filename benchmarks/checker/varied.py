"""Right operations of other kinds: kinks, integers, pytrees, several results, loops, hosts, short definitions, surrogates."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.checker.operation import Op, between, normal
from jaxprim import Primitive

Rng = np.random.Generator


def _apart(rng: Rng) -> tuple[Any, ...]:
    """Elements that differ by at least 0.3, in a random order."""
    return (rng.permutation(np.arange(6)) * 0.7 - 1.5 + rng.uniform(-0.2, 0.2, size=6),)


def _huber_slope(x: Any) -> Any:
    return jnp.clip(x, -1, 1)


KINKED = [
    Op(
        "relu",
        lambda x: jnp.maximum(x, 0),
        lambda p, t: jnp.where(p[0] > 0, t[0] + jnp.zeros_like(p[0]), 0),
        lambda p, y, ct: (jnp.where(y > 0, ct, 0),),
        normal((6,)),
        note="kinked at 0, operands elsewhere",
    ),
    Op(
        "relu_at_kink",
        lambda x: jnp.maximum(x, 0),
        lambda p, t: jnp.where(p[0] > 0, t[0] + jnp.zeros_like(p[0]), 0),
        lambda p, y, ct: (jnp.where(y > 0, ct, 0),),
        lambda rng: (np.where(np.arange(6) % 2, rng.normal(size=6), 0.0),),
        differentiable=False,
        note="operands at the kink",
    ),
    Op(
        "absolute",
        lambda x: jnp.abs(x),
        lambda p, t: jnp.sign(p[0]) * t[0],
        lambda p, y, ct: (jnp.sign(p[0]) * ct,),
        normal((5,)),
    ),
    Op(
        "huber",
        lambda x: jnp.where(jnp.abs(x) < 1, 0.5 * x * x, jnp.abs(x) - 0.5),
        lambda p, t: _huber_slope(p[0]) * t[0],
        lambda p, y, ct: (_huber_slope(p[0]) * ct,),
        lambda rng: (np.array([-2.5, -0.5, 0.4, 1.8]) + rng.uniform(-0.3, 0.3, size=4),),
        note="the second derivative jumps",
    ),
    Op(
        "maximum",
        lambda x: jnp.max(x),
        lambda p, t: (t[0] + jnp.zeros_like(p[0]))[jnp.argmax(p[0])],
        lambda p, y, ct: (jnp.zeros_like(p[0]).at[jnp.argmax(p[0])].set(ct),),
        _apart,
    ),
    Op(
        "sort",
        lambda x: jnp.sort(x),
        lambda p, t: (t[0] + jnp.zeros_like(p[0]))[jnp.argsort(p[0])],
        lambda p, y, ct: (jnp.zeros_like(p[0]).at[jnp.argsort(p[0])].set(ct),),
        _apart,
    ),
]


def _segments(rng: Rng) -> tuple[Any, ...]:
    return rng.normal(size=6), np.array([0, 1, 1, 2, 0, 1], np.int32)


def _power_draw(rng: Rng) -> tuple[Any, ...]:
    return rng.uniform(0.5, 1.5, size=4), np.array([1, 2, 3, 2], np.int32)


def _power(x: Any, n: Any) -> Any:
    return x ** n.astype(x.dtype)


def _power_slope(x: Any, n: Any) -> Any:
    n = n.astype(x.dtype)
    return n * x ** (n - 1)


INTEGERS = [
    Op(
        "take",
        lambda x, i: x[i],
        lambda p, t: (t[0] + jnp.zeros_like(p[0]))[p[1]],
        lambda p, y, ct: (jnp.zeros_like(p[0]).at[p[1]].add(ct), None),
        lambda rng: (rng.normal(size=5), np.array([4, 0, 0, 2], np.int32)),
        note="an integer operand; an index occurs twice",
    ),
    Op(
        "segment_sum",
        lambda x, i: jnp.zeros(3, x.dtype).at[i].add(x),
        lambda p, t: jnp.zeros(3, p[0].dtype).at[p[1]].add(t[0] + jnp.zeros_like(p[0])),
        lambda p, y, ct: (ct[p[1]], None),
        _segments,
        note="an integer operand, linear",
    ),
    Op(
        "power",
        _power,
        lambda p, t: _power_slope(*p) * t[0],
        lambda p, y, ct: (_power_slope(*p) * ct, None),
        _power_draw,
    ),
    Op(
        "select",
        lambda mask, a, b: jnp.where(mask, a, b),
        lambda p, t: jnp.where(p[0], t[1] + jnp.zeros_like(p[1]), t[2] + jnp.zeros_like(p[2])),
        lambda p, y, ct: (None, jnp.where(p[0], ct, 0), jnp.where(p[0], 0, ct)),
        lambda rng: (np.array([True, False, True]), *normal((3,), (3,))(rng)),
        note="a boolean operand",
    ),
]

TREES = [
    Op(
        "affine_map",
        lambda params, x: params["w"] @ x + params["b"],
        lambda p, t: t[0]["w"] @ p[1] + t[0]["b"] + p[0]["w"] @ t[1],
        lambda p, y, ct: ({"w": ct[:, None] * p[1][None, :], "b": ct}, ct @ p[0]["w"]),
        lambda rng: ({"w": rng.normal(size=(3, 3)), "b": rng.normal(size=3)}, rng.normal(size=3)),
        note="a dict of operands",
    ),
    Op(
        "sin_cos",
        lambda x: (jnp.sin(x), jnp.cos(x)),
        lambda p, t: (jnp.cos(p[0]) * t[0], -jnp.sin(p[0]) * t[0]),
        lambda p, y, ct: (y[1] * ct[0] - y[0] * ct[1],),
        normal((4,)),
        note="two results, which are the residuals",
    ),
    Op(
        "ratio_and_product",
        lambda x, y: {"ratio": x / y, "product": x * y},
        lambda p, t: {"ratio": (t[0] - p[0] / p[1] * t[1]) / p[1], "product": t[0] * p[1] + p[0] * t[1]},
        lambda p, y, ct: (
            ct["ratio"] / p[1] + ct["product"] * p[1],
            ct["product"] * p[0] - ct["ratio"] * p[0] / p[1] ** 2,
        ),
        between(0.5, 2, (3,), (3,)),
        note="a dict of results",
    ),
    Op(
        "swap",
        lambda x, y: (y * y, x * 1),
        lambda p, t: (2 * p[1] * t[1], t[0] * 1),
        lambda p, y, ct: (ct[1] * 1, 2 * p[1] * ct[0]),
        normal((3,), (3,)),
        note="each result depends on one operand",
    ),
]


def recurrence(a: Any, x: Any) -> Any:
    """``h <- a h + x_k`` from ``h = 0``; all states."""

    def step(h: Any, x_k: Any) -> tuple[Any, Any]:
        h = a * h + x_k
        return h, h

    return jax.lax.scan(step, jnp.zeros_like(a), x)[1]


def _recurrence_jvp(p: Any, t: Any) -> Any:
    """``h' <- a h' + (a' h + x'_k)``: the same recurrence with another input."""
    h = recurrence(*p)
    before = jnp.concatenate([jnp.zeros(1, h.dtype), h[:-1]])
    return recurrence(p[0], t[0] * before + t[1] + jnp.zeros_like(h))


def _recurrence_vjp(p: Any, y: Any, ct: Any) -> Any:
    adjoint = recurrence(p[0], ct[::-1])[::-1]
    before = jnp.concatenate([jnp.zeros(1, y.dtype), y[:-1]])
    return jnp.sum(adjoint * before), adjoint


def _horner(c: Any, x: Any) -> Any:
    total = jnp.zeros_like(x)
    for k in range(c.shape[0]):
        total = total * x + c[k]
    return total


def _horner_slope(c: Any, x: Any) -> Any:
    n = c.shape[0]
    return _horner(c[:-1] * jnp.arange(n - 1, 0, -1).astype(c.dtype), x)


def _powers(c: Any, x: Any) -> Any:
    return jnp.stack([x**k for k in range(c.shape[0] - 1, -1, -1)])


LOOPS = [
    Op("recurrence", recurrence, _recurrence_jvp, _recurrence_vjp, between(0.2, 0.9, (), (5,)), note="a scan"),
    Op(
        "polynomial",
        _horner,
        lambda p, t: jnp.sum(t[0] * _powers(*p)) + _horner_slope(*p) * t[1],
        lambda p, y, ct: (_powers(*p) * ct, _horner_slope(*p) * ct),
        normal((4,), ()),
        note="an unrolled loop",
    ),
]

HOST = [
    Op(
        "host_sin",
        lambda x: np.sin(x),
        lambda p, t: jnp.cos(p[0]) * t[0],
        lambda p, y, ct: (jnp.cos(p[0]) * ct,),
        normal((4,)),
        form="host",
        truth=jnp.sin,
        note="NumPy computes it",
    ),
    Op(
        "host_cumsum_float64",
        lambda x: np.cumsum(x),
        lambda p, t: jnp.cumsum(t[0] + jnp.zeros_like(p[0])),
        lambda p, y, ct: (jnp.cumsum(ct[::-1])[::-1],),
        normal((4,)),
        form="host",
        dtype="float64",
        truth=jnp.cumsum,
        note="NumPy computes it",
    ),
]


def _own_transpose(made: Primitive) -> None:
    def rule(y_bar: Any) -> Any:
        return jnp.cumsum(y_bar[::-1])[::-1]

    made.def_transpose(rule, linear=("x",))


SHORT = [
    Op(
        "hypot_by_partials",
        lambda x, y: jnp.sqrt(x * x + y * y),
        None,
        None,
        normal((3,), (3,)),
        form="short",
        more=lambda made: made.def_partials(lambda r, x, y: (x / r, y / r)),
        note="def_partials",
    ),
    Op(
        "whole_power",
        lambda x, *, n=2: x**n,
        lambda p, t, *, n=2: n * p[0] ** (n - 1) * t[0],
        lambda p, y, ct, *, n=2: (n * p[0] ** (n - 1) * ct,),
        between(0.5, 1.5, (4,)),
        params={"n": 3},
        note="a static parameter",
    ),
    Op(
        "cumsum_by_transpose",
        lambda x: jnp.cumsum(x),
        None,
        None,
        normal((4,)),
        "short",
        more=_own_transpose,
        note="def_transpose",
    ),
]

SURROGATES = [
    Op(
        "round_straight_through",
        lambda x: jnp.round(x),
        None,
        lambda p, y, ct: (ct,),
        normal((4,)),
        surrogate="straight through",
        differentiable=False,
        note="declared as a surrogate",
    ),
    Op(
        "sign_straight_through",
        lambda x: jnp.sign(x),
        None,
        lambda p, y, ct: (jnp.where(jnp.abs(p[0]) < 1, ct, 0),),
        normal((4,)),
        surrogate="straight through inside [-1, 1]",
        differentiable=False,
        note="declared as a surrogate",
    ),
    Op(
        "clipped_gradient",
        lambda x: x * 1,
        None,
        lambda p, y, ct: (jnp.clip(ct, -1, 1),),
        normal((4,)),
        surrogate="gradients are clipped to [-1, 1]",
        differentiable=False,
        note="a surrogate that is not linear",
    ),
]


def ops() -> list[Op]:
    return [*KINKED, *INTEGERS, *TREES, *LOOPS, *HOST, *SHORT, *SURROGATES]
