"""jaxprim's own work on programs: one interpreter, and what is built on it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim import _jax
from jaxprim._programs import interpret, may_lack_transpose, replace_application, without_zero_inputs

AVAL = jax.core.ShapedArray((3,), jnp.float32)
X, Y = jnp.arange(1.0, 4.0), jnp.arange(4.0, 7.0)


def trace(fn: Any, count: int) -> Any:
    return _jax.trace(lambda *xs: jax.tree.leaves(fn(*xs)), [AVAL] * count, "program")


def names(fn: Any, *args: Any) -> list[str]:
    return [eqn.primitive.name for eqn in jax.make_jaxpr(fn)(*args).eqns]


def test_interpret_runs_what_visit_says() -> None:
    """Every sine is a cosine; constants, literals, several results and an input that is an output."""
    c = jnp.array([2.0, 3.0, 4.0])
    fn = trace(lambda x, y: (jnp.sin(x) * c, jnp.split(y, 3), 1.0 + y, y), 2)

    def visit(eqn: Any, values: list[Any]) -> Any:
        return [jnp.cos(values[0])] if eqn.primitive.name == "sin" else _jax.apply_equation(eqn, values)

    first, a, b, d, plus, same = interpret(fn, (X, Y), visit)
    np.testing.assert_allclose(first, jnp.cos(X) * c)
    np.testing.assert_allclose(jnp.concatenate([a, b, d]), Y)
    np.testing.assert_allclose(plus, 1 + Y)
    assert same is Y


def run(fn: Any, nonzero: Any, *args: Any, symbolic: bool = True, residuals: int = 1) -> Any:
    call, avals = without_zero_inputs(trace(fn, residuals + len(nonzero)), residuals, nonzero, symbolic=symbolic)
    assert len(avals) == len(args)
    return call(*args)


def test_a_zero_passes_through_and_a_sum_leaves_it_out() -> None:
    fn = lambda r, s, t: (r * s, r * s + t, -s)
    product, total, negative = run(fn, [False, True], X, Y)
    assert [type(value) is _jax.JaxZero for value in (product, total, negative)] == [True, False, True]
    np.testing.assert_allclose(total, Y)
    assert names(lambda r, t: run(fn, [False, True], r, t)[1], X, Y) == []


def test_no_inf_times_zero() -> None:
    (out,) = run(lambda r, t: r * t, [False], X * np.inf)
    assert type(out) is _jax.JaxZero
    (out,) = run(lambda r, t: r * t, [False], X * np.inf, symbolic=False)
    assert np.isnan(out).all()


def test_an_equation_that_is_not_linear_in_it_takes_an_array() -> None:
    (out,) = run(lambda r, t: jnp.where(r > 1, r, t), [False], X)
    np.testing.assert_allclose(out, [0, 2, 3])


def test_a_sum_with_another_shape_runs() -> None:
    (out,) = run(lambda r, s, t: s.sum() + t, [True, False], X, Y)
    np.testing.assert_allclose(out, np.full(3, 15.0))


def test_an_application_is_replaced() -> None:
    sin = jax.make_jaxpr(jnp.sin)(X).eqns[0]
    fn = trace(lambda x, y: (jnp.sin(x) * y, jnp.sin(y)), 2)
    replaced = replace_application(fn, sin.primitive, sin.params, 1)
    assert replaced is not None
    np.testing.assert_allclose(_jax.evaluate(replaced, X, jnp.ones(3) * 10, Y), [10 * Y, jnp.sin(Y)], rtol=1e-6)
    assert [eqn.primitive.name for eqn in replaced.eqns].count("sin") == 1
    cos = jax.make_jaxpr(jnp.cos)(X).eqns[0]
    assert replace_application(fn, cos.primitive, cos.params, 1) is None


@pytest.mark.parametrize(
    ("fn", "lacks"),
    [
        (lambda r, t: r * t, False),
        (lambda r, t: jnp.arctan2(r, r) * t, False),
        (lambda r, t: jax.pure_callback(lambda r: r, r, r) * t, False),
        (lambda r, t: jax.pure_callback(lambda t: t, t, t), True),
        (lambda r, t: jax.jit(lambda t: jax.pure_callback(lambda t: t, t, t))(t), True),
        (lambda r, t: jnp.arctan2(t, r), True),
    ],
    ids=["product", "function of r", "host of r", "host of t", "host of t in jit", "not linear in t"],
)
def test_what_may_have_no_transpose(fn: Any, lacks: bool) -> None:
    assert may_lack_transpose(trace(fn, 2), 1) == lacks
