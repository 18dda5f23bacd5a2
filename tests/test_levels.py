"""Batch levels: where an output's batch dimension goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Primitive as JaxPrimitive

from jaxprim import Primitive, _jax, _levels
from jaxprim._jax.tables import batching
from jaxprim._programs import elementwise_dims

ROW = jax.core.ShapedArray((3,), np.dtype("float32"))

ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "product": lambda x, y: x * y,
    "chain": lambda x, y: jnp.exp(x) + jax.lax.neg(y) * x,
    "comparison": lambda x, y: jax.lax.max(x, y) > y,
    "one result shared": lambda x, y: (jnp.sin(x), jnp.cos(y)),
    "input as result": lambda x, y: (y, x, x + y),
    "constant": lambda x, y: (x + np.arange(3, dtype=np.float32), 2.0),
}
OTHERS: dict[str, Callable[..., Any]] = {
    "select": lambda x, y: jax.lax.select(x > y, x, y),
    "sum": lambda x, y: jnp.sum(x) * y,
    "product of matrices": lambda x, y: x @ y,
    "jit": jax.jit(lambda x, y: (jnp.sin(x), jnp.cos(y))),
    "reshape": lambda x, y: (x[None], y),
}


def program_and_axis(fn: Callable[..., Any], avals: Any) -> tuple[Any, Any]:
    """A program, and JAX's own axis data of a vmap of size 4 (kept from a batch rule)."""
    seen: list[Any] = []
    probe = JaxPrimitive("probe")
    probe.def_abstract_eval(lambda x: x)
    batching.fancy_primitive_batchers[probe] = lambda axis, args, dims: (seen.append(axis), (args[0], dims[0]))[1]
    jax.vmap(probe.bind)(jnp.ones(4))
    return _jax.trace(lambda *xs: jax.tree.leaves(fn(*xs)), avals, "program"), seen[0]


@pytest.mark.parametrize("dims", [(0, None), (None, 0), (0, 0), (None, None)], ids=str)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_programs_keep_the_batch_in_front_as_vmap_does(name: str, dims: Any) -> None:
    program, axis = program_and_axis(ELEMENTWISE[name], (ROW, ROW))
    assert elementwise_dims(program, dims) == _jax.batch(program, axis, dims)[1]


@pytest.mark.parametrize("name", OTHERS)
def test_other_programs_are_vmapped_to_know(name: str) -> None:
    program, axis = program_and_axis(OTHERS[name], (ROW, ROW))
    assert elementwise_dims(program, (0, None)) is None
    assert _levels.infer(program, axis, (0, None)).out_dims == _jax.batch(program, axis, (0, None))[1]


def test_a_batch_that_is_not_in_front_is_left_to_vmap() -> None:
    program, axis = program_and_axis(ELEMENTWISE["product"], (ROW, ROW))
    assert elementwise_dims(program, (1, None)) is None
    assert _levels.infer(program, axis, (1, None)).out_dims == _jax.batch(program, axis, (1, None))[1]


def test_a_collective_is_left_to_vmap() -> None:
    """A sum over the vmapped axis is the same for all its elements."""
    total = Primitive("total")
    total.def_impl(lambda x: (x + jax.lax.axis_index("i").astype(x.dtype), jax.lax.psum(x, "i")))
    first, second = jax.vmap(total, axis_name="i", out_axes=(0, None))(jnp.arange(3.0))
    np.testing.assert_array_equal(first, [0, 2, 4])
    assert second == 3


def test_tracing_a_vmap_of_an_elementwise_op_does_not_vmap_its_program(monkeypatch: pytest.MonkeyPatch) -> None:
    op = Primitive("scaled")
    op.def_impl(lambda x, a: a * jnp.sin(x))
    counts = {"batch": 0}
    real = _jax.batch

    def counted(*args: Any) -> Any:
        counts["batch"] += 1
        return real(*args)

    monkeypatch.setattr(_jax, "batch", counted)
    traced = jax.jit(jax.vmap(op, (0, None))).trace(jnp.ones((4, 3)), 2.0)
    assert counts == {"batch": 0}
    np.testing.assert_allclose(traced.lower().compile()(jnp.ones((4, 3)), 2.0), 2 * np.sin(np.ones((4, 3))), rtol=1e-6)
    assert counts == {"batch": 1}


