from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from tools import collectives, cxx, needs
from truth import along

pytestmark = [cxx, needs("numba")]
close = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-10)


def fields(seed=0, shape=(3, 4)):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape), rng.uniform(0.5, 1.5, shape)


def slow(u, k):
    """Face by face, as the docstring says it."""
    out = np.zeros_like(u)
    for i, j in np.ndindex(u.shape):
        for a, b in ((i + 1, j), (i, j + 1)):
            if a < u.shape[0] and b < u.shape[1]:
                flow = (k[i, j] + k[a, b]) / 2 * (u[a, b] - u[i, j])
                out[i, j] += flow
                out[a, b] -= flow
    return out


@pytest.mark.parametrize("shape", [(3, 4), (1, 5), (2, 2)])
def test_value_and_that_no_heat_is_lost(example, shape):
    u, k = fields(shape=shape)
    found = jax.jit(example.diffuse)(u, k)
    close(found, slow(u, k))
    close(jnp.sum(found), 0)


def test_the_trilinear_form(example):
    """<y, diffuse(u, k)> = <u, diffuse(y, k)> = <k, exchange(u, y)>: both stencils, and all adjoints."""
    (u, k), (y, _) = fields(), fields(1)
    form = np.sum(y * slow(u, k))
    close([np.sum(u * example.diffuse(y, k)), np.sum(k * example.exchange(u, y))], form)


@pytest.mark.parametrize("name", ["diffuse", "exchange"])
def test_derivatives_against_differences(example, name):
    op, primals, tangents = getattr(example, name), fields(), fields(1)
    truth = along(op.use("impl"), primals, tangents)
    close(jax.jvp(op, primals, tangents)[1], truth)
    cotangents = jax.vjp(op, *primals)[1](np.cos(truth))
    close(sum(np.sum(c * t) for c, t in zip(cotangents, tangents, strict=True)), np.sum(np.cos(truth) * truth))


def by_loop(u, k):
    for _ in range(6):
        u = u + 0.2 * slow(u, k)
    return u


def test_gradient_through_scan_and_checkpoint(example):
    primals, tangents = fields(), fields(1)
    run = functools.partial(example.heat, blocks=2, steps=3)
    close(run(*primals), by_loop(*primals))
    kept = functools.partial(run, policy=jax.checkpoint_policies.everything_saveable)
    truth = np.sum(np.sin(by_loop(*primals)) * along(by_loop, primals, tangents))
    for way in (run, kept):
        gradients = jax.grad(lambda u, k, way=way: -jnp.sum(jnp.cos(way(u, k))), (0, 1))(*primals)
        close(sum(np.sum(g * t) for g, t in zip(gradients, tangents, strict=True)), truth)


def test_hessian_vector_product_through_scan_and_checkpoint(example):
    primals, tangents = fields(), fields(1)
    gradient = jax.jit(jax.grad(lambda u, k: -jnp.sum(jnp.cos(example.heat(u, k, blocks=2, steps=2))), (0, 1)))
    jax.tree.map(close, jax.jvp(gradient, primals, tangents)[1], along(gradient, primals, tangents))


def test_checkpoint_keeps_one_temperature_for_each_block(example):
    u, k = fields(shape=(8, 8))
    gradient = jax.jit(lambda u, k, policy: jax.grad(
        lambda k: jnp.sum(example.heat(u, k, blocks=20, steps=20, policy=policy)))(k), static_argnums=2)  # fmt: skip
    memory = lambda policy: gradient.lower(u, k, policy).compile().memory_analysis().temp_size_in_bytes
    assert memory(None) < 60 * u.nbytes
    assert memory(jax.checkpoint_policies.everything_saveable) > 400 * u.nbytes


def test_the_compiled_loop_runs_and_a_batch_is_one_call(example):
    u, k = fields()
    over = jax.jit(jax.vmap(example.diffuse, (0, None)))
    program = over.lower(np.stack([u, -u]), k).as_text()
    assert program.count("jaxprim.diffuse_loop.") == 1
    close(over(np.stack([u, -u]), k), [slow(u, k), -slow(u, k)])


def test_check(example):
    with jax.enable_x64(False):
        assert example.diffuse.check(speed="fast").ok


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=lambda kind: kind.name)
def test_devices_exchange_the_cells_at_their_edges(example, kind):
    u, k = fields(shape=(8, 6))
    mesh = jax.make_mesh((2, 2), ("x", "y"), axis_types=(kind,) * 2)

    def run(u, k):
        warmth = lambda u, k: jnp.sum(jnp.sin(example.heat(u, k, blocks=2, steps=3)))
        return example.heat(u, k, blocks=2, steps=3), jax.grad(warmth, (0, 1))(u, k)

    want = run(u, k)
    with jax.set_mesh(mesh):
        placed = [jax.device_put(field, NamedSharding(mesh, P("x", "y"))) for field in (u, k)]
        compiled = jax.jit(run).lower(*placed).compile()
        jax.tree.map(close, compiled(*placed), want)
    found = collectives(compiled)
    assert (found["all-gather"], found["all-reduce"]) == (0, 0)
    assert found["collective-permute"] > 0
