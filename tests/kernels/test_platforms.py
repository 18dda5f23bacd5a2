"""CUDA, Pallas, Triton, and the choice among several kernels."""

from __future__ import annotations

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.experimental import pallas as pl
from jax.extend.core import Primitive as JaxPrimitive
from jax.interpreters import mlir
from tools import cxx, gpu, needs, no_gpu, nvcc

import jaxprim
from jaxprim import KernelError, Primitive, RuleMissing, kernels

CUDA = """
__global__ void scale_each(const float* x, float a, int64_t n, float* out) {
  const int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (i < n) out[i] = a * x[i];
}

void scale(const float* x, float a, int64_t n, float* out, cudaStream_t stream) {
  scale_each<<<(n + 255) / 256, 256, 0, stream>>>(x, a, n, out);
}
"""
on_cuda = kernels.cuda(CUDA, "scale(x: f32[n]; a: f32) -> f32[n]", flags=("-arch=sm_80",))
on_cpu = kernels.cpp(
    "void scale(const float* x, float a, int64_t n, float* out) { for (int64_t i = 0; i < n; ++i) out[i] = a * x[i]; }",
    "scale(x: f32[n]; a: f32) -> f32[n]",
)


@pytest.fixture
def scale():
    p = Primitive("scale")
    p.def_impl(lambda x, *, a: a * x)
    p.def_kernel(on_cpu, platform="cpu")
    p.def_kernel(on_cuda, platform="cuda")
    return p


def custom_calls(exported):
    return re.findall(r"custom_call @(jaxprim\S*?)\.[0-9a-f]+\(", exported.mlir_module())


# -------------------------------------------------------------------------------------------------------------- cuda
@nvcc
def test_cuda_compiles_without_a_gpu():
    on_cuda.build()


@nvcc
def test_cudas_compile_errors_are_told():
    with pytest.raises(KernelError, match="broken: it does not compile"):
        kernels.cuda(
            "void broken(const float* x, float* out, cudaStream_t s) { x y }", "broken(f32[]) -> f32[]"
        ).build()


@nvcc
@gpu
def test_cuda_runs_on_xlas_stream():
    x = jnp.arange(1000, dtype=jnp.float32)
    got = jax.jit(lambda x: on_cuda(on_cuda(x + 1, a=2) * 2, a=3))(jax.device_put(x, jax.devices("cuda")[0]))
    np.testing.assert_allclose(got, (np.arange(1000) + 1) * 12)


def test_cuda_passes_no_numbers_by_value():
    with pytest.raises(KernelError, match="a CUDA kernel cannot pass 'a' by value"):
        kernels.cuda(CUDA, "scale(x: f32[n], a: f32) -> f32[n]")


@no_gpu
def test_a_kernel_for_another_platform_is_named():
    with pytest.raises(RuleMissing, match="scale: not registered for cpu; registered: cuda"):
        on_cuda(np.ones(3, np.float32), a=2)


# ------------------------------------------------------------------------------------------------------ several kernels
@cxx
def test_each_platform_gets_its_own(scale):
    x = np.ones(3, np.float32)
    assert scale(x, a=2.0).tolist() == [2, 2, 2]
    lowered = jax.jit(partial(scale, a=2.0)).trace(x).lower(lowering_platforms=("cpu",)).as_text()
    assert "jaxprim.scale" in lowered
    on_tpu = jax.jit(partial(scale, a=2.0)).trace(x).lower(lowering_platforms=("tpu",)).as_text()
    assert "jaxprim.scale" not in on_tpu


def test_a_result_that_all_elements_share_though_the_kernel_batches_it():
    pair = Primitive("pair")
    pair.def_impl(lambda x, w: (x + 1, x * w))
    pair.def_kernel(lambda x, w: (x + 0 * w + 1, x * w), platform="cpu")
    shared, product = jax.vmap(pair, (None, 0), (None, 0))(jnp.float32(2), jnp.arange(3.0))
    assert shared == 3
    assert product.tolist() == [0, 2, 4]


@cxx
def test_explain_says_where_a_kernel_was_made():
    twice = Primitive("twice")
    twice.def_kernel(kernels.cpp("void twice(const float* x, float* y) { *y = 2 * *x; }", "twice(x: f32[]) -> f32[]"),
                     platform="cpu")  # fmt: skip
    assert re.search(r"kernel\[cpu\] +given +tests/kernels/test_platforms.py:\d+", str(twice.explain()))


