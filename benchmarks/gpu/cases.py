"""The kernels of the GPU's benchmark, twice: as jaxprim takes them, and in handlers that are written and registered by hand.

There is a CUDA and a C++ version of each, so that all but the GPU itself is tested where there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim import Primitive, kernels
from jaxprim.kernels import Kernel, build
from jaxprim.kernels.languages import CPP, CUDA, Language
from jaxprim.kernels.source import Source

PARTS = 256  # rows of the partial sums for the cotangent of `w`, each of which some rows of `x` add to

CPP_SOURCE = """
#include <cmath>
#include <cstdint>
#include <stdexcept>

void axpy(const float* x, float a, int64_t n, float* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = a * x[i] + 1;
}
void forward(const float* x, const float* w, float eps, int64_t n, int64_t d, float* y) {
  for (int64_t i = 0; i < n; ++i, x += d, y += d) {
    float square = 0;
    for (int64_t j = 0; j < d; ++j) square += x[j] * x[j];
    const float r = 1 / std::sqrt(square / d + eps);
    for (int64_t j = 0; j < d; ++j) y[j] = r * x[j] * w[j];
  }
}
void backward(const float* g, const float* x, const float* w, float eps, int64_t n, int64_t d, float* x_bar, float* w_bar) {
  for (int64_t k = 0; k < 256 * d; ++k) w_bar[k] = 0;
  for (int64_t i = 0; i < n; ++i, g += d, x += d, x_bar += d) {
    float square = 0, along = 0;
    for (int64_t j = 0; j < d; ++j) square += x[j] * x[j], along += g[j] * w[j] * x[j];
    const float r = 1 / std::sqrt(square / d + eps), c = r * r * r * along / d;
    for (int64_t j = 0; j < d; ++j) {
      x_bar[j] = r * w[j] * g[j] - c * x[j];
      w_bar[i % 256 * d + j] += r * x[j] * g[j];
    }
  }
}
void slow(const float* x, int64_t n, float* y) { axpy(x, 2, n, y); }
void refuse(const float* x, int32_t bad, int64_t n, float* y) {
  if (bad) throw std::runtime_error("this kernel throws");
  axpy(x, 0.5f, n, y);
}
"""

CUDA_SOURCE = """
#include <cstdint>
#include <stdexcept>
#include <cuda_runtime.h>

__global__ void axpy_each(const float* x, float a, int64_t n, float* y) {
  const int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (i < n) y[i] = a * x[i] + 1;
}
void axpy(const float* x, float a, int64_t n, float* y, cudaStream_t stream) {
  if (n > 0) axpy_each<<<(n + 255) / 256, 256, 0, stream>>>(x, a, n, y);
}

