"""Fault makers: functions that turn a right operation into a wrong one, in one place.

A maker of this file changes a rule: what goes into it, or what comes out. `contexts.py` has the faults that only some
contexts show.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.checker.operation import Op

Change = Callable[[Any], Any]


@dataclass(frozen=True)
class Fault:
    """A wrong operation, and how it is wrong.

    Attributes:
        kind: The fault maker.
        mode: Where the fault is: "jvp", "vjp", "both", "impl", "batching", "types".
        right: The operation that was changed.
        op: The wrong one.
        why: What is wrong, in a line.
        context: Where it shows: a name in `witness.py`.
        size: Relative size of the error, where the maker takes one.
        axes: For faults under vmap: an ``in_axes`` that shows it.
    """

    kind: str
    mode: str
    right: Op
    op: Op
    why: str
    context: str
    size: float | None = None
    axes: Any = 0

    @property
    def name(self) -> str:
        """Stable: results of different runs are joined by it."""
        parts = [self.kind.replace(" ", "_"), self.mode, self.right.name]
        return "/".join(parts if self.size is None else [*parts, f"{self.size:g}"])


def after(mode: str, change: Change) -> Callable[[Op], Op]:
    """Change each array that comes out of a rule."""

    def make(op: Op) -> Op:
        def all_of(tree: Any) -> Any:
            return jax.tree.map(change, tree)

        jvp, vjp = op.jvp, op.vjp
        if mode == "jvp":
            return op.but(jvp=lambda p, t, **params: all_of(jvp(p, t, **params)))
        return op.but(vjp=lambda p, y, ct, **params: all_of(vjp(p, y, ct, **params)))

    return make


def before(mode: str, change: Callable[[Any, Any], Any]) -> Callable[[Op], Op]:
    """Give the rule other primals: ``change(primals, results)``; the results are `None` in forward mode."""

    def make(op: Op) -> Op:
        jvp, vjp = op.jvp, op.vjp
        if mode == "jvp":
            return op.but(jvp=lambda p, t, **params: jvp(change(p, None), t, **params))
        return op.but(vjp=lambda p, y, ct, **params: vjp(change(p, y), change((y,), y)[0], ct, **params))

    return make


def both(maker: Callable[[str], Callable[[Op], Op]]) -> Callable[[Op], Op]:
    """The same mistake in both rules: they agree with one another."""
    return lambda op: maker("jvp")(maker("vjp")(op))


# ------------------------------------------------------------------------------------------ what may happen to an array
def negated(x: Any) -> Any:
    return -x


def scaled(size: float) -> Change:
    return lambda x: x * (1 + size)


def shifted(size: float) -> Change:
    """An affine rule: a constant is added."""
    return lambda x: x + size


def last_element(size: float) -> Change:
    """Only the last element is wrong."""

    def change(x: Any) -> Any:
        x = jnp.asarray(x)
        return x.ravel().at[-1].multiply(1 + size).reshape(x.shape)

    return change


def narrow(dtype: str) -> Change:
    """Computed in a narrower dtype, and cast back."""

    def change(x: Any) -> Any:
        x = jnp.asarray(x)
        return x.astype(dtype).astype(x.dtype)

    return change


def where_positive(size: float) -> Change:
    return lambda x: jnp.where(jnp.real(x) > 0, x * (1 + size), x)


def clipped(x: Any) -> Any:
    return jnp.clip(x, -0.5, 0.5)


def transposed(x: Any) -> Any:
    return jnp.asarray(x).swapaxes(-1, -2)


def rolled(x: Any) -> Any:
    return jnp.roll(x, 1)


def without_imaginary_part(x: Any) -> Any:
    return jnp.real(x).astype(jnp.asarray(x).dtype)


def second_order(factor: float) -> Callable[[Any, Any], Any]:
    """The same values, whose derivative is `factor` times as large. 0 is `stop_gradient`."""

    def soften(x: Any) -> Any:
        x = jnp.asarray(x)
        if not jnp.issubdtype(x.dtype, jnp.inexact):
            return x
        return factor * x + (1 - factor) * jax.lax.stop_gradient(x)

    return lambda p, y: jax.tree.map(soften, p)


def swapped(p: Any, y: Any) -> Any:
    return (p[1], p[0], *p[2:]) if len(p) > 1 else p


def conjugated(p: Any, y: Any) -> Any:
    return jax.tree.map(jnp.conj, p)


def first_transposed(p: Any, y: Any) -> Any:
    return (jnp.asarray(p[0]).swapaxes(-1, -2), *p[1:]) if jnp.ndim(p[0]) > 1 else p


def result_for_operand(p: Any, y: Any) -> Any:
    """The wrong residual: the result is kept instead of the operand."""
    return (y, *p[1:])


def perturbed(size: float) -> Callable[[Any, Any], Any]:
    """A stale primal: the rule sees what the operand was some steps ago."""
    return lambda p, y: jax.tree.map(lambda x: x * (1 + size) if jnp.issubdtype(x.dtype, jnp.inexact) else x, p)


# ------------------------------------------------------------------------------------------ faults of one operand's term
def missing_term(k: int) -> Callable[[Op], Op]:
    """The JVP rule forgets the term of operand `k`."""
    return term(k, 0.0)


def term(k: int, factor: float) -> Callable[[Op], Op]:
    """The JVP rule multiplies the term of operand `k`."""

    def make(op: Op) -> Op:
        def jvp(p: Any, t: Any, **params: Any) -> Any:
            t = tuple(jax.tree.map(lambda x: x * factor, x) if i == k else x for i, x in enumerate(t))
            return op.jvp(p, t, **params)

        return op.but(jvp=jvp)

    return make


def cotangent(k: int, change: Change) -> Callable[[Op], Op]:
    """Change the cotangent of operand `k`."""

    def make(op: Op) -> Op:
        def vjp(p: Any, y: Any, ct: Any, **params: Any) -> Any:
            cts = op.vjp(p, y, ct, **params)
            return tuple(jax.tree.map(change, x) if i == k else x for i, x in enumerate(cts))

        return op.but(vjp=vjp)

    return make


def swapped_cotangents(op: Op) -> Op:
    return op.but(vjp=lambda p, y, ct: op.vjp(p, y, ct)[::-1])


def wrong_value(mode: str, size: float) -> Callable[[Op], Op]:
    """The rule returns another primal output than the operation."""

    def value(op: Any, primals: Any) -> Any:
        return jax.tree.map(lambda y: y * (1 + size), op(*primals))

    return lambda op: op.but(**{f"{mode}_value": value})


def conjugated_cotangent(op: Op) -> Op:
    """The conjugation of another convention: the pullback is not linear any more."""
    return op.but(vjp=lambda p, y, ct: op.vjp(p, y, jnp.conj(ct)))


def rule(mode: str, new: Callable[..., Any]) -> Callable[[Op], Op]:
    """Another rule altogether, written out."""
    return lambda op: op.but(**{mode: new})
