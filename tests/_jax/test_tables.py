"""What JAX hands to rules and expects of them, as this JAX has it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from jaxprim import _jax
from jaxprim._jax import tables


@pytest.fixture
def doubled() -> Any:
    """A primitive with a linearization rule of its own, which notes what it was told."""
    told: list[Any] = []
    p = _jax.new_primitive("doubled")

    def linearize(is_vjp: bool, perturbed: Any, x: Any) -> tuple[Any, ...]:
        told.append((is_vjp, list(perturbed)))
        return _jax.linearization([2 * x], [True], [], lambda _, dot: [2 * dot])

    _jax.register(
        p,
        abstract_eval=lambda x: ([x], set()),
        lowering=_jax.lower_fun(lambda x: [2 * x]),
        linearize=linearize,
        jvp=lambda primals, dots: (p.bind(*primals), [2 * dots[0]]),
    )
    p.told = told
    yield p
    _jax.unregister(p)


def test_a_linearization_has_as_many_results_as_jax_takes(doubled: Any) -> None:
    y, push = jax.linearize(lambda x: doubled.bind(x)[0], 3.0)
    assert (float(y), float(push(1.0))) == (6.0, 2.0)
    assert float(jax.grad(lambda x: doubled.bind(x)[0])(3.0)) == 2.0


def test_the_mode_is_told_where_jax_tells_it(doubled: Any) -> None:
    jax.linearize(lambda x: doubled.bind(x)[0], 3.0)
    jax.vjp(lambda x: doubled.bind(x)[0], 3.0)
    assert doubled.told == [(not tables._MODE_IS_TOLD, [True]), (True, [True])]


def test_the_size_of_a_linearization_is_seen_inside_a_trace() -> None:
    tables._has_structured_residuals.cache_clear()
    seen: list[bool] = []
    jax.jit(lambda x: (seen.append(tables._has_structured_residuals()), x)[1])(jnp.ones(2))
    tables._has_structured_residuals.cache_clear()
    assert seen == [tables._has_structured_residuals()]


def test_an_unregistered_primitive_leaves_nothing(doubled: Any) -> None:
    assert any(doubled in table for table in tables._tables().values())
    _jax.unregister(doubled)
    assert not any(doubled in table for table in tables._tables().values())


@pytest.mark.parametrize(
    ("fn", "elementwise"),
    [(jnp.sin, True), (lambda x: x * x, True), (lambda x: x.sum(), False), (lambda x: x.reshape(3, 1), False)],
    ids=["sin", "product", "sum", "reshape"],
)
def test_elementwise_primitives_are_known(fn: Any, elementwise: bool) -> None:
    (eqn, *_) = jax.make_jaxpr(fn)(jnp.ones(3)).eqns
    assert _jax.is_elementwise(eqn.primitive) == elementwise
