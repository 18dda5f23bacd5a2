"""Rows: the op inside code of equinox, flax and optax, as their users write it; exported and loaded again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import equinox as eqx
import jax
import optax
from flax import nnx

from rows.case import Case, batch, loss, tangents


@contextmanager
def _others_code() -> Iterator[None]:
    """JAX's defaults: the libraries promote and broadcast inside."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def equinox_module(case: Case) -> Any:
    class Model(eqx.Module):
        weights: tuple[Any, ...]
        fixed: tuple[Any, ...]
        op: Any = eqx.field(static=True)

        def __call__(self, scale: Any) -> Any:
            return scale.astype("float32") * loss(Case(self.op, self.fixed, case.argnums).g(*self.weights))

    with _others_code():
        model = Model(case.xs, case.args, case.f)
        scales = jax.numpy.arange(1.0, 3.0)
        value, gradient = eqx.filter_jit(eqx.filter_value_and_grad(lambda m: m(scales[0])))(model)
        batched = eqx.filter_vmap(eqx.filter_grad(lambda m, s: m(s)), in_axes=(None, 0))(model, scales)
        dots = eqx.filter_jvp(lambda xs: case.g(*xs), (case.xs,), (tangents(case.xs),))[1]
        remat = eqx.filter_grad(eqx.filter_checkpoint(lambda m: m(scales[1])))(model)
    return value, gradient.weights, batched.weights, dots, remat.weights


def flax_module(case: Case) -> Any:
    class Model(nnx.Module):
        def __init__(self) -> None:
            self.weights = nnx.List([nnx.Param(leaf) for leaf in jax.tree.leaves(case.xs)])

        def __call__(self) -> Any:
            leaves = [weight[...] for weight in self.weights]
            return loss(case.g(*jax.tree.unflatten(jax.tree.structure(case.xs), leaves)))

    with _others_code():
        value, gradient = nnx.jit(nnx.value_and_grad(lambda model: model()))(Model())
        remat = nnx.grad(nnx.remat(lambda model: model()))(Model())
    return value, jax.tree.leaves(nnx.to_pure_dict(gradient)), jax.tree.leaves(nnx.to_pure_dict(remat))


def optax_steps(case: Case) -> Any:
    """Three steps of Adam in a scan, and the gradient of what they reach."""
    optimizer = optax.adam(0.05)

    def train(*xs: Any) -> Any:
        def step(state: Any, _: Any) -> Any:
            params, moments = state
            value, gradient = jax.value_and_grad(lambda p: loss(case.g(*p)))(params)
            gradient = jax.tree.map(jax.numpy.conj, gradient)
            updates, moments = optimizer.update(gradient, moments, params)
            return (optax.apply_updates(params, updates), moments), value

        return jax.lax.scan(step, (xs, optimizer.init(xs)), None, length=3)

    with _others_code():
        (params, _), values = jax.jit(train)(*case.xs)
    return params, values


# ------------------------------------------------------------------------------------------------------------ export
def _exported(fn: Any, *specs: Any) -> Any:
    """Exported, written to bytes, and read again."""
    return jax.export.deserialize(bytearray(jax.export.export(jax.jit(fn))(*specs).serialize(vjp_order=1)))


def exported(case: Case) -> Any:
    with _others_code():
        loaded = _exported(case.g, *case.xs)
        return loaded.call(*case.xs), case.grad(lambda *xs: loss(loaded.call(*xs)))(*case.xs)


def exported_with_symbolic_shapes(case: Case) -> Any:
    xs = batch(case.xs)
    specs = jax.export.symbolic_args_specs(xs, "b, ...")
    with _others_code():
        loaded = _exported(jax.vmap(case.g), *specs)
        return loaded.call(*xs), case.grad(lambda *xs: loss(loaded.call(*xs)))(*xs)


def batched_directly(case: Case) -> Any:
    """What the exported batch must give."""
    xs = batch(case.xs)
    return jax.vmap(case.g)(*xs), case.grad(lambda *xs: loss(jax.vmap(case.g)(*xs)))(*xs)


def directly(case: Case) -> Any:
    return case.g(*case.xs), case.grad()(*case.xs)
