"""Stencils whose devices exchange the rows at the edges of their parts, against the same stencil on one device."""

from __future__ import annotations

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from tools import collectives

from jaxprim import BadCall, JaxprimError, Primitive, RuleMissing, RuleWrong

AUTO, EXPLICIT = AxisType.Auto, AxisType.Explicit


def smooth(u, before, after):
    """u[i] + u[i-1] / 2 - u[i+1] / 3, with the rows before the first one and after the last one."""
    wide = jnp.concatenate([before, u, after])
    return u + wide[:-2] / 2 - wide[2:] / 3


def in_jnp(u, *, periodic):
    edge = jnp.zeros_like(u[:1])
    return smooth(u, u[-1:] if periodic else edge, u[:1] if periodic else edge)


def stencil():
    """The implementation runs on the host, so XLA could not split it by itself."""
    p, transposed = Primitive("smooth"), Primitive("smooth_transposed")
    seen: list[tuple[int, ...]] = []

    @p.def_host
    def _(u, *, periodic):
        seen.append(u.shape)
        edge = np.zeros_like(u[:1])
        wide = np.concatenate([u[-1:] if periodic else edge, u, u[:1] if periodic else edge])
        return u + wide[:-2] / 2 - wide[2:] / 3

    @transposed.def_host
    def _(u, *, periodic):
        edge = np.zeros_like(u[:1])
        wide = np.concatenate([u[-1:] if periodic else edge, u, u[:1] if periodic else edge])
        return u + wide[2:] / 2 - wide[:-2] / 3

    for one, other, sign in ((p, transposed, 1), (transposed, p, -1)):
        one.def_abstract_eval(lambda u, *, periodic: u)
        one.def_sharding("n m -> n m")
        one.def_transpose(other, linear="u")

        @one.def_partition
        def _(u, axis, *, periodic, sign=sign):
            before, after = (
                axis.shift((u[-1:]), "n", 1, periodic=periodic),
                axis.shift(u[:1], "n", -1, periodic=periodic),
            )
            if sign == 1:
                return smooth(u, before, after)
            wide = jnp.concatenate([before, u, after])
            return u + wide[2:] / 2 - wide[:-2] / 3

    return p, seen


U = np.cos(1.0 + 3 * np.arange(8 * 6)).reshape(8, 6).astype(np.float32)


def everything(f, u, **params):
    """Value, gradient, batch and their combination, in one program."""
    f = partial(f, **params)
    loss = lambda u: jnp.sum(jnp.sin(f(u)))
    batch = jnp.stack([u, 2 * u])
    return {
        "value": f(u),
        "jvp": jax.jvp(f, (u,), (jnp.cos(u),)),
        "gradient": jax.grad(jax.checkpoint(loss))(u),
        "scan": jax.lax.scan(lambda c, _: (f(c), None), u, None, length=3)[0],
        "vmap": jax.vmap(f)(batch),
        "vmap along another axis": jax.vmap(f, 2, 1)(jnp.moveaxis(batch, 0, 2)),
        "vmap of gradient": jax.vmap(jax.grad(loss))(batch),
    }


@pytest.mark.parametrize("periodic", [True, False], ids=["periodic", "with edges"])
@pytest.mark.parametrize("spec", [("d", None), ("d", "t"), (("t", "d"), None), (None, "t")], ids=str)
@pytest.mark.parametrize("kind", [AUTO, EXPLICIT], ids=lambda kind: kind.name)
def test_neighbours_exchange_their_edges(kind, spec, periodic):
    p, seen = stencil()
    devices = np.array(jax.devices())[[2, 0, 3, 1]].reshape(2, 2)
    mesh = jax.sharding.Mesh(devices, ("d", "t"), axis_types=(kind,) * 2)
    with jax.set_mesh(mesh):
        u = jax.device_put(U, NamedSharding(mesh, P(*spec)))
        got = jax.jit(partial(everything, p, periodic=periodic))(u)
        compiled = jax.jit(partial(p, periodic=periodic)).lower(u).compile()
    want = everything(in_jnp, U, periodic=periodic)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-5, atol=1e-5), got, want)
    assert not seen  # the partition rule ran in its place
    used = collectives(compiled)
    assert (used["all-gather"], used["all-reduce"]) == (0, 0)
    assert (used["collective-permute"] > 0) == (spec[0] is not None)


