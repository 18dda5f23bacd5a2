"""Rows: four devices, one operand split over them and the others replicated."""

from __future__ import annotations

from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from rows.case import Case, batch, loss, tangents


def mesh(kind: Any = AxisType.Auto) -> Any:
    return jax.make_mesh((4,), ("d",), axis_types=(kind,))


def _split(case: Case) -> Case:
    """The op on each device: its first operand split, the others the same everywhere."""

    def body(*args: Any) -> Any:
        first = jax.tree.map(lambda x: x[0], args[0])
        return jax.tree.map(lambda y: y[None], case.f(first, *args[1:]))

    specs = (PartitionSpec("d"), *(PartitionSpec() for _ in case.args[1:]))
    mapped = jax.shard_map(body, mesh=mesh(), in_specs=specs, out_specs=PartitionSpec("d"), check_vma=True)
    return Case(mapped, (batch(case.args[0], 4), *case.args[1:]), case.argnums)


def _split_by_vmap(case: Case) -> Case:
    axes = (0, *(None for _ in case.args[1:]))
    return Case(jax.vmap(case.f, in_axes=axes), (batch(case.args[0], 4), *case.args[1:]), case.argnums)


def _modes(case: Case) -> Any:
    return case.g(*case.xs), jax.jvp(case.g, case.xs, tangents(case.xs)), case.grad()(*case.xs)


def shard_map(case: Case) -> Any:
    return _modes(_split(case))


def shard_map_truth(case: Case) -> Any:
    return _modes(_split_by_vmap(case))


def shard_map_grad_inside(case: Case) -> Any:
    """The gradient is taken inside: that of a replicated operand is summed over the devices."""

    def body(*args: Any) -> Any:
        first, *rest = args
        c = Case(case.f, (jax.tree.map(lambda x: x[0], first), *rest), case.argnums)
        gradients = c.grad()(*c.xs)
        return tuple(
            jax.tree.map(lambda g: g[None], g) if i == 0 else g for i, g in zip(c.argnums, gradients, strict=True)
        )

    split, same = PartitionSpec("d"), PartitionSpec()
    mapped = jax.shard_map(
        body,
        mesh=mesh(),
        in_specs=(split, *(same for _ in case.args[1:])),
        out_specs=tuple(split if i == 0 else same for i in case.argnums),
        check_vma=True,
    )
    return mapped(batch(case.args[0], 4), *case.args[1:])


def shard_map_grad_inside_truth(case: Case) -> Any:
    return shard_map_summed_truth(case)[1]


def shard_map_summed(case: Case) -> Any:
    """A collective beside the op; the gradient of a replicated operand is summed over the devices."""

    def body(*args: Any) -> Any:
        first = jax.tree.map(lambda x: x[0], args[0])
        return jax.lax.psum(loss(case.f(first, *args[1:])), "d")

    specs = (PartitionSpec("d"), *(PartitionSpec() for _ in case.args[1:]))
    mapped = jax.shard_map(body, mesh=mesh(), in_specs=specs, out_specs=PartitionSpec(), check_vma=True)
    c = Case(mapped, (batch(case.args[0], 4), *case.args[1:]), case.argnums)
    return c.g(*c.xs), c.grad(c.g)(*c.xs)


def shard_map_summed_truth(case: Case) -> Any:
    c = _split_by_vmap(case)

    def whole(*xs: Any) -> Any:
        out = c.g(*xs)
        return sum(loss(jax.tree.map(lambda y, i=i: y[i], out)) for i in range(4))

    return whole(*c.xs), c.grad(whole)(*c.xs)


def explicit_mesh(case: Case) -> Any:
    """Explicit sharding: the batch axis of the first operand is split, in its type."""
    explicit = mesh(AxisType.Explicit)
    with jax.set_mesh(explicit):
        put = lambda tree, spec: jax.device_put(tree, NamedSharding(explicit, spec))
        specs = [PartitionSpec("d"), *(PartitionSpec() for _ in case.args[1:])]
        batched = _split_by_vmap(case)
        c = Case(batched.f, tuple(map(put, batched.args, specs)), case.argnums)
        dots = tuple(put(tangents(x), specs[i]) for i, x in zip(c.argnums, c.xs, strict=True))
        value = jax.jit(c.g)(*c.xs)
        out = value, jax.jit(lambda xs, dots: jax.jvp(c.g, xs, dots))(c.xs, dots), jax.jit(c.grad())(*c.xs)
        return jax.device_get(out)