# ------------------------------------------------------------------------------------------------ lowering of programs
@pytest.mark.parametrize(
    "impl",
    [
        lambda x: x * np.arange(3, dtype=np.float32),
        lambda x: jax.lax.fori_loop(0, 3, lambda _, y: y * 2.0, x),
        lambda x: (jax.debug.callback(lambda v: None, x), x + 1.0)[1],
        lambda x: jax.lax.cond(jnp.sum(x) > 0, lambda y: y + 1.0, lambda y: y, x),
        lambda x: (x, x),
    ],
    ids=["constant", "loop", "callback", "cond", "input twice"],
)
def test_a_program_is_lowered_as_its_code_would_be(impl: Any) -> None:
    op = Primitive("lowered")
    op.def_impl(impl)
    x = jnp.arange(3.0)
    jax.tree.map(np.testing.assert_allclose, jax.jit(op)(x), impl(x))


def test_an_application_is_lowered_without_tracing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    op = Primitive("once")
    op.def_impl(lambda x: x * 2.0)
    op.def_jvp(lambda primals, tangents: (op(*primals), 2.0 * tangents[0]))
    traced = jax.jit(lambda x, t: jax.jvp(op, (x,), (t,))).trace(jnp.ones(3), jnp.ones(3))
    monkeypatch.setattr(_jax, "lower_fun", lambda fun: pytest.fail("traced once more"))
    traced.lower()


# ----------------------------------------------------------------------- operands and results that all elements share
def pair(x: Any, k: Any) -> Any:
    return x * k, k**2


def pair_with_rules(kinds: str) -> Primitive:
    p = Primitive("pair")
    p.def_impl(pair)
    if "vjp" in kinds:
        p.def_vjp(
            lambda primals: (
                p(*primals),
                lambda cts: (cts[0] * primals[1], cts[0] * primals[0] + 2 * primals[1] * cts[1]),
            )
        )
    if "jvp" in kinds:
        p.def_jvp(lambda xs, dots: (p(*xs), (xs[0] * dots[1] + dots[0] * xs[1], 2 * xs[1] * dots[1])))
    return p  # fmt: skip


def gradients(op: Any, x: Any, k: Any) -> Any:
    """Of a loss in which the second result, which does not depend on x, is shared by all elements."""

    def loss(x: Any, k: Any) -> Any:
        y, z = jax.vmap(op, (0, None), out_axes=(0, None))(x, k)
        return jnp.sum(y) + jnp.sum(z)

    return jax.grad(loss, (0, 1))(x, k)


@pytest.mark.parametrize("size", [0, 1, 3])
@pytest.mark.parametrize("kinds", ["vjp", "jvp", "vjp, jvp", ""])
def test_the_gradient_of_a_shared_operand_in_a_batch_of_any_size(kinds: str, size: int) -> None:
    x, k = jnp.arange(float(size)), jnp.float32(0.5)
    for got, want in zip(gradients(pair_with_rules(kinds), x, k), gradients(pair, x, k), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("spec", [("d", None), (None, "d")], ids=["the batch", "the shared operand"])
def test_the_gradient_of_a_shared_operand_on_an_explicit_mesh(spec: Any) -> None:
    spec_of = jax.sharding.PartitionSpec
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        x, k = jax.device_put(jnp.ones((2, 4)), spec_of(*spec)), jax.device_put(jnp.arange(4.0), spec_of(spec[1]))
        for got, want in zip(gradients(pair_with_rules("vjp"), x, k), gradients(pair, x, k), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-6)
            assert got.sharding == want.sharding
