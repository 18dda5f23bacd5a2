"""jaxprim's own work on programs: one interpreter, and what is built on it."""

from __future__ import annotations

from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxprim import Primitive, _jax
from jaxprim._jax import words
from jaxprim._programs import gives_zero, interpret, may_lack_transpose, replace_application, without_zero_inputs

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


def run(fn: Any, nonzero: Any, *args: Any, residuals: int = 1) -> Any:
    call, avals = without_zero_inputs(trace(fn, residuals + len(nonzero)), residuals, nonzero)
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


def test_an_equation_that_is_not_linear_in_it_takes_an_array() -> None:
    (out,) = run(lambda r, t: jnp.where(r > 1, r, t), [False], X)
    np.testing.assert_allclose(out, [0, 2, 3])


# For each primitive that passes zeros on, a function of float arrays that applies it.
I3 = jnp.arange(3)
MATRIX = jnp.eye(3) + 0.5 * jnp.tri(3)
ZERO_PASSING: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "mul": (lambda x, y: x * y, (X, Y)),
    "dot_general": (lax.dot, (X, Y)),
    "conv_general_dilated": (
        lambda x, y: lax.conv(x, y, (1,), "SAME"),
        (X[None, None], Y[None, None, :2]),
    ),
    "add": (lax.add, (X, Y)),
    "sub": (lax.sub, (X, Y)),
    "broadcast_in_dim": (lambda x: jnp.broadcast_to(x, (2, 3)), (X,)),
    "convert_element_type": (lambda x: x.astype(jnp.int32), (X,)),
    "div": (lax.div, (X, Y)),
    "dynamic_slice": (lambda x, i: lax.dynamic_slice_p.bind(x, i, slice_sizes=(2,)), (X, 1)),
    "dynamic_update_slice": (lambda x, y, i: lax.dynamic_update_slice_p.bind(x, y, i), (X, Y[:2], 1)),
    "gather": (lambda x, i: x.at[i].get(mode="promise_in_bounds"), (X, jnp.array([2, 1]))),
    "scatter": (lambda x, i, y: x.at[i].set(y, mode="promise_in_bounds"), (X, I3[1:], Y[:2])),
    "scatter-add": (lambda x, i, y: x.at[i].add(y, mode="promise_in_bounds"), (X, I3[1:], Y[:2])),
    "scatter-sub": (lambda x, i, y: x.at[i].subtract(y, mode="promise_in_bounds"), (X, I3[1:], Y[:2])),
    "select_n": (lax.select_n, (jnp.array([True, False, True]), X, Y)),
    "slice": (lambda x: lax.slice(x, (0,), (2,)), (X,)),
    "triangular_solve": (lambda a, b: lax.linalg.triangular_solve(a, b, lower=True), (MATRIX, MATRIX + 1)),
    # JAX says of these that they are linear.
    "neg": (lambda x: -x, (X,)),
    "concatenate": (lambda x, y: lax.concatenate([x, y], 0), (X, Y)),
    "pad": (lambda x, y: lax.pad(x, y, [(1, 1, 0)]), (X, jnp.float32(2))),
    "reduce_sum": (lambda x: x.sum(), (X,)),
    "cumsum": (lambda x: lax.cumsum(x), (X,)),
    "split": (lambda x: jnp.split(x, 3), (X,)),
    "complex": (lax.complex, (X, Y)),
    # These run programs.
    "jit": (jax.jit(lambda x, y: (x * y, x - x, jnp.exp(y), y)), (X, Y)),
    "remat2": (jax.checkpoint(lambda x, y: (x * y, jnp.cos(x))), (X, Y)),
    "cond": (lambda i, x, y: lax.cond_p.bind(i, x, y, **COND), (1, X, Y)),
    "scan": (lambda x, y: lax.scan(lambda c, b: (c * b[0], (c, jnp.cos(b))), x, y.reshape(3, 1)), (X, Y)),
    "while": (lambda x, y: lax.while_loop(lambda s: s[1].sum() < 40, lambda s: (s[0] * 2, s[1] + 1), (x, y)), (X, Y)),
}  # fmt: skip
COND = jax.make_jaxpr(lambda i, x, y: lax.cond(i > 0, lambda: (x, x * y), lambda: (2 * x, y)))(1, X, Y).eqns[-1].params


@pytest.mark.parametrize("name", ZERO_PASSING)
def test_what_passes_zeros_on_is_zero(name: str) -> None:
    """For each choice of zero operands: what is said to be zero is exactly zero, whatever the other operands are."""
    fn, args = ZERO_PASSING[name]
    applied: list[tuple[Any, Any]] = []

    def visit(eqn: Any, values: list[Any]) -> Any:
        applied.extend([(eqn, values)] if eqn.primitive.name == name else [])
        return _jax.apply_equation(eqn, values)

    interpret(jax.make_jaxpr(fn)(*args), args, visit)
    ((eqn, values),) = applied
    said = []
    for mask in product([False, True], repeat=len(values)):
        zeros = gives_zero(eqn, mask)
        outs = _jax.apply_equation(eqn, [jnp.zeros_like(v) if z else v for v, z in zip(values, mask, strict=True)])
        assert [np.any(out) for out, zero in zip(outs, zeros, strict=True) if zero] == [False] * sum(zeros), mask
        said += zeros
    assert any(said), "it never passes a zero on"
    assert not all(said), "it gives zero for operands that are not"


