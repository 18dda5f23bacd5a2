"""Rows: vmap, and derivatives of it and under it."""

from __future__ import annotations

from itertools import product
from typing import Any

import jax
import jax.numpy as jnp

from rows.case import Case, batch, loss, tangents, transposed, varied


def in_axes(args: tuple[Any, ...]) -> list[tuple[int | None, ...]]:
    """Every pattern of batched operands, along their first and their last axis."""
    patterns = [p for p in product((None, 0, -1), repeat=len(args)) if any(axis is not None for axis in p)]
    # Beyond two operands: every subset once, the axes in turn.
    return patterns if len(args) < 3 else [p for i, p in enumerate(patterns) if i % 3 != 1]


def _operands(args: Any, pattern: Any) -> tuple[Any, ...]:
    return tuple(arg if axis is None else batch(arg, axis=axis) for arg, axis in zip(args, pattern, strict=True))


def vmap_patterns(case: Case) -> Any:
    out = []
    for i, pattern in enumerate(in_axes(case.args)):
        out_axis = -1 if i % 2 else 0
        batched = jax.vmap(case.f, in_axes=pattern, out_axes=out_axis)
        out.append(batched(*_operands(case.args, pattern)))
    return out


def loop_patterns(case: Case) -> Any:
    """The same by a loop."""
    elements, out = varied(case.args, 2), []
    for i, pattern in enumerate(in_axes(case.args)):
        picked = [
            tuple(arg if axis is None else other for arg, other, axis in zip(case.args, element, pattern, strict=True))
            for element in elements
        ]
        outs = [case.f(*operands) for operands in picked]
        out.append(jax.tree.map(lambda *ys, axis=-1 if i % 2 else 0: jnp.stack(ys, axis), *outs))
    return out


def vmap_nothing(case: Case) -> Any:
    """None of the op's operands is batched: its result may be returned once."""
    beside = jnp.arange(2.0)
    once = jax.vmap(lambda _: case.f(*case.args), out_axes=None)(beside)
    everywhere = jax.vmap(lambda _: case.f(*case.args), out_axes=0)(beside)
    return once, everywhere


def vmap_leaves(case: Case) -> Any:
    """A batch axis for some leaves of each operand."""
    flat, tree = jax.tree.flatten(case.args)
    axes = [None if i % 2 else 0 for i in range(len(flat))]
    mixed = [x if axis is None else batch(x) for x, axis in zip(flat, axes, strict=True)]
    return jax.vmap(case.f, in_axes=tree.unflatten(axes))(*tree.unflatten(mixed))


def nested_vmap(case: Case) -> Any:
    return jax.vmap(jax.vmap(case.f), in_axes=-1, out_axes=-1)(*batch(batch(case.args), 3, axis=-1))


def crossed_vmap(case: Case) -> Any:
    """One vmap for each operand: the inner levels share what the outer ones batch."""
    f = case.f
    for i in range(len(case.args)):
        f = jax.vmap(f, in_axes=tuple(0 if i == j else None for j in range(len(case.args))))
    return f(*batch(case.args))


def vmap_in_jit(case: Case) -> Any:
    return jax.vmap(jax.jit(case.f))(*batch(case.args))


# ------------------------------------------------------------------------------------------- derivatives of batches
def _batched(case: Case) -> Case:
    """vmap over every operand."""
    return Case(jax.vmap(case.f), batch(case.args), case.argnums)


def _partly_batched(case: Case) -> Case:
    """vmap over the first operand alone; the others are shared."""
    axes = tuple(0 if i == 0 else None for i in range(len(case.args)))
    return Case(jax.vmap(case.f, in_axes=axes), (batch(case.args[0]), *case.args[1:]), case.argnums)


def jvp_of_vmap(case: Case) -> Any:
    return [jax.jvp(c.g, c.xs, tangents(c.xs)) for c in (_batched(case), _partly_batched(case))]


def vjp_of_vmap(case: Case) -> Any:
    return [c.grad()(*c.xs) for c in (_batched(case), _partly_batched(case))]


def linearize_of_vmap(case: Case) -> Any:
    c = _batched(case)
    out, linear = jax.linearize(c.g, *c.xs)
    return out, linear(*tangents(c.xs)), transposed(linear, c.xs, out)


def vmap_of_jvp(case: Case) -> Any:
    """Over the operands, and over the tangents alone."""
    push = lambda xs, dots: jax.jvp(case.g, xs, dots)
    dots = tangents(batch(case.xs), 3.0)
    return jax.vmap(push)(batch(case.xs), dots), jax.vmap(push, in_axes=(None, 0))(case.xs, dots)


def vmap_of_vjp(case: Case) -> Any:
    """Over the operands, and over the cotangents alone."""

    def pull(xs: Any, scale: Any) -> Any:
        out, pullback = jax.vjp(case.g, *xs)
        return pullback(
            jax.tree.map(lambda ct: ct if ct.dtype == jax.dtypes.float0 else ct * scale.astype(ct.dtype), tangents(out))
        )

    scales = jnp.arange(1, 3)
    return jax.vmap(pull)(batch(case.xs), scales), jax.vmap(pull, in_axes=(None, 0))(case.xs, scales)


def vmap_of_grad(case: Case) -> Any:
    return jax.vmap(case.grad())(*batch(case.xs))


def vmap_of_linearize(case: Case) -> Any:
    def push(xs: Any) -> Any:
        _, linear = jax.linearize(case.g, *xs)
        return linear(*tangents(xs))

    return jax.vmap(push)(batch(case.xs))


def grad_of_vmap_of_grad(case: Case) -> Any:
    def inner(*xs: Any) -> Any:
        return loss(jax.vmap(case.grad())(*xs))

    return case.grad(inner)(*batch(case.xs))


def named_axis(case: Case) -> Any:
    """A collective beside the op, over the axis that it is batched along."""

    def centred(*args: Any) -> Any:
        out = case.f(*args)
        return jax.tree.map(lambda y: y - jax.lax.pmean(y, "rows") if y.dtype.kind == "f" else y, out)

    c = Case(jax.vmap(centred, axis_name="rows"), batch(case.args), case.argnums)
    return c.g(*c.xs), c.grad()(*c.xs)
