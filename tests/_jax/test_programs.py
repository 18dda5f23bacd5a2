"""Programs, and what JAX does to them, as this JAX has them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim import _jax

AVAL = jax.core.ShapedArray((3,), jnp.float32)
X, Y = jnp.arange(1.0, 4.0), jnp.arange(4.0, 7.0)


def program(with_constant: bool) -> Any:
    """(x, y) -> x * c, y + 1, with or without a constant that is closed over."""
    c = jnp.array([2.0, 3.0, 4.0]) if with_constant else 2.0
    return _jax.trace(lambda x, y: [x * c, y + 1.0], [AVAL, AVAL], "program")


@pytest.fixture(params=[False, True], ids=["plain", "with a constant"])
def traced(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    return program(request.param), jnp.array([2.0, 3.0, 4.0]) if request.param else 2.0


def test_a_program_runs(traced: Any) -> None:
    fn, c = traced
    np.testing.assert_allclose(_jax.evaluate(fn, X, Y), [X * c, Y + 1])
    has_constant = hasattr(c, "shape")
    assert (len(_jax.in_avals(fn)), len(_jax.out_avals(fn)), len(fn.consts)) == (
        2,
        2,
        int(has_constant),
    )


def test_dead_inputs_go(traced: Any) -> None:
    fn, c = traced
    first, used = _jax.dce(fn, [True, False])
    assert used == (True, False)
    np.testing.assert_allclose(_jax.evaluate(first, X), [X * c])
    second, used = _jax.dce(fn, [False, True])
    assert used == (False, True)
    np.testing.assert_allclose(_jax.evaluate(second, Y), [Y + 1])


def test_outputs_are_chosen(traced: Any) -> None:
    fn, c = traced
    np.testing.assert_allclose(_jax.evaluate(_jax.select_outputs(fn, [True, False]), X, Y), [X * c])
    np.testing.assert_allclose(_jax.evaluate_needed(fn, [False], (X, Y))[1], Y + 1)


def test_unread_constants_are_pruned() -> None:
    a, b = jnp.array([2.0, 3.0, 4.0]), jnp.array([5.0, 6.0, 7.0])

    def fn(x: Any) -> Any:
        jnp.sin(b)
        return [x * a]

    jaxpr, consts = _jax.prune(*_jax.trace_open(fn, [AVAL], "program"))
    np.testing.assert_allclose(consts, [a])
    np.testing.assert_allclose(_jax.evaluate_open(jaxpr, consts, X), [X * a])


def test_derivatives(traced: Any) -> None:
    fn, c = traced
    push, nonzero = _jax.jvp_program(fn, [True, False])
    assert nonzero == (True, False)
    np.testing.assert_allclose(_jax.evaluate(push, X, Y, X)[2], X * c)
    linear = _jax.trace(lambda t: [t * 3.0], [AVAL], "linear")
    np.testing.assert_allclose(_jax.transpose(linear, [True], [], [Y]), [3 * Y])


def test_primitives_are_found_at_any_depth() -> None:
    inside = jax.jit(lambda x: jax.lax.scan(lambda c, _: (jnp.sin(c), None), x, None, length=2)[0])
    fn = _jax.trace(lambda x: [inside(x)], [AVAL], "program")
    assert _jax.uses(fn, "sin")
    assert not _jax.uses(fn, "cos")


def test_primitives_are_found_in_an_open_program() -> None:
    """The body of `shard_map`, which has no constants of its own."""
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("d")
    mapped = jax.shard_map(jnp.sin, mesh=mesh, in_specs=spec, out_specs=spec)
    assert _jax.uses(_jax.trace(lambda x: [mapped(x)], [AVAL], "program"), "sin")


@pytest.mark.parametrize(
    ("loop", "carries"),
    [
        (lambda x: jax.lax.fori_loop(0, 3, lambda i, z: z * x, x), [True]),
        (lambda x: jax.lax.while_loop(lambda n: n < 3, lambda n: n + 1, 0) * x, [False]),
        (lambda x: jax.lax.map(lambda z: jax.lax.while_loop(lambda w: w < 9, lambda w: 2 * w, z), x), [False, True]),
        (lambda x: jax.jit(jnp.searchsorted)(x, x), [False]),
        (lambda x: jnp.where(x > 0, x, 1), []),
    ],
)
def test_loops_carry_reals(loop: Any, carries: list[bool]) -> None:
    assert _jax.loops_carry_reals(_jax.trace(lambda x: [loop(x)], [AVAL], "program")) == carries


def test_an_equation_with_a_function_is_applied() -> None:
    """Of `custom_jvp`, whose function is no operand."""
    double = jax.custom_jvp(lambda x: x * 2.0)
    double.defjvp(lambda primals, tangents: (double(*primals), 2.0 * tangents[0]))
    (eqn,) = jax.make_jaxpr(double)(X).eqns
    np.testing.assert_allclose(_jax.apply_equation(eqn, [Y]), [2 * Y])


def test_outputs_that_are_inputs_are_known() -> None:
    assert _jax.passed_through(_jax.trace(lambda x: [x, x + 1.0], [AVAL], "program")) == (True, False)


def test_a_ref_is_refused() -> None:
    fn = _jax.trace(lambda x: [x], [AVAL], "program")
    assert (_jax.refused_effects(fn), _jax.named_axes(fn)) == ([], frozenset())