@cxx
@nvcc
def test_export_for_several_platforms(scale):
    allowed = [*on_cpu.export_checks(), *on_cuda.export_checks()]
    exported = export.export(jax.jit(partial(scale, a=2.0)), platforms=("cpu", "cuda", "tpu"), disabled_checks=allowed)(
        np.ones(3, np.float32)
    )
    assert len(custom_calls(exported)) == 2
    assert exported.call(np.ones(3, np.float32)).tolist() == [2, 2, 2]


# ------------------------------------------------------------------------------------------------------------- pallas
def row_softmax(x_ref, out_ref):
    x = x_ref[...]
    shifted = jnp.exp(x - jnp.max(x, -1, keepdims=True))
    out_ref[...] = shifted / jnp.sum(shifted, -1, keepdims=True)


def softmax_kernel(x, *, interpret):
    block = pl.BlockSpec((1, x.shape[-1]), lambda i: (i, 0))
    return pl.pallas_call(
        row_softmax,
        out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype),
        grid=(x.shape[0],),
        in_specs=[block],
        out_specs=block,
        interpret=interpret,
    )(x)


@pytest.fixture
def softmax():
    p = Primitive("softmax")
    p.def_kernel(lambda x: softmax_kernel(x, interpret=True), platform="cpu")
    for platform in ("cuda", "tpu"):
        p.def_kernel(lambda x: softmax_kernel(x, interpret=False), platform=platform)

    @p.def_jvp
    def _(primals, tangents):
        y, x_dot = p(*primals), tangents[0]
        return y, y * (x_dot - jnp.sum(y * x_dot, -1, keepdims=True))

    return p


@pytest.mark.usefixtures("jax_defaults")
def test_pallas_in_interpret_mode(softmax):
    x = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
    np.testing.assert_allclose(softmax(x), jax.nn.softmax(x, -1), rtol=1e-5)
    batched = jax.vmap(softmax, 1, 1)(np.stack([x, 2 * x], 1))
    np.testing.assert_allclose(batched[:, 1], jax.nn.softmax(2 * x, -1), rtol=1e-5)
    loss = lambda f: lambda x: (f(x) ** 2).sum()
    expected = jax.hessian(loss(lambda x: jax.nn.softmax(x, -1)))(x)
    np.testing.assert_allclose(jax.hessian(loss(softmax))(x), expected, atol=1e-5)


@pytest.mark.usefixtures("jax_defaults")
def test_pallas_passes_the_check(softmax):
    x = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
    assert jaxprim.report(softmax, x).ok


# ------------------------------------------------------------------------------------------------------------- triton
triton_call_p = JaxPrimitive("triton_kernel_call")
triton_call_p.def_abstract_eval(lambda x, y: x)
mlir.register_lowering(triton_call_p, mlir.lower_fun(lambda x, y: x + y, multiple_results=False))


def test_a_call_like_that_of_triton():
    """A stand-in for ``jax_triton.triton_call``: a JAX primitive without rules for batches and derivatives."""
    add = Primitive("add", batching="broadcast_all")
    add.def_kernel(lambda x, y: triton_call_p.bind(x, y), platform="cpu")
    add.def_impl(lambda x, y: x + y)
    add.def_jvp(lambda primals, tangents: (add(*primals), tangents[0] + tangents[1]))
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(jax.vmap(add, (0, None))(x, x[0]), x + x[0])
    np.testing.assert_array_equal(jax.grad(lambda x: (jax.vmap(add)(x, x) ** 2).sum())(x), 8 * x)
    assert jaxprim.report(add, x, x).ok
    mesh = jax.make_mesh((2,), ("i",), (jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("i")
    on_each = jax.shard_map(lambda x: add(x, x), mesh=mesh, in_specs=spec, out_specs=spec)
    np.testing.assert_array_equal(jax.jit(on_each)(x), 2 * x)


@needs("jax_triton")
@gpu
def test_triton():
    import jax_triton
    import triton
    import triton.language as tl

    @triton.jit
    def add_kernel(x_ptr, y_ptr, out_ptr, n: tl.constexpr, block: tl.constexpr):
        at = tl.program_id(0) * block + tl.arange(0, block)
        inside = at < n
        tl.store(out_ptr + at, tl.load(x_ptr + at, mask=inside) + tl.load(y_ptr + at, mask=inside), mask=inside)

    add = Primitive("add", batching="broadcast_all")
    add.def_impl(lambda x, y: x + y)

    @add.def_kernel(platform="cuda")
    def _(x, y):
        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        grid = (triton.cdiv(x.size, 256),)
        return jax_triton.triton_call(x, y, kernel=add_kernel, out_shape=shape, grid=grid, n=x.size, block=256)

    x = jax.device_put(jnp.arange(1000, dtype=jnp.float32), jax.devices("cuda")[0])
    np.testing.assert_array_equal(jax.jit(add)(x, x), 2 * np.arange(1000))
