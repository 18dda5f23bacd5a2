"""Faults with a size: the same mistake from 1e-1 down to 1e-6, for power curves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from benchmarks.checker import makers as f
from benchmarks.checker.contexts import batch_rule
from benchmarks.checker.makers import Fault
from benchmarks.checker.operation import Op

SIZES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
DTYPES = ("float16", "bfloat16", "float32", "float64")


def _towards_conjugate(size: float) -> Callable[[Any], Any]:
    return lambda x: (1 - size) * x + size * jnp.conj(x)


def _bent(size: float) -> Callable[[Any], Any]:
    """A rule that is not linear: the larger the direction, the larger the error."""
    return lambda x: x * (1 + size * jnp.abs(x))


def _batch(size: float) -> Callable[[Op], Op]:
    return lambda op: batch_rule(op, lambda out, dims, count: (out * jnp.asarray(1 + size, out.dtype), 0))


# (kind, mode, operation, why, where it shows, maker of a size)
CURVES: list[tuple[str, str, str, str, str, Callable[[float], Callable[[Op], Op]]]] = [
    ("scale", "jvp", "sin", "too large by its size", "jvp", lambda s: f.after("jvp", f.scaled(s))),
    ("scale", "jvp", "matmul", "too large by its size", "jvp", lambda s: f.after("jvp", f.scaled(s))),
    ("scale", "vjp", "exp", "too large by its size", "vjp", lambda s: f.after("vjp", f.scaled(s))),
    ("scale", "vjp", "quadratic", "too large by its size", "vjp", lambda s: f.after("vjp", f.scaled(s))),
    ("scale", "both", "gaussian", "in both rules", "jvp", lambda s: f.both(lambda mode: f.after(mode, f.scaled(s)))),
    ("affine", "jvp", "sin", "a constant", "jvp", lambda s: f.after("jvp", f.shifted(s))),
    ("affine", "vjp", "exp", "a constant", "vjp", lambda s: f.after("vjp", f.shifted(s))),
    ("bent", "jvp", "sin", "not linear", "jvp", lambda s: f.after("jvp", _bent(s))),
    ("bent", "vjp", "matvec", "not linear", "vjp", lambda s: f.after("vjp", _bent(s))),
    ("last element", "jvp", "matvec", "one element", "jvp", lambda s: f.after("jvp", f.last_element(s))),
    ("last element", "vjp", "softmax", "one element", "vjp", lambda s: f.after("vjp", f.last_element(s))),
    ("one term", "jvp", "scale", "the factor's term", "jvp", lambda s: f.term(1, 1 + s)),
    ("one term", "vjp", "lerp", "the weight's cotangent", "vjp", lambda s: f.cotangent(2, f.scaled(s))),
    ("stale primal", "vjp", "cube", "reads x (1 + size)", "vjp", lambda s: f.before("vjp", f.perturbed(s))),
    ("primal output", "jvp", "sin", "the rule's result", "jvp value", lambda s: f.wrong_value("jvp", s)),
    ("primal output", "vjp", "exp", "the rule's result", "vjp value", lambda s: f.wrong_value("vjp", s)),
    ("second order", "jvp", "sin", "its derivative", "second jvp", lambda s: f.before("jvp", f.second_order(1 + s))),
    ("second order", "vjp", "log", "its derivative", "second vjp", lambda s: f.before("vjp", f.second_order(1 + s))),
    ("batch", "batching", "matvec", "when batched", "vmap value", _batch),
    ("towards conjugate", "jvp", "complex_product", "between", "jvp", lambda s: f.after("jvp", _towards_conjugate(s))),
    ("towards conjugate", "vjp", "complex_exp", "between", "vjp", lambda s: f.after("vjp", _towards_conjugate(s))),
]


def dtypes_of(kind: str) -> tuple[str, ...]:
    """Complex numbers have two."""
    return DTYPES[2:] if kind == "towards conjugate" else DTYPES


def sizes(dtype: str) -> tuple[float, ...]:
    """Those that the dtype can hold: below half its rounding, ``1 + size`` is 1, and a rule with that fault is right."""
    return tuple(size for size in SIZES if size > float(jnp.finfo(dtype).eps) / 2)


def rights(ops: dict[str, Op]) -> list[Op]:
    """The operations of the curves in every dtype of theirs: a share that is caught means nothing beside rejections."""
    pairs = dict.fromkeys((name, dtype) for kind, _, name, *_ in CURVES for dtype in dtypes_of(kind))
    return [ops[name].but(dtype=dtype, note=f"in {dtype}") for name, dtype in pairs if ops[name].dtype != dtype]


def all_of(ops: dict[str, Op]) -> list[Fault]:
    """Each curve at each size and dtype."""
    made: list[Fault] = []
    for kind, mode, name, why, context, maker in CURVES:
        for dtype in dtypes_of(kind):
            right = ops[name].but(dtype=dtype)
            made += [Fault(kind, mode, right, maker(s)(right), why, context, s) for s in sizes(dtype)]
    return made
