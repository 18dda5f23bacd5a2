from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from jax_versions import IS_OLDER_JAX
from tools import collectives, cxx
from truth import along

import jaxprim
from jaxprim import kernels

pytestmark = cxx
close = functools.partial(np.testing.assert_allclose, rtol=1e-8, atol=1e-10)


def reference(x, w, eps=1e-6):
    return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + eps) * w


def operands(dtype="float64", n=3, d=4):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, d)).astype(dtype), rng.normal(size=d).astype(dtype)


@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 2e-6), ("float64", 1e-14)])
def test_value(example, dtype, rtol):
    x, w = operands(dtype)
    np.testing.assert_allclose(example.rms_norm(x, w), reference(x, w), rtol=rtol)
    np.testing.assert_allclose(
        jax.jit(functools.partial(example.rms_norm, eps=0.5))(x, w), reference(x, w, 0.5), rtol=rtol
    )


@pytest.mark.parametrize("n", [1, 7, 96])
def test_rows_in_blocks_for_threads(example, n):
    x, w = operands("float32", n, 4096)
    assert example.in_blocks(x).shape == {1: (1, 1, 4096), 7: (1, 7, 4096), 96: (6, 16, 4096)}[n]
    np.testing.assert_allclose(example.rms_norm(x, w), reference(x, w), rtol=1e-5, atol=1e-6)
    found = jax.vjp(example.rms_norm, x, w)[1](x)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), found,
                 jax.vjp(example.rms_norm.use("impl"), x, w)[1](x))  # fmt: skip


def test_what_is_no_number_is_not_lost(example):
    """The kernels are compiled with `fast_math`, which promises nothing for NaN and infinity."""
    x, w = operands("float32")
    x[0, 0], x[1, 1] = np.nan, np.inf
    y, pullback = jax.vjp(example.rms_norm, x, w)
    x_bar, w_bar = pullback(np.ones_like(x))
    for rows in (y, x_bar):
        assert np.isnan(rows[0]).all()
        assert np.isnan(rows[1, 1])
        assert np.isfinite(rows[2]).all()
    assert np.isnan(w_bar).all()


def test_derivatives_against_differences(example):
    primals, tangents = operands(), (np.sin(operands()[0]), np.cos(operands()[1]))
    truth = along(reference, primals, tangents)
    close(jax.jvp(example.rms_norm, primals, tangents)[1], truth)
    g = np.linspace(-1, 1, truth.size).reshape(truth.shape)
    x_bar, w_bar = jax.vjp(example.rms_norm, *primals)[1](g)
    close(np.sum(x_bar * tangents[0]) + np.sum(w_bar * tangents[1]), np.sum(g * truth))


def test_hessian_vector_products_against_differences_of_the_gradient(example):
    primals, tangents = operands(), (np.sin(operands()[0]), np.cos(operands()[1]))
    gradient = jax.grad(lambda x, w: jnp.sum(jnp.sin(example.rms_norm(x, w))), (0, 1))
    truth = along(gradient, primals, tangents)
    jax.tree.map(close, jax.jvp(gradient, primals, tangents)[1], truth)
    reverse = jax.vjp(gradient, *primals)[1](tangents)  # the Hessian is symmetric
    jax.tree.map(close, reverse, truth)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (1, 1)])
def test_vmap_and_its_gradient(example, axes):
    x, w = operands()
    xs = x if axes[0] is None else np.stack([x, x + 1], axes[0])
    ws = w if axes[1] is None else np.stack([w, 2 * w], axes[1])
    loss = lambda op: lambda x, w: jnp.sum(jnp.sin(jax.vmap(op, axes)(x, w)))
    in_jax = lambda x, w: example.rms_norm.use("impl")(x, w)
    jax.tree.map(close, jax.grad(loss(example.rms_norm), (0, 1))(xs, ws), jax.grad(loss(in_jax), (0, 1))(xs, ws))


def test_a_gradient_runs_one_kernel_forward_and_one_backward(example):
    x, w = operands()
    program = jax.jit(jax.grad(lambda x, w: jnp.sum(example.rms_norm(x, w) ** 2), (0, 1))).lower(x, w).as_text()
    assert program.count("jaxprim.rms_norm.") == 1
    assert program.count("jaxprim.rms_norm_backward.") == 1
    with jaxprim.use("impl"):
        assert "jaxprim.rms_norm." not in jax.jit(lambda x, w: example.rms_norm(x, w)).lower(x, w).as_text()


def test_the_version_by_hand_gives_the_same(example):
    x, w = operands("float32")
    loss = lambda op: lambda x, w: jnp.sum(jnp.sin(op(x, w)))
    found, theirs = (jax.grad(loss(op), (0, 1))(x, w) for op in (example.rms_norm, example.by_hand()))
    # With fast_math, each library rounds in its own way.
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), found, theirs)


def test_check(example):
    with jax.enable_x64(False):
        assert example.rms_norm.check(speed="fast").ok


def test_rows_split_over_devices(example):
    """Two all-reduces at most: of the loss, which is a sum, and of the cotangent of w."""
    mesh = jax.make_mesh((4,), ("rows",), axis_types=(AxisType.Auto,))
    x, w = np.cos(np.arange(48.0)).reshape(8, 6).astype(np.float32), np.linspace(1, 2, 6, dtype=np.float32)
    loss = jax.value_and_grad(lambda x, w: jnp.sum(jnp.sin(example.rms_norm(x, w))), (0, 1))
    compiled = jax.jit(loss).lower(jax.device_put(x, NamedSharding(mesh, P("rows"))), w).compile()
    got = compiled(jax.device_put(x, NamedSharding(mesh, P("rows"))), w)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), got, loss(x, w))
    found = collectives(compiled)
    assert found["all-gather"] == 0
    assert 0 < found["all-reduce"] <= 2


@pytest.mark.skipif(IS_OLDER_JAX, reason="compiles the source again; nothing in it depends on JAX")
def test_the_rule_is_the_derivative_of_the_source(example):
    """The hand-written backward kernel against what jaxprim makes of the forward one."""
    signature = "rms_norm(x: f64[n, d], w: f64[d]; eps: f64 = 1e-6) -> f64[n, d]"
    kernel = kernels.cpp(example.SOURCE, signature, differentiable=True, flags=("-O0",))
    gradient = lambda fn: jax.jit(jax.grad(lambda x, w: jnp.sum(fn(x, w) ** 3), (0, 1)))(*operands())
    by_hand, by_source = gradient(example.rms_norm), gradient(kernel)
    close(by_source[0], by_hand[0])
    close(by_source[1], by_hand[1])
