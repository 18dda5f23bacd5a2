"""Faults of implementations that are not pure: they write their input, remember, count, or draw random numbers."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.checker.makers import Fault
from benchmarks.checker.operation import Op
from jaxprim import Primitive

Ops = dict[str, Op]


def _writes_input(x: Any) -> Any:
    """As a C library does that works in place: through the pointer, whatever flags the array has."""
    y = np.sin(x)
    if x.size:
        ctypes.memset(x.ctypes.data, 0, x.itemsize)
    return y


def _counting() -> Callable[[Any], Any]:
    calls = itertools.count()
    return lambda x: (np.sin(x) * (1 + 0.01 * (next(calls) % 2))).astype(x.dtype)


def _random() -> Callable[[Any], Any]:
    rng = np.random.default_rng(0)
    return lambda x: (np.sin(x) * (1 + 1e-2 * rng.normal(size=x.shape))).astype(x.dtype)


def _accumulating() -> Callable[[Any], Any]:
    """A buffer that is not cleared."""
    kept: dict[tuple[int, ...], Any] = {}

    def fn(x: Any) -> Any:
        kept[x.shape] = 0.5 * kept.get(x.shape, 0) + np.sin(x)
        return np.array(kept[x.shape], x.dtype)

    return fn


def _cached_by_shape() -> Callable[[Any], Any]:
    """A factorisation, a plan, a table: made at the first call, for each shape."""
    kept: dict[Any, Any] = {}

    def fn(x: Any) -> Any:
        slope = kept.setdefault((x.shape, x.dtype), np.sin(x))
        return np.array(slope)

    return fn


def _every(period: int) -> Callable[[Any], Any]:
    """Wrong at each n-th call: a race that is rarely lost."""
    calls = itertools.count(1)
    return lambda x: (np.sin(x) * (1.5 if next(calls) % period == 0 else 1)).astype(x.dtype)


def _remembered_residual(op: Op) -> Op:
    """The forward half leaves its operand in a place where the backward half looks: right until it is bound twice."""
    place: dict[Any, Any] = {}

    def forward(x: Any) -> Any:
        place[x.shape] = np.array(x)
        return np.sin(x)

    backward = Primitive("remembered_cosine")
    backward.def_host(lambda ct: (np.cos(place[ct.shape]) * ct).astype(ct.dtype))
    backward.def_abstract_eval(lambda ct: ct)
    return op.but(fn=forward, vjp=lambda p, y, ct: (backward(ct),))


def _counts_traces(op: Op) -> Op:
    calls = itertools.count()
    return op.but(fn=lambda x: op.fn(x) * (1 + 0.01 * next(calls)))


def _cached_value(op: Op) -> Op:
    """A rule that keeps the coefficient of its first concrete call."""
    kept: dict[Any, Any] = {}

    def vjp(p: Any, y: Any, ct: Any) -> Any:
        if isinstance(p[0], jax.core.Tracer):
            return op.vjp(p, y, ct)
        slope = kept.setdefault(p[0].shape, op.vjp(p, y, jnp.ones_like(ct))[0])
        return (slope * ct,)

    return op.but(vjp=vjp)


def all_of(ops: Ops) -> list[Fault]:
    sin, tanh = ops["host_sin"], ops["tanh_custom_jvp"]
    hosts: list[tuple[str, str, Callable[[], Any], str]] = [
        ("writes its input", "the first element becomes 0", lambda: _writes_input, "input"),
        ("counts calls", "each second call gives 1 % more", _counting, "repeated"),
        ("random", "1 % of noise", _random, "repeated"),
        ("accumulates", "a buffer that is not cleared", _accumulating, "repeated"),
        ("cached by shape", "the first operands' result for all of that shape", _cached_by_shape, "others first"),
        ("every third call", "wrong at each third call", lambda: _every(3), "repeated"),
        ("every seventh call", "wrong at each seventh call", lambda: _every(7), "repeated"),
    ]
    made = [Fault(kind, "impl", sin, sin.but(fn=make()), why, context) for kind, why, make, context in hosts]
    made.append(Fault("remembered residual", "vjp", sin, _remembered_residual(sin), "seen when bound twice", "twice"))
    made.append(Fault("counts traces", "impl", tanh, _counts_traces(tanh), "1 % more at each trace", "repeated"))
    log = ops["log"]
    made.append(
        Fault(
            "cached slope", "vjp", log, _cached_value(log), "the first slope for all of that shape", "others first vjp"
        )
    )
    return made
