"""Forward mode runs the JVP rule and reverse mode the VJP rule, in every row of the matrix.

The VJP rule of the op here is deliberately three times the transpose of its JVP rule. Its reference gets the same
property from JAX alone: a linear function that is its own derivative, but whose transpose is declared three times itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Primitive as JaxPrimitive
from jax.interpreters import ad, batching, mlir
from rows.case import Case, tangents
from rows.table import FIRST_ORDER, ROWS, Row
from test_zoo import close, eagerly, jitted
from zoo import host, numbers, wave_args, wave_by_impl, wave_kernel

from jaxprim import Primitive

FACTOR = 3.0


# ------------------------------------------------------------------------------------------ the op and its reference
def rigged(op: Primitive) -> Primitive:

    @op.def_jvp
    def _(primals: Any, dots: Any) -> Any:
        (x, a), (x_dot, a_dot) = primals, dots
        return op(x, a), a * jnp.cos(x) * x_dot + jnp.sin(x) * a_dot

    @op.def_vjp
    def _(primals: Any) -> Any:
        x, a = primals
        return op(x, a), lambda ct: (FACTOR * a * jnp.cos(x) * ct, FACTOR * jnp.sum(jnp.sin(x) * ct))

    return op


def _identity() -> Any:
    """The identity, whose transpose multiplies by FACTOR. Written with JAX's own tables, not with jaxprim's."""
    p = JaxPrimitive("rigged_identity")
    p.def_impl(lambda t: t)
    p.def_abstract_eval(lambda t: t)
    mlir.register_lowering(p, mlir.lower_fun(lambda t: t, multiple_results=False))
    ad.deflinear2(p, lambda ct, t: [FACTOR * ct])
    batching.primitive_batchers[p] = lambda args, dims: (p.bind(*args), dims[0])
    return p


IDENTITY = _identity()


@jax.custom_jvp
def reference(x: Any, a: Any) -> Any:
    return a * jnp.sin(x)


@reference.defjvp
def _(primals: Any, dots: Any) -> Any:
    (x, a), (x_dot, a_dot) = primals, dots
    return reference(x, a), a * jnp.cos(x) * IDENTITY.bind(x_dot) + jnp.sin(x) * IDENTITY.bind(a_dot)


RIGGED = rigged(host("rigged", wave_kernel))
# No bytes can hold a host function.
EXPORTABLE = rigged(wave_by_impl())
# JAX's jet ignores custom_jvp rules, and no loop of unknown length has a reverse.
FORWARD_ALONE = {"taylor_mode", "while_reverse"}
# Before 0.9.1, JAX does not say whether `vjp` or `linearize` asks, and both get the VJP rule (docs/releases.md).
MODE_IS_UNTOLD = jax.__version_info__ < (0, 9, 1)
UNTOLD = {"linearize", "linearize_of_vmap", "vmap_of_linearize"} if MODE_IS_UNTOLD else set[str]()


@pytest.mark.parametrize("row", [row for row in ROWS if row.name not in FORWARD_ALONE], ids=repr)
def test_each_mode_runs_its_own_rule(row: Row) -> None:
    op = EXPORTABLE if row.name.startswith("export") else RIGGED
    chosen = ((0, 1), (0,)) if row in FIRST_ORDER else ((0, 1),)
    apply = jitted if row.jit else eagerly
    if row.name in UNTOLD:
        with pytest.raises(AssertionError, match=r"Max relative difference among violations: (2|1\.99)"):
            close(jitted(row.run, op, wave_args(), chosen), jitted(row.run, reference, wave_args(), chosen))
        return
    close(apply(row.run, op, wave_args(), chosen), apply(row.truth or row.run, reference, wave_args(), chosen))
    if row.eager:
        close(
            eagerly(row.run, op, wave_args(), chosen[:1]),
            eagerly(row.truth or row.run, reference, wave_args(), chosen[:1]),
        )


def test_the_reference_is_rigged() -> None:
    """The truth of this file, by hand."""
    x, a = wave_args()
    _, y_dot = jax.jvp(reference, (x, a), (jnp.ones_like(x), jnp.zeros_like(a)))
    np.testing.assert_allclose(y_dot, a * np.cos(x), rtol=1e-6)
    np.testing.assert_allclose(jax.grad(lambda x: reference(x, a).sum())(x), FACTOR * a * np.cos(x), rtol=1e-6)


# ------------------------------------------------------------------------------- the transpose of each half, by hand
def test_the_transpose_of_the_pushforward_is_the_vjp_rule() -> None:
    case = Case(RIGGED, wave_args(), (0,))
    _, push = jax.linearize(case.g, *case.xs)
    (ct,) = jax.linear_transpose(push, *case.xs)(jnp.ones(3))
    np.testing.assert_allclose(ct, FACTOR * case.args[1] * np.cos(case.args[0]), rtol=1e-6)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint], ids=["eager", "jit", "checkpoint"])
def test_the_transpose_of_a_pullback_is_that_of_its_code(wrap: Callable[..., Any]) -> None:
    case = Case(wrap(RIGGED), wave_args(), (0,))
    out, pull = jax.vjp(case.g, *case.xs)
    transposed = jax.linear_transpose(pull, out)(tangents(case.xs))
    np.testing.assert_allclose(
        transposed[0], FACTOR * case.args[1] * np.cos(case.args[0]) * tangents(case.xs)[0], rtol=1e-6
    )


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint], ids=["eager", "jit", "checkpoint"])
def test_the_transpose_of_an_opaque_pullback_is_the_jvp_rule(wrap: Callable[..., Any]) -> None:
    op = host("rigged", wave_kernel)
    backward = host("backward", lambda x, a, ct: (3 * a * np.cos(x) * ct).astype(x.dtype))
    op.def_jvp(lambda primals, dots: (op(*primals), primals[1] * jnp.cos(primals[0]) * dots[0]))
    op.def_vjp(lambda primals: (op(*primals), lambda ct: (backward(*primals, ct), None)))
    case = Case(wrap(op), wave_args(), (0,))
    out, pull = jax.vjp(case.g, *case.xs)
    np.testing.assert_allclose(pull(jnp.ones(3))[0], FACTOR * case.args[1] * np.cos(case.args[0]), rtol=1e-6)
    transposed = jax.linear_transpose(pull, out)(tangents(case.xs))
    np.testing.assert_allclose(transposed[0], case.args[1] * np.cos(case.args[0]) * tangents(case.xs)[0], rtol=1e-6)


# ---------------------------------------------------------------------------- which function gives the primal value
def telling() -> Primitive:
    """Its value tells where it comes from."""
    op = Primitive("telling")
    op.def_impl(lambda x: x)
    op.def_jvp(lambda primals, dots: (11 * primals[0], 10 * dots[0]))
    op.def_vjp(lambda primals: (101 * primals[0], lambda ct: 1000 * ct))
    return op


def _jvp(f: Any) -> Any:
    return lambda x: jax.jvp(f, (x,), (jnp.ones_like(x),))


def _linearize(f: Any) -> Any:
    def run(x: Any) -> Any:
        y, push = jax.linearize(f, x)
        return y, push(jnp.ones_like(x))

    return run


def _vjp(f: Any) -> Any:
    def run(x: Any) -> Any:
        y, pull = jax.vjp(f, x)
        return y, *pull(jnp.ones_like(y))

    return run


def _once(f: Any) -> Any:
    return lambda x: jax.lax.scan(lambda c, _: (f(c), None), x, None, length=1)[0]


VALUES: dict[str, tuple[Any, float, float]] = {
    "jvp": (_jvp, 11, 10),
    "jit(jvp)": (lambda f: jax.jit(_jvp(f)), 11, 10),
    "jvp(jit)": (lambda f: _jvp(jax.jit(f)), 11, 10),
    "jvp(vmap)": (lambda f: _jvp(jax.vmap(f)), 11, 10),
    "vmap(jvp)": (lambda f: jax.vmap(_jvp(f)), 11, 10),
    "jvp(scan)": (lambda f: _jvp(_once(f)), 11, 10),
    "jvp(checkpoint)": (lambda f: _jvp(jax.checkpoint(f)), 11, 10),
    "linearize": (_linearize, 11, 10),
    "jit(linearize)": (lambda f: jax.jit(_linearize(f)), 11, 10),
    "linearize(jit)": (lambda f: _linearize(jax.jit(f)), 11, 10),
    "linearize(checkpoint)": (lambda f: _linearize(jax.checkpoint(f)), 11, 10),
    "vjp": (_vjp, 101, 1000),
    "jit(vjp)": (lambda f: jax.jit(_vjp(f)), 101, 1000),
    "vjp(jit)": (lambda f: _vjp(jax.jit(f)), 101, 1000),
    "vjp(vmap)": (lambda f: _vjp(jax.vmap(f)), 101, 1000),
    "vmap(vjp)": (lambda f: jax.vmap(_vjp(f)), 101, 1000),
    "vjp(scan)": (lambda f: _vjp(_once(f)), 101, 1000),
    "vjp(checkpoint)": (lambda f: _vjp(jax.checkpoint(f)), 11, 1000),
    "vjp(scan(checkpoint))": (lambda f: _vjp(_once(jax.checkpoint(f))), 11, 1000),
}


if MODE_IS_UNTOLD:
    VALUES.update({name: (VALUES[name][0], 101, 1000) for name in ("linearize", "jit(linearize)", "linearize(jit)")})


@pytest.mark.parametrize("name", VALUES)
def test_which_function_gives_the_value(name: str) -> None:
    transform, value, derivative = VALUES[name]
    y, d = transform(telling())(jnp.ones(2))
    assert (y.tolist(), d.tolist()) == ([value] * 2, [derivative] * 2)


def fused() -> Primitive:
    """One operation gives value and tangent, so the value cannot be had alone."""
    both = Primitive("both")
    both.def_impl(lambda x, x_dot: (11 * x, 10 * x_dot))
    both.def_batching("expand_dims")
    op = telling()
    op.def_jvp(lambda primals, dots: both(*primals, *dots))
    return op


def test_a_value_that_needs_tangents_is_the_implementations() -> None:
    y, d = jax.jit(_jvp(fused()))(jnp.ones(2))
    assert (y.tolist(), d.tolist()) == ([1.0] * 2, [10.0] * 2)


def test_a_plain_call_runs_the_implementation() -> None:
    op = telling()
    assert [float(f(1.0)) for f in (op, jax.jit(op), jax.checkpoint(op))] == [1, 1, 1]
    assert jax.vmap(op)(numbers(2)).tolist() == numbers(2).tolist()
