from __future__ import annotations

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from truth import along

import jaxprim

close = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-10)
kinds = pytest.mark.parametrize(("causal", "keys"), [(True, 4), (False, 6)])


def operands(keys=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(4, 2)), rng.normal(size=(keys, 2)), rng.normal(size=(keys, 3))


def dense(q, k, v, causal=False):
    """With the whole matrix, in NumPy."""
    s = q @ k.T / np.sqrt(2)
    s = np.where(np.tri(*s.shape) > 0, s, -np.inf) if causal else s
    lse = np.log(np.sum(np.exp(s), 1))
    return np.exp(s - lse[:, None]) @ v, lse


@kinds
def test_value(example, causal, keys):
    found = example.flash(*operands(keys), causal=causal, block=2)
    jax.tree.map(close, found, dense(*operands(keys), causal))
    large = operands(keys)[0] * 1e3, *operands(keys)[1:]
    assert np.all(np.isfinite(example.attention(*large, causal=causal, block=2)))


@kinds
@pytest.mark.parametrize("how", ["kernel", "impl"])
def test_derivatives_against_differences(example, causal, keys, how):
    primals, tangents = operands(keys), operands(keys, seed=1)
    with jaxprim.use(how):
        op = functools.partial(example.flash, causal=causal, block=2)
        truth = along(functools.partial(dense, causal=causal), primals, tangents)
        jax.tree.map(close, jax.jvp(op, primals, tangents)[1], truth)
        bars = np.cos(truth[0]), np.sin(truth[1])
        cotangents = jax.jit(lambda *primals: jax.vjp(op, *primals)[1](bars))(*primals)
    expected = sum(np.sum(c * t) for c, t in zip(bars, truth, strict=True))
    close(sum(np.sum(c * t) for c, t in zip(cotangents, tangents, strict=True)), expected)


def test_hessian_vector_products_against_differences_of_the_gradient(example):
    primals, tangents = operands(), operands(seed=1)
    op = functools.partial(example.attention, causal=True, block=2)
    gradient = jax.jit(jax.grad(lambda *primals: jnp.sum(jnp.sin(op(*primals))), (0, 1, 2)))
    truth = along(gradient, primals, tangents)
    jax.tree.map(close, jax.jvp(gradient, primals, tangents)[1], truth)
    jax.tree.map(close, jax.vjp(gradient, *primals)[1](tangents), truth)


def test_which_kernels_run(example):
    """Forward mode runs the tangent kernel and reverse mode the pullback; the matrix has no other source."""
    primals = operands()
    op = functools.partial(example.attention, block=2)
    gradient = jax.grad(lambda q: jnp.sum(op(q, *primals[1:]) ** 2))

    def ran(function, *operands):
        with jaxprim.record_rules(quiet=True) as record:
            jax.jit(function).lower(*operands)
        return {name: count for (name, rule, _), count in record.counts.items() if rule == "kernel[cpu]"}

    assert ran(lambda q: jax.jvp(lambda q: op(q, *primals[1:]), (q,), (q,)), primals[0]).keys() == {
        "flash",
        "flash_tangent",
    }
    assert ran(lambda q: gradient(q), primals[0]).keys() == {"flash", "flash_pullback"}


def test_heads_and_batches(example):
    q, k, v = (np.stack([x, x - 1, 2 * x]) for x in operands())
    op = functools.partial(example.attention, causal=True, block=2)
    close(jax.jit(jax.vmap(op))(q, k, v), [dense(*one, True)[0] for one in zip(q, k, v, strict=True)])
    shared = jax.vmap(jax.vmap(op, (0, None, None)), (None, 1, 1))(q, np.stack(k, 1), np.stack(v, 1))
    close(shared[1, 2], dense(q[2], k[1], v[1], True)[0])


def test_the_matrix_never_exists(example):
    n = 256
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(n, 4)).astype("float32") for _ in range(3))
    loss = lambda q: jnp.sum(example.attention(q, k, v, causal=True, block=16) ** 2)
    memory = lambda fn: jax.jit(fn).lower(q).compile().memory_analysis().temp_size_in_bytes
    assert memory(lambda q: jax.jvp(jax.grad(loss), (q,), (q,))[1]) < 4 * n * n


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")
def test_the_kernels_compile_for_gpus(example):
    q = np.ones((64, 32), np.float32)
    op = functools.partial(example.attention, causal=True, block=32)
    both = lambda q: (jax.grad(lambda q: jnp.sum(op(q, q, q)))(q), jax.jvp(lambda q: op(q, q, q), (q,), (q,)))
    with jax.enable_x64(False), a_gpu():
        program = jax.jit(both).trace(q).lower(lowering_platforms=("cuda",)).as_text()
    assert program.count("flash_kernel") >= 1
    assert all(name in program for name in ("tangent_kernel", "pullback_of_queries", "pullback_of_keys"))


def a_gpu():
    """JAX 0.11 wants to know which GPU it compiles for, where there is none."""
    kind = getattr(jax.sharding, "AbstractDevice", None)
    if kind is None:
        return contextlib.nullcontext()
    device = kind(device_kind="NVIDIA H100 80GB HBM3", num_cores=132, platform="cuda")
    return jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), (), abstract_device=device))


def test_what_does_not_fit_is_refused(example):
    q, k, v = operands(keys=6)
    with pytest.raises(TypeError, match="4 queries and 6 keys do not fit block=4, causal=False"):
        example.attention(q, k, v, block=4)
    with pytest.raises(TypeError, match="do not fit block=2, causal=True"):
        example.attention(q, k, v, block=2, causal=True)


def test_check(example):
    with jax.enable_x64(False):
        assert example.flash.check(speed="fast").ok