// The sums of two numbers over the 256 threads of a block, for all of them.
__device__ float2 block_sum(float2 v) {
  __shared__ float2 parts[8];
  for (int k = 16; k > 0; k /= 2) {
    v.x += __shfl_down_sync(0xffffffffu, v.x, k);
    v.y += __shfl_down_sync(0xffffffffu, v.y, k);
  }
  __syncthreads();  // the sums before this one have been read
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = v;
  __syncthreads();
  v = parts[0];
  for (int k = 1; k < 8; ++k) v.x += parts[k].x, v.y += parts[k].y;
  return v;
}
__global__ void forward_rows(const float* x, const float* w, float eps, int64_t d, float* y) {
  const float* row = x + blockIdx.x * d;
  float2 sum{0, 0};
  for (int64_t j = threadIdx.x; j < d; j += 256) sum.x += row[j] * row[j];
  const float r = rsqrtf(block_sum(sum).x / d + eps);
  for (int64_t j = threadIdx.x; j < d; j += 256) y[blockIdx.x * d + j] = r * row[j] * w[j];
}
void forward(const float* x, const float* w, float eps, int64_t n, int64_t d, float* y, cudaStream_t stream) {
  if (n > 0) forward_rows<<<n, 256, 0, stream>>>(x, w, eps, d, y);
}
// Each block takes every 256th row, and adds up its own part of w_bar.
__global__ void backward_rows(const float* g, const float* x, const float* w, float eps, int64_t n, int64_t d,
                              float* x_bar, float* w_bar) {
  float* part = w_bar + blockIdx.x * d;
  for (int64_t j = threadIdx.x; j < d; j += 256) part[j] = 0;
  for (int64_t i = blockIdx.x; i < n; i += 256) {
    const float *gi = g + i * d, *xi = x + i * d;
    float2 sum{0, 0};
    for (int64_t j = threadIdx.x; j < d; j += 256) sum.x += xi[j] * xi[j], sum.y += gi[j] * w[j] * xi[j];
    sum = block_sum(sum);
    const float r = rsqrtf(sum.x / d + eps), c = r * r * r * sum.y / d;
    for (int64_t j = threadIdx.x; j < d; j += 256) {
      x_bar[i * d + j] = r * w[j] * gi[j] - c * xi[j];
      part[j] += r * xi[j] * gi[j];
    }
  }
}
void backward(const float* g, const float* x, const float* w, float eps, int64_t n, int64_t d, float* x_bar, float* w_bar,
              cudaStream_t stream) {
  backward_rows<<<256, 256, 0, stream>>>(g, x, w, eps, n, d, x_bar, w_bar);
}
// It works for about 20 ms, so that what does not wait for its stream reads numbers that are not there yet.
__global__ void slow_each(const float* x, int64_t n, float* y) {
  const long long start = clock64();
  while (clock64() - start < 30000000) {}
  const int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (i < n) y[i] = 2 * x[i] + 1;
}
void slow(const float* x, int64_t n, float* y, cudaStream_t stream) {
  slow_each<<<(n + 255) / 256, 256, 0, stream>>>(x, n, y);
}
void refuse(const float* x, int32_t bad, int64_t n, float* y, cudaStream_t stream) {
  if (bad) throw std::runtime_error("this kernel throws");
  axpy(x, 0.5f, n, y, stream);
}
// No GPU has blocks of 4,096 threads.
void too_large(const float* x, int64_t n, float* y, cudaStream_t stream) { slow_each<<<1, 4096, 0, stream>>>(x, n, y); }
"""

HANDLERS = """
#include "xla/ffi/api/ffi.h"
namespace ffi = xla::ffi;
using In = ffi::Buffer<ffi::F32>;
using Out = ffi::ResultBuffer<ffi::F32>;

