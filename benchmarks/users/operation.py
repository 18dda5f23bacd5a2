"""What an operation of this corpus is: an implementation, rules, and examples, as an author gives them to a `Primitive`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim import Example, Primitive

Rule = Callable[..., Any]
Rules = Mapping[str, Rule]


@dataclass(frozen=True)
class Op:
    """One operation, and the examples that its author gives. `x64` is for operands in float64."""

    name: str
    impl: Rule
    examples: Callable[[], Sequence[Any]]
    jvp: Rules = field(default_factory=dict[str, Rule])
    vjp: Rules = field(default_factory=dict[str, Rule])
    partials: Rule | None = None
    transpose: tuple[Rule, tuple[str, ...]] | None = None
    batching: Rule | None = None
    host: bool = False
    abstract_eval: Rule | None = None
    domain: Rule | None = None
    accuracy: float | None = None
    x64: bool = False

    def primitive(self) -> Primitive:
        p = Primitive(self.name)
        (p.def_host if self.host else p.def_impl)(self.impl)
        if self.jvp:
            p.def_jvp(**self.jvp)
        if self.vjp:
            p.def_vjp(**self.vjp)
        if self.transpose:
            p.def_transpose(self.transpose[0], linear=self.transpose[1])
        accuracy = self.accuracy
        if accuracy is not None:
            p.def_accuracy(lambda *operands, **params: accuracy)
        for given, define in (
            (self.partials, p.def_partials),
            (self.batching, p.def_batching),
            (self.abstract_eval, p.def_abstract_eval),
            (self.domain, p.def_domain),
        ):
            if given:
                define(given)
        return p


def draws(*shapes: tuple[int, ...], dtype: Any = np.float32, low: float | None = None) -> list[Any]:
    """Operands with normal numbers; with `low`, uniform ones in low .. low + 2."""
    rng = np.random.default_rng(11)
    drawn = [rng.normal(size=s) if low is None else rng.uniform(low, low + 2, size=s) for s in shapes]
    return [jnp.asarray(x, dtype) for x in drawn]


def conditioned(n: int, condition: float) -> jax.Array:
    """A matrix with singular values from 1 down to 1 / condition."""
    rng = np.random.default_rng(3)
    u, v = (np.linalg.qr(rng.normal(size=(n, n)))[0] for _ in range(2))
    return jnp.asarray(u * np.logspace(0, -np.log10(condition), n) @ v)


def positive(n: int, dtype: Any = np.float32) -> jax.Array:
    a = np.random.default_rng(5).normal(size=(n, n))
    return jnp.asarray(a @ a.T + n * np.eye(n), dtype)


def one(*operands: Any, **params: Any) -> Callable[[], Sequence[Any]]:
    """One example."""
    return lambda: [Example(operands, params)] if params else [operands]


f16, bf16, f64 = jnp.float16, jnp.bfloat16, np.float64
OPS: dict[str, Op] = {}  # the right ones
FAULTS: dict[str, Op] = {}


def op(name: str, impl: Rule, examples: Callable[[], Sequence[Any]], **more: Any) -> None:
    """A right operation."""
    OPS[name] = Op(name, impl, examples, **more)


def fault(of: str, rule: str, operand: str | None, wrong: Rule, why: str) -> None:
    """That operation with one rule replaced, or its rule for one operand."""
    right = OPS[of]
    if operand is not None:
        given: Any = {**getattr(right, rule), operand: wrong}
    elif rule == "transpose" and right.transpose is not None:
        given = wrong, right.transpose[1]
    else:
        given = wrong
    FAULTS[f"{of}: {rule}{f' of {operand}' if operand else ''}: {why}"] = replace(right, **{rule: given})


@cache
def made(name: str) -> Primitive:
    """The right operation of that name, for rules that use it."""
    return OPS[name].primitive()
