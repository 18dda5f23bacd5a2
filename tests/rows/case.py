"""What every row uses: one op at its operands, some of them perturbed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Fn = Callable[..., Any]


@dataclass(frozen=True)
class Case:
    """An op as a function, its operands, and which of them are differentiated.

    Attributes:
        f: the op (or its reference).
        args: its operands, pytrees of arrays.
        argnums: the perturbed ones.
    """

    f: Fn
    args: tuple[Any, ...]
    argnums: tuple[int, ...]

    @property
    def xs(self) -> tuple[Any, ...]:
        """The perturbed operands."""
        return tuple(self.args[i] for i in self.argnums)

    def g(self, *xs: Any) -> Any:
        """The op as a function of the perturbed operands; it closes over the others."""
        return self.f(*self.whole(xs))

    def whole(self, xs: tuple[Any, ...]) -> tuple[Any, ...]:
        given = dict(zip(self.argnums, xs, strict=True))
        return tuple(given.get(i, arg) for i, arg in enumerate(self.args))

    def loss(self, *xs: Any) -> Any:
        """A real number that depends on the op's value, not linearly."""
        return loss(self.g(*xs))

    def grad(self, fn: Fn | None = None) -> Fn:
        """Gradients of a loss with respect to all perturbed operands."""
        return jax.grad(fn or self.loss, argnums=tuple(range(len(self.argnums))))

    def with_f(self, f: Fn) -> Case:
        return Case(f, self.args, self.argnums)


def is_float(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.inexact)


def weights(x: Any, seed: float = 0.0) -> Any:
    """A fixed array like ``x``, all of its elements different. float0 for a type without tangents."""
    if not is_float(x):
        return np.zeros(x.shape, jax.dtypes.float0)
    values = np.cos(np.arange(x.size, dtype=float).reshape(x.shape) + seed)
    return jnp.asarray(values + 0.5j * values**2 if jnp.iscomplexobj(x) else values, x.dtype)


def tangents(xs: Any, seed: float = 0.0) -> Any:
    return jax.tree.map(lambda x: weights(x, seed), xs)


def transposed(linear: Callable[..., Any], xs: Any, out: Any, seed: float = 0.0) -> Any:
    """``linear_transpose`` of the results that have tangents; JAX 0.10 refuses the others."""

    def some(*ts: Any) -> list[Any]:
        return [leaf for leaf in jax.tree.leaves(linear(*ts)) if leaf.dtype != jax.dtypes.float0]

    cts = [ct for ct in jax.tree.leaves(tangents(out, seed)) if ct.dtype != jax.dtypes.float0]
    return jax.linear_transpose(some, *xs)(cts)


def loss(out: Any) -> Any:
    """Real, and not linear in the result."""
    total = jnp.zeros((), "float32")
    for leaf in filter(is_float, jax.tree.leaves(out)):
        part = jnp.sum((weights(leaf) * leaf + leaf * jnp.conj(leaf)).real)
        total = total.astype(part.dtype) + part
    return total


def floats(out: Any) -> list[Any]:
    """The results that have tangents, as real arrays."""
    leaves = [leaf for leaf in jax.tree.leaves(out) if is_float(leaf)]
    return [part for x in leaves for part in ((x.real, x.imag) if jnp.iscomplexobj(x) else (x,))]


def realified(case: Case) -> Case:
    """The case as a function of real arrays: a complex operand becomes the tuple of its parts."""
    parts = tuple(jax.tree.map(lambda x: (x.real, x.imag) if jnp.iscomplexobj(x) else x, arg) for arg in case.args)
    trees = [jax.tree.structure(arg) for arg in case.args]

    def join(tree: Any, part: Any) -> Any:
        return tree.unflatten([jax.lax.complex(*p) if isinstance(p, tuple) else p for p in tree.flatten_up_to(part)])

    return Case(lambda *args: floats(case.f(*map(join, trees, args))), parts, case.argnums)


# ------------------------------------------------------------------------------------------------------------ batches
def varied(args: Any, count: int) -> list[Any]:
    """Several different values of the operands."""

    def scaled(factor: float) -> Any:
        return jax.tree.map(lambda x: (x * factor).astype(x.dtype) if is_float(x) else x, args)

    return [scaled(1 + 0.1 * i) for i in range(count)]


def batch(args: Any, count: int = 2, axis: int = 0) -> Any:
    """The operands with a batch axis."""
    return jax.tree.map(lambda *xs: jnp.stack(xs, axis), *varied(args, count))