static ffi::Error Axpy(@STREAM In x, float a, Out y) {
  axpy(x.typed_data(), a, x.element_count(), y->typed_data() @PASS);
  return ffi::Error::Success();
}
static ffi::Error Forward(@STREAM In x, In w, float eps, Out y) {
  forward(x.typed_data(), w.typed_data(), eps, x.dimensions()[0], x.dimensions()[1], y->typed_data() @PASS);
  return ffi::Error::Success();
}
static ffi::Error Backward(@STREAM In g, In x, In w, float eps, Out x_bar, Out w_bar) {
  backward(g.typed_data(), x.typed_data(), w.typed_data(), eps, x.dimensions()[0], x.dimensions()[1], x_bar->typed_data(),
           w_bar->typed_data() @PASS);
  return ffi::Error::Success();
}
XLA_FFI_DEFINE_HANDLER_SYMBOL(AxpyHandler, Axpy, ffi::Ffi::Bind()@CONTEXT.Arg<In>().Attr<float>("a").Ret<In>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(ForwardHandler, Forward,
    ffi::Ffi::Bind()@CONTEXT.Arg<In>().Arg<In>().Attr<float>("eps").Ret<In>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(BackwardHandler, Backward,
    ffi::Ffi::Bind()@CONTEXT.Arg<In>().Arg<In>().Arg<In>().Attr<float>("eps").Ret<In>().Ret<In>());
"""
ON_STREAM = {
    "@STREAM": "cudaStream_t stream,",
    "@PASS": ", stream",
    "@CONTEXT": ".Ctx<ffi::PlatformStream<cudaStream_t>>()",
}
SIGNATURES = {
    "axpy": "(x: f32[n]; a: f32) -> f32[n]",
    "forward": "(x: f32[n, d], w: f32[d]; eps: f32) -> f32[n, d]",
    "backward": f"(g: f32[n, d], x: f32[n, d], w: f32[d]; eps: f32) -> (x_bar: f32[n, d], w_bar: f32[{PARTS}, d])",
    "slow": "(x: f32[n]) -> f32[n]",
    "refuse": "(x: f32[n]; bad: i32) -> f32[n]",
}


@dataclass(frozen=True)
class Platform:
    """What is measured, for one platform."""

    name: str
    language: Language
    source: str
    kernel: Callable[..., Kernel]
    flags: tuple[str, ...] = ()

    def handlers(self) -> Source:
        """The source of the handlers by hand."""
        text = HANDLERS
        for word, meaning in ON_STREAM.items():
            text = text.replace(word, meaning if self.language is CUDA else "")
        names = ("AxpyHandler", "ForwardHandler", "BackwardHandler")
        return Source("by_hand", self.source + text, self.language, flags=self.flags, exports=names)


PLATFORMS = {
    "cpu": Platform("cpu", CPP, CPP_SOURCE, kernels.cpp),
    "cuda": Platform("cuda", CUDA, CUDA_SOURCE, kernels.cuda, ("-arch=native",)),
}


class Cases:
    """The kernels of a platform, each compiled when it is first used."""

    def __init__(self, platform: Platform) -> None:
        signatures = SIGNATURES | ({"too_large": SIGNATURES["slow"]} if platform.language is CUDA else {})
        make = lambda name: platform.kernel(platform.source, signatures[name], function=name, flags=platform.flags)
        self.platform, self.kernels = platform, {name: make(name) for name in signatures}

    def compile_all(self) -> None:
        """Compile everything at once: nvcc takes several seconds for each."""
        with ThreadPoolExecutor() as pool:
            pool.submit(self.register_by_hand)
            list(pool.map(lambda kernel: kernel.build(), self.kernels.values()))

    @cache  # noqa: B019 (there is one for each platform)
    def register_by_hand(self) -> None:
        library, _ = build.library(self.platform.handlers())
        for name in ("Axpy", "Forward", "Backward"):
            capsule = jax.ffi.pycapsule(getattr(library, f"{name}Handler"))
            jax.ffi.register_ffi_target(f"bench.{name}", capsule, platform=self.platform.language.xla_platform)

    # ---------------------------------------------------------------------------------------------------------- axpy
    def axpy(self, x: Any) -> Any:
        return self.kernels["axpy"](x, a=0.5)

    def axpy_by_hand(self, x: Any) -> Any:
        self.register_by_hand()
        return jax.ffi.ffi_call("bench.Axpy", jax.ShapeDtypeStruct(x.shape, x.dtype))(x, a=np.float32(0.5))

    # ------------------------------------------------------------------------------------------------------- RMSNorm
    def rms_norm(self) -> Any:
        op = Primitive("rms_norm")
        op.def_impl(lambda x, w: self.kernels["forward"](x, w, eps=1e-6))

        @op.def_vjp
        def _(primals: Any) -> Any:
            x, w = primals

            def pullback(g: Any) -> Any:
                x_bar, parts = self.kernels["backward"](jnp.asarray(g), x, w, eps=1e-6)
                return x_bar, jnp.sum(parts, 0)

            return op(x, w), pullback

        return op

    def rms_norm_by_hand(self) -> Any:
        self.register_by_hand()
        eps = np.float32(1e-6)
        like = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)
        op = jax.custom_vjp(lambda x, w: jax.ffi.ffi_call("bench.Forward", like(*x.shape))(x, w, eps=eps))

        def pullback(residuals: Any, g: Any) -> Any:
            x, w = residuals
            out = like(*x.shape), like(PARTS, w.size)
            x_bar, parts = jax.ffi.ffi_call("bench.Backward", out)(g, x, w, eps=eps)
            return x_bar, jnp.sum(parts, 0)

        op.defvjp(lambda x, w: (op(x, w), (x, w)), pullback)
        return op


def rms_norm_in_jax(x: Any, w: Any) -> Any:
    """The same formula, as XLA compiles it."""
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6) * w
