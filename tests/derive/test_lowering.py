"""Which implementation runs on a platform: its kernel, else the impl, else the host function; raw lowering rules."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.interpreters import mlir as jax_mlir

from jaxprim import Primitive, RuleMissing, mlir

X = jnp.array([1.0, 2.0])


@pytest.mark.parametrize("call", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_a_kernel_runs_on_its_platform_and_the_impl_elsewhere(call):
    op = Primitive("op")
    op.def_impl(lambda x: 2 * x)
    op.def_kernel(lambda x: 100 * x, platform="cuda")
    np.testing.assert_allclose(call(op)(X), 2 * X)
    op.def_kernel(platform="cpu")(lambda x: 3 * x)
    np.testing.assert_allclose(call(op)(X), 3 * X)
    np.testing.assert_allclose(call(jax.vmap(op))(X), 3 * X)


def test_an_impl_comes_before_a_host_function():
    op = Primitive("op")
    op.def_host(lambda x: 5 * x)
    op.def_impl(lambda x: 2 * x)
    np.testing.assert_allclose(op(X), 2 * X)


def test_the_platform_is_named_where_nothing_runs():
    op = Primitive("op")
    op.def_kernel(lambda x: x, platform="cuda")
    with pytest.raises(RuleMissing, match=r"op: not registered for cpu; registered: cuda\."):
        jax.jit(op)(X)


@pytest.mark.parametrize("platform", [None, "cpu"])
def test_a_raw_lowering_rule(platform):
    op = Primitive("op")
    op.def_abstract_eval(lambda x, *, times=2: x)

    def rule(ctx, x, *, times):
        return jax_mlir.lower_fun(lambda x: times * x, multiple_results=False)(ctx, x)

    assert op.def_lowering(rule, platform) is rule
    for call in (lambda f: f, jax.jit):
        np.testing.assert_allclose(call(lambda x: op(x, times=3))(X), 3 * X)


def test_the_names_of_jax_are_in_reach():
    assert mlir.lower_fun is jax_mlir.lower_fun
    with pytest.raises(AttributeError):
        mlir.no_such_name  # noqa: B018