def test_each_listed_primitive_is_tried() -> None:
    listed = words.MULTILINEAR | set(words.LINEAR_IN) | words.CALLS | {words.COND, words.SCAN, words.WHILE}
    # `pcast` is found in `shard_map` only; JAX has no `core_call` or `closed_call` of its own left.
    assert listed - set(ZERO_PASSING) == {"pcast", "core_call", "closed_call"}


LOOKS: dict[str, Any] = {
    "exp": jnp.exp,
    "isfinite": jnp.isfinite,
    "==": lambda t: t == 0,
    "power 0": lambda t: t**0,
    "0 / 0": lambda t: t / t,
    "jit": jax.jit(jnp.cos),
    "predicate": lambda t: lax.cond(t[0] == 0, lambda: t + 1, lambda: t),
    "scan": lambda t: lax.scan(lambda c, x: (c + 1 + x, c), jnp.float32(0), t),
    "counter": lambda t: lax.fori_loop(0, 3, lambda i, c: c + i, t),
    "two turns": lambda t: lax.fori_loop(0, 2, lambda i, c: (jnp.cos(c[1]), c[0]), (t, t)),
    "custom_jvp": jax.nn.relu,
    "softmax": jax.nn.softmax,
    "checkpoint": jax.checkpoint(jnp.cos),
    "callback": lambda t: jax.pure_callback(lambda t: t + 1, t, t),
    "jvp": lambda t: jax.jvp(jnp.exp, (t,), (t + 1,))[1],
    "argmax": lambda t: jnp.argmax(t) + 1,
    "set": lambda t: jnp.ones(3).at[0].set(t[0]),
    "pad": lambda t: jnp.pad(t, 1, constant_values=2.0),
    "cumprod": lambda t: lax.cumprod(t + 1),
}


@pytest.mark.parametrize("name", LOOKS)
def test_a_function_that_looks_at_zeros_sees_arrays(name: str) -> None:
    fn = LOOKS[name]
    got = run(lambda r, t: fn(t), [False], X)
    for one, other in zip(got, jax.tree.leaves(fn(jnp.zeros(3))), strict=True):
        np.testing.assert_array_equal(_jax.zeros(one.aval) if type(one) is _jax.JaxZero else one, other)


def test_operations_of_jaxprim_pass_zeros_on_where_they_are_linear() -> None:
    """A pullback in its cotangents, an operation where it is declared linear; any other operation is not known."""
    exp, matvec = Primitive("exp"), Primitive("matvec")
    exp.def_impl(jnp.exp)
    exp.def_vjp(lambda primals: (exp(*primals), lambda y_bar: y_bar * jnp.exp(primals[0])))
    matvec.def_impl(lambda a, x: a * x)
    matvec.def_transpose(lambda y_bar, a: a * y_bar, linear="x")
    (out,) = run(lambda r, t: exp(t), [False], X)
    np.testing.assert_allclose(out, np.ones(3))
    assert [type(out) for out in run(lambda r, t: matvec(r, t), [False], X)] == [_jax.JaxZero]
    (out,) = run(lambda r, t: matvec(t, r), [False], X)
    np.testing.assert_array_equal(out, np.zeros(3))
    assert [type(out) for out in run(lambda r, t: jax.vjp(exp, r)[1](t), [False], X)] == [_jax.JaxZero]


def test_a_debug_print_of_zeros_still_runs(capfd: pytest.CaptureFixture[str]) -> None:
    def fn(r: Any, t: Any) -> Any:
        return jax.jit(lambda t: (jax.debug.print("saw {}", t), t)[1])(t)

    run(fn, [False], X)
    jax.effects_barrier()
    assert "saw [0. 0. 0.]" in capfd.readouterr().out


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
        (jax.jit(lambda r, t: jnp.arctan2(r, r) * t), False),
        (lambda r, t: lax.map(jnp.sin, r) * t, False),
        (lambda r, t: lax.map(lambda t: 2 * t, t), True),
    ],
    ids=[
        "product",
        "function of r",
        "host of r",
        "host of t",
        "host of t in jit",
        "not linear in t",
        "function of r in jit",
        "loop of r",
        "loop of t",
    ],
)
def test_what_may_have_no_transpose(fn: Any, lacks: bool) -> None:
    assert may_lack_transpose(trace(fn, 2), [False, True]) == lacks
