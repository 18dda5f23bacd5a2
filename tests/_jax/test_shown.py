"""What JAX asks of an equation of `jit`, it gets from an operation's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import checkify
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxprim import Primitive

Fn = Callable[..., Any]
X = jnp.arange(1.0, 9.0)
MESH = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))
SPLIT = NamedSharding(MESH, P("d"))


def op_of(impl: Fn) -> Primitive:
    op = Primitive("op")
    op.def_impl(impl)
    return op


def with_rules(pull: Fn, push: Fn) -> Primitive:
    """The sine, with these functions of a tangent and a primal as its rules."""
    op = op_of(jnp.sin)
    op.def_vjp(lambda primals: (op(*primals), lambda y_bar: pull(y_bar, primals[0])))
    op.def_jvp(lambda primals, tangents: (op(*primals), push(tangents[0], primals[0])))
    return op


def grad(fn: Fn) -> Fn:
    return jax.grad(lambda x: fn(x).sum())


def scanned(fn: Fn) -> Fn:
    return lambda x: jax.lax.scan(lambda c, _: (fn(c), None), x, None, length=2)[0]


WAYS: dict[str, Callable[[Fn], Fn]] = {
    "call": lambda fn: fn,
    "jit": jax.jit,
    "grad": grad,
    "jit of grad": lambda fn: jax.jit(grad(fn)),
    "jvp": lambda fn: lambda x: jax.jvp(fn, (x,), (x,))[1],
    "jit of jvp": lambda fn: jax.jit(lambda x: jax.jvp(fn, (x,), (x,))[1]),
    "scan": scanned,
    "vmap": lambda fn: lambda x: jax.vmap(fn)(jnp.stack([x, x])),
    "linearized scan": lambda fn: lambda x: jax.linearize(scanned(fn), x)[1](x),
}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def mapped(fn: Fn) -> Fn:
    return lambda *args: jax.shard_map(fn, mesh=MESH, in_specs=P("d"), out_specs=P("d"))(*args)


# ----------------------------------------------------------------------------------------------------------- devices
@every_way
def test_a_shard_map_in_an_impl_takes_operands_on_one_device(way: Callable[[Fn], Fn]) -> None:
    fn = jax.jit(mapped(lambda x: x * jax.lax.psum(jnp.sum(x), "d")))
    got, want = way(op_of(fn))(X), way(fn)(X)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert got.devices() == want.devices()


@every_way
def test_a_sharding_constraint_in_an_impl_holds(way: Callable[[Fn], Fn]) -> None:
    fn = jax.jit(lambda x: jax.lax.with_sharding_constraint(jnp.sin(x), SPLIT))
    got, want = way(op_of(fn))(X), way(fn)(X)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert got.sharding.is_equivalent_to(want.sharding, got.ndim)


@every_way
def test_a_shard_map_in_rules_takes_operands_on_one_device(way: Callable[[Fn], Fn]) -> None:
    linear = mapped(lambda dot, x: dot * jnp.cos(x))
    np.testing.assert_allclose(way(with_rules(linear, linear))(X), way(jnp.sin)(X), rtol=1e-5)


@every_way
@pytest.mark.parametrize("has_impl", [True, False])
def test_a_shard_map_in_a_kernel_takes_operands_on_one_device(way: Callable[[Fn], Fn], has_impl: bool) -> None:
    op = op_of(jnp.sin) if has_impl else Primitive("op")
    op.def_kernel(mapped(jnp.sin), platform="cpu")
    op.def_partials(lambda y, x: jnp.cos(x))
    np.testing.assert_allclose(way(op)(X), way(jnp.sin)(X), rtol=1e-5)


@pytest.mark.parametrize("operand", [X, jax.device_put(X, SPLIT)], ids=["one device", "four devices"])
@pytest.mark.parametrize("where", ["impl", "kernel", "pullback"])
def test_custom_partitioning_works_inside(where: str, operand: Any) -> None:
    @custom_partitioning
    def sine(x: Any) -> Any:
        return jnp.sin(x)

    sine.def_partition(
        infer_sharding_from_operands=lambda mesh, args, result: args[0].sharding,
        partition=lambda mesh, args, result: (mesh, jnp.sin, args[0].sharding, (args[0].sharding,)),
        sharding_rule="i -> i",
    )
    op = op_of(sine if where == "impl" else jnp.sin)
    if where == "kernel":
        op.def_kernel(sine, platform="cpu")
    op.def_vjp(lambda primals: (op(*primals), lambda y_bar: y_bar * sine(primals[0] + np.pi / 2)))
    np.testing.assert_allclose(op(operand), np.sin(X), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.jit(grad(op))(operand), np.cos(X), rtol=1e-5, atol=1e-6)


def test_shardings_inside_can_be_inspected() -> None:
    seen: list[Any] = []

    def show(x: Any) -> Any:
        jax.debug.inspect_array_sharding(x, callback=seen.append)
        return x

    op = op_of(lambda x: show(jnp.sin(x)))
    op.def_vjp(lambda primals: (op(*primals), lambda y_bar: show(y_bar * jnp.cos(primals[0]))))
    jax.jit(op)(jax.device_put(X, SPLIT))
    assert [sharding.is_equivalent_to(SPLIT, 1) for sharding in seen] == [True]
    seen.clear()
    jax.jit(grad(op))(jax.device_put(X, SPLIT))
    assert seen


# ------------------------------------------------------------------------------------------------------------- checks
def error_of(fn: Fn, x: Any) -> str | None:
    return checkify.checkify(fn, errors=checkify.all_checks)(x)[0].get()


def positive(x: Any) -> Any:
    checkify.check(jnp.all(x > 0), "not positive")
    return x * 2


@pytest.mark.parametrize("name", ["call", "jit", "grad", "jit of grad", "scan", "vmap"])
@pytest.mark.parametrize(
    ("impl", "bad"),
    [(jnp.log, -X), (lambda x: 1 / x, 0 * X), (lambda x: x[x.astype(int) - 1], X + 20), (positive, -X)],
    ids=["nan", "division", "index", "check"],
)
def test_checkify_finds_errors_inside(name: str, impl: Fn, bad: Any) -> None:
    way = WAYS[name]
    assert (error_of(way(op_of(impl)), bad) is None) == (error_of(way(impl), bad) is None)
    assert error_of(op_of(impl), bad) is not None
    assert error_of(way(op_of(impl)), X) is None


def test_checkify_finds_errors_in_rules() -> None:
    bad = lambda dot, x: dot * jnp.log(-x)
    assert error_of(grad(with_rules(bad, bad)), X) is not None
    assert error_of(lambda x: jax.jvp(with_rules(bad, bad), (x,), (x,))[1], X) is not None


def test_checkify_keeps_the_rules() -> None:
    op = with_rules(lambda y_bar, x: 7 * y_bar, lambda x_dot, x: 5 * x_dot)
    checked = lambda x: checkify.checkify(op, errors=checkify.float_checks)(x)[1]
    np.testing.assert_array_equal(grad(checked)(X), np.full(8, 7.0, np.float32))
    np.testing.assert_array_equal(jax.jvp(checked, (X,), (jnp.ones(8),))[1], np.full(8, 5.0, np.float32))


# ------------------------------------------------------------------------------------------------------ and the rest
@pytest.mark.parametrize(
    "wrap", [lambda fn: fn, lambda fn: lambda x: jax.vmap(fn)(x[None]), grad], ids=["call", "vmap", "grad"]
)
def test_the_precision_of_the_call_is_kept(wrap: Callable[[Fn], Fn]) -> None:
    op = op_of(lambda x: x @ x)

    def fn(x: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return wrap(op)(x)

    assert "HIGHEST" in str(jax.make_jaxpr(fn)(jnp.ones((3, 3))))
    assert "HIGHEST" in jax.jit(fn).lower(jnp.ones((3, 3))).as_text()


def test_debug_callbacks_are_effects_of_the_equation() -> None:
    seen: list[int] = []

    def impl(x: Any) -> Any:
        jax.debug.callback(lambda: seen.append(1))
        return x

    op = op_of(impl)
    assert jax.make_jaxpr(op)(X).effects == jax.make_jaxpr(impl)(X).effects != set()
    jax.jit(op)(X)
    jax.effects_barrier()
    assert seen == [1]


def test_a_program_is_made_when_jax_looks_into_it() -> None:
    made: list[str] = []
    op = op_of(jnp.sin)

    @op.def_vjp
    def _(primals: Any) -> Any:
        made.append("forward")
        return op(*primals), lambda y_bar: (made.append("pullback"), y_bar * jnp.cos(primals[0]))[1]

    traced = jax.jit(grad(op)).trace(X)
    assert made == ["forward", "pullback"]
    assert "cos" in str(traced.jaxpr)
    assert made == ["forward", "pullback"]


def test_a_pushforward_that_cannot_be_evaluated_can_be_printed() -> None:
    op = op_of(jnp.sin)
    op.def_vjp(lambda primals: (op(*primals), lambda y_bar: jax.pure_callback(np.cos, y_bar, y_bar)))
    traced = jax.make_jaxpr(lambda x, d: jax.jvp(op, (x,), (d,)))(X, X)
    assert "op_pushforward" in str(traced)


@pytest.mark.parametrize("name", ["jit", "grad", "jit of grad", "scan", "vmap"])
def test_an_ordered_print_in_a_pullback_comes_as_from_custom_vjp(name: str) -> None:
    seen: list[float] = []

    def pull(x: Any, y_bar: Any) -> tuple[Any, ...]:
        jax.debug.callback(lambda v: seen.append(float(v)), y_bar, ordered=True)
        return (y_bar * jnp.cos(x),)

    def results(op: Any) -> tuple[list[float], list[float]]:
        seen.clear()
        op.def_vjp(lambda x: (op(x), x), pull) if isinstance(op, Primitive) else op.defvjp(lambda x: (op(x), x), pull)
        found = jax.jit(grad(WAYS[name](op)))(jnp.float32(2.0))
        jax.effects_barrier()
        return np.ravel(found).tolist(), list(seen)

    assert results(op_of(jnp.sin)) == results(jax.custom_vjp(jnp.sin))


def test_an_ordered_print_in_a_forward_half_runs_in_forward_mode() -> None:
    seen: list[float] = []
    op = op_of(jnp.sin)

    @op.def_vjp
    def _(primals: Any) -> Any:
        jax.debug.callback(lambda v: seen.append(float(v)), primals[0], ordered=True)
        return op(*primals), lambda y_bar: y_bar * jnp.cos(primals[0])

    jax.jit(lambda x: jax.jvp(op, (x,), (x,)))(2.0)
    jax.effects_barrier()
    assert set(seen) == {2.0}