def test_on_one_device_and_where_parts_would_differ_in_size_the_implementation_runs():
    p, seen = stencil()
    mesh = jax.make_mesh((4,), ("d",), axis_types=(AUTO,))
    u = U[:6]
    cut = lambda u: jax.lax.with_sharding_constraint(u, NamedSharding(mesh, P("d")))
    np.testing.assert_allclose(p(u, periodic=True), in_jnp(u, periodic=True), rtol=1e-5)
    assert seen == [(6, 6)]
    np.testing.assert_allclose(jax.jit(lambda u: p(cut(u), periodic=True))(u), in_jnp(u, periodic=True), rtol=1e-5)


@pytest.mark.parametrize("axes", [{"d"}, {"d", "t"}], ids=["partly manual", "manual"])
def test_inside_shard_map_it_is_local(axes):
    p, _ = stencil()
    mesh = jax.make_mesh((2, 2), ("d", "t"), axis_types=(AUTO,) * 2)
    run = jax.shard_map(partial(p, periodic=True), mesh=mesh, in_specs=P("d"), out_specs=P("d"), axis_names=axes)
    u = jax.device_put(U, NamedSharding(mesh, P("d", "t") if axes == {"d"} else P("d")))
    want = np.concatenate([in_jnp(U[:4], periodic=True), in_jnp(U[4:], periodic=True)])
    np.testing.assert_allclose(jax.jit(run)(u), want, rtol=1e-5)


@pytest.mark.parametrize("kind", [AUTO, EXPLICIT], ids=lambda kind: kind.name)
def test_a_device_knows_its_part(kind):
    p = Primitive("numbered")
    p.def_impl(lambda x: x)
    p.def_sharding("b n -> b n")
    number = lambda axis: (10 * axis.index("b") + axis.index("n") + 100 * axis.parts("n")).astype(np.float32)
    p.def_partition(lambda x, axis: x + number(axis))
    mesh = jax.make_mesh((2, 2), ("d", "t"), axis_types=(kind,) * 2)
    with jax.set_mesh(mesh):
        x = jax.device_put(np.zeros((4, 4), np.float32), NamedSharding(mesh, P("d", "t")))
        got = np.asarray(jax.jit(p)(x))
    np.testing.assert_array_equal(got[::2, ::2], [[200, 201], [210, 211]])


def said(call, error: type[JaxprimError]):
    mesh = jax.make_mesh((2, 2), ("d", "t"), axis_types=(EXPLICIT,) * 2)
    with jax.set_mesh(mesh), pytest.raises(error) as caught:
        jax.jit(call).lower(jax.device_put(U, NamedSharding(mesh, P("d"))))
    return re.sub(r"\S*(test_partition\.py):\d+", r"\1:N", str(caught.value))


def ruled(partition, spec="n m -> n m"):
    p = Primitive("op")
    p.def_impl(lambda u: u + 0)
    if spec:
        p.def_sharding(spec, replicated="m")
    p.def_partition(partition)
    return p


def test_messages():
    assert (
        said(ruled(lambda u, axis: axis.shift(u, "m")), BadCall)
        == """op: the partition rule asks for an axis that may not be split.
  got:      'm'
  expected: one of n, from the sharding rule
  rule:     test_partition.py:N
  write:    axis.shift(x, 'n')"""
    )
    assert (
        said(ruled(lambda u: u), RuleWrong)
        == """op: the partition rule does not accept the arguments it is called with.
  got:      <lambda>(u)
  expected: (u, axis)
  rule:     test_partition.py:N
  write:    lambda u, axis:"""
    )
    assert (
        said(ruled(lambda u, axis: u[:1]), RuleWrong).partition("\n  write:")[0]
        == """op: the partition rule returned the result with a different type than the operation's.
  got:      float32[1,6]
  expected: float32[4,6]
  rule:     test_partition.py:N"""
    )
    assert (
        said(ruled(lambda u, axis: u, spec=""), RuleMissing)
        == """op: splitting over devices needs a rule that is missing.
  got:      the rules impl, partition
  expected: a sharding rule
  why:      a partition rule needs the names of the axes
  rule:     test_partition.py:N
  write:    op.def_sharding('n -> n')"""
    )
