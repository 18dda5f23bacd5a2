"""What an operation of the corpus is: a function, its two rules, and operands; and how JAX gets it.

A fault is made by replacing one field of an `Op`, so that a wrong operation differs from a right one in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim import Primitive

Rule = Callable[..., Any]


def nothing(op: Primitive) -> None:
    """No further definition."""


@dataclass(frozen=True)
class Op:
    """An operation with rules that are written by hand.

    Attributes:
        name: Of the operation.
        fn: The function itself, on JAX arrays; on NumPy arrays where `form` is "host".
        jvp: ``jvp(primals, tangents) -> tangents of the results``.
        vjp: ``vjp(primals, results, cotangents) -> cotangents of the operands``, as a tuple.
        draw: ``draw(generator) -> operands``, in float64 and complex128; they are then cast to the dtype of an entry.
        form: What holds the rules: "primitive", "host" (a primitive whose implementation is a host function),
            "custom_jvp", "custom_vjp", or "short", a short definition of jaxprim that `more` makes.
        dtype: Of the real operands, in the entry for which nothing else is said.
        note: What makes it worth having.
        truth: The function on NumPy or JAX arrays, where `fn` is not what the operation should compute.
        jvp_value: ``(op, primals) -> results`` that the JVP rule returns. Likewise `vjp_value`.
        more: Further definitions on the primitive: a batch rule, a kernel, an abstract eval.
        slack: How many times larger than usual rounding errors are: the conditioning.
        differentiable: False where the derivative is not that of the function on purpose (a surrogate) or does not exist
            at the operands (a kink).
        surrogate: Why the pullback is not the derivative.
        params: Static parameters of every call; the rules get them too.
        elementwise: Its row in `elementwise.TABLE`, for tools that need the operation in another library.
    """

    name: str
    fn: Rule
    jvp: Rule | None
    vjp: Rule | None
    draw: Callable[[np.random.Generator], tuple[Any, ...]]
    form: str = "primitive"
    dtype: str = "float32"
    note: str = ""
    truth: Rule | None = None
    jvp_value: Rule = lambda op, primals: op(*primals)
    vjp_value: Rule = lambda op, primals: op(*primals)
    more: Callable[[Primitive], object] = nothing
    slack: float = 1.0
    differentiable: bool = True
    surrogate: str | None = None
    elementwise: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def but(self, **changes: Any) -> Op:
        return replace(self, **changes)

    @property
    def reference(self) -> Rule:
        return self.truth or self.fn

    def operands(self, dtype: str, seed: int) -> tuple[Any, ...]:
        """The seeded operands. Integers and booleans keep their own type."""
        drawn = self.draw(np.random.default_rng(seed))
        return jax.tree.map(lambda x: jnp.asarray(cast(np.asarray(x), dtype)), drawn)

    def assemble(self) -> Any:
        """What a user would hold: a `Primitive`, a `custom_jvp` or a `custom_vjp`."""
        return FORMS[self.form](self)


COMPLEX = {"float64": "complex128"}


def cast(x: np.ndarray[Any, Any], dtype: str) -> Any:
    """An array in the given real dtype, or in its complex companion."""
    if np.issubdtype(x.dtype, np.complexfloating):
        return x.astype(COMPLEX.get(dtype, "complex64"))
    return x.astype(jnp.dtype(dtype)) if np.issubdtype(x.dtype, np.floating) else x


def _primitive(op: Op) -> Primitive:
    made = Primitive(op.name)
    if op.form == "host":
        made.def_host(op.fn)
        made.def_abstract_eval(lambda *avals: jax.eval_shape(op.reference, *avals))
    else:
        made.def_impl(op.fn)
    if op.jvp is not None:
        made.def_jvp(lambda primals, tangents, **params: _pushforward(op, made, primals, tangents, **params))
    if op.vjp is not None:
        made.def_vjp(lambda primals, **params: _forward(op, made, primals, **params), surrogate=op.surrogate)
    op.more(made)
    return made


def _pushforward(
    op: Op, made: Any, primals: tuple[Any, ...], tangents: tuple[Any, ...], **params: Any
) -> tuple[Any, Any]:
    return op.jvp_value(partial(made, **params), primals), op.jvp(primals, tangents, **params)


def _forward(op: Op, made: Any, primals: tuple[Any, ...], **params: Any) -> tuple[Any, Any, Rule]:
    y = op.vjp_value(partial(made, **params), primals)
    return y, (primals, y), lambda residuals, y_bar: op.vjp(*residuals, y_bar, **params)


def _custom_jvp(op: Op) -> Any:
    made = jax.custom_jvp(op.fn)
    made.defjvp(lambda primals, tangents: _pushforward(op, made, primals, tangents))
    return made


def _custom_vjp(op: Op) -> Any:
    made = jax.custom_vjp(op.fn)
    made.defvjp(lambda *primals: _forward(op, made, primals)[:2], lambda residuals, y_bar: op.vjp(*residuals, y_bar))
    return made


def _short(op: Op) -> Primitive:
    """The rules are in `more`: `def_partials`, `def_transpose`."""
    made = Primitive(op.name)
    made.def_impl(op.fn)
    op.more(made)
    return made


FORMS: dict[str, Callable[[Op], Any]] = {
    "primitive": _primitive,
    "host": _primitive,
    "custom_jvp": _custom_jvp,
    "custom_vjp": _custom_vjp,
    "short": _short,
}


# ------------------------------------------------------------------------------------------------------------- operands
def normal(*shapes: tuple[int, ...]) -> Callable[[np.random.Generator], tuple[Any, ...]]:
    """One standard normal array for each shape, moved away from zero by 0.1."""

    def draw(rng: np.random.Generator) -> tuple[Any, ...]:
        drawn = (rng.normal(size=shape) for shape in shapes)
        return tuple(x + np.copysign(0.1, x) for x in drawn)

    return draw


def complex_normal(*shapes: tuple[int, ...]) -> Callable[[np.random.Generator], tuple[Any, ...]]:
    def draw(rng: np.random.Generator) -> tuple[Any, ...]:
        return tuple(rng.normal(size=shape) + 1j * rng.normal(size=shape) for shape in shapes)

    return draw


def between(low: float, high: float, *shapes: tuple[int, ...]) -> Callable[[np.random.Generator], tuple[Any, ...]]:
    """Uniform between two numbers."""

    def draw(rng: np.random.Generator) -> tuple[Any, ...]:
        return tuple(rng.uniform(low, high, size=shape) for shape in shapes)

    return draw


def with_zero(
    draw: Callable[[np.random.Generator], tuple[Any, ...]],
) -> Callable[[np.random.Generator], tuple[Any, ...]]:
    """The same operands, the first element of the first replaced by zero."""

    def drawn(rng: np.random.Generator) -> tuple[Any, ...]:
        first, *others = draw(rng)
        first = np.array(first)
        first.flat[0] = 0
        return (first, *others)

    return drawn
