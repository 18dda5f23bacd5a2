"""The same kernels twice: as jaxprim takes them, and as handlers for XLA's FFI that are written, compiled and registered by hand."""

from __future__ import annotations

import ctypes
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim import Primitive, kernels
from jaxprim.kernels import build

AXPY = """
#include <cstdint>
extern "C" void axpy(const float* x, float a, int64_t n, float* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = a * x[i] + 1;
}
"""
RMS_NORM = """
#include <cmath>
#include <cstdint>
static void rms_norm(const float* x, const float* w, float eps, int64_t d, float* y) {
  float sum = 0;
  for (int64_t j = 0; j < d; ++j) sum += x[j] * x[j];
  const float r = 1 / std::sqrt(sum / d + eps);
  for (int64_t j = 0; j < d; ++j) y[j] = x[j] * r * w[j];
}
static void rms_norm_back(const float* x, const float* w, const float* g, float eps, int64_t d, float* x_bar, float* w_bar) {
  float squares = 0, dot = 0;
  for (int64_t j = 0; j < d; ++j) squares += x[j] * x[j];
  const float r = 1 / std::sqrt(squares / d + eps);
  for (int64_t j = 0; j < d; ++j) dot += g[j] * w[j] * x[j] * r;
  for (int64_t j = 0; j < d; ++j) {
    x_bar[j] = r * (g[j] * w[j] - x[j] * r * dot / d);
    w_bar[j] = g[j] * x[j] * r;
  }
}
"""
ADD_AT = """
#include <algorithm>
void add_at(%s const int32_t* at, const float* v, int64_t n, int64_t k, float* y) {
  %s
  for (int64_t j = 0; j < k; ++j) if (at[j] >= 0 && at[j] < n) y[at[j]] += v[j];
}
"""
CHOLESKY = """
#include <cmath>
#include <vector>
struct Factors {
  std::vector<float> l;
  Factors(const float* a, int64_t n) : l(a, a + n * n) {
    for (int64_t j = 0; j < n; ++j)
      for (int64_t i = j; i < n; ++i) {
        float sum = l[i * n + j];
        for (int64_t k = 0; k < j; ++k) sum -= l[i * n + k] * l[j * n + k];
        l[i * n + j] = i == j ? std::sqrt(sum) : sum / l[j * n + j];
      }
  }
};
void solve(Factors& f, const float* b, int64_t n, float* x) {
  for (int64_t i = 0; i < n; ++i) {
    x[i] = b[i];
    for (int64_t k = 0; k < i; ++k) x[i] -= f.l[i * n + k] * x[k];
    x[i] /= f.l[i * n + i];
  }
  for (int64_t i = n - 1; i >= 0; --i) {
    for (int64_t k = i + 1; k < n; ++k) x[i] -= f.l[k * n + i] * x[k];
    x[i] /= f.l[i * n + i];
  }
}
"""
HANDLERS = """
#include "xla/ffi/api/ffi.h"
namespace ffi = xla::ffi;
using In = ffi::Buffer<ffi::F32>;
using Out = ffi::ResultBuffer<ffi::F32>;

static ffi::Error Axpy(In x, float a, Out y) {
  axpy(x.typed_data(), a, x.element_count(), y->typed_data());
  return ffi::Error::Success();
}
XLA_FFI_DEFINE_HANDLER_SYMBOL(AxpyHandler, Axpy, ffi::Ffi::Bind().Arg<In>().Attr<float>("a").Ret<In>());

static ffi::Error Forward(In x, In w, float eps, Out y) {
  const int64_t d = w.element_count(), n = x.element_count() / d;
  for (int64_t i = 0; i < n; ++i) rms_norm(x.typed_data() + i * d, w.typed_data(), eps, d, y->typed_data() + i * d);
  return ffi::Error::Success();
}
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    ForwardHandler, Forward, ffi::Ffi::Bind().Arg<In>().Arg<In>().Attr<float>("eps").Ret<In>());

static ffi::Error Backward(In x, In w, In g, float eps, Out x_bar, Out w_bar) {
  const int64_t d = w.element_count(), n = x.element_count() / d;
  for (int64_t i = 0; i < n; ++i)
    rms_norm_back(x.typed_data() + i * d, w.typed_data(), g.typed_data() + i * d, eps, d, x_bar->typed_data() + i * d,
                  w_bar->typed_data() + i * d);
  return ffi::Error::Success();
}
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    BackwardHandler, Backward,
    ffi::Ffi::Bind().Arg<In>().Arg<In>().Arg<In>().Attr<float>("eps").Ret<In>().Ret<In>());
"""


# --------------------------------------------------------------------------------------------------------- by hand
def library() -> ctypes.CDLL:
    """The handlers, registered by hand."""
    made, _ = build.library(build.Source("by_hand", AXPY + RMS_NORM + HANDLERS))
    for name in ("AxpyHandler", "ForwardHandler", "BackwardHandler"):
        jax.ffi.register_ffi_target(f"by_hand.{name}", jax.ffi.pycapsule(getattr(made, name)), platform="cpu")
    return made


def axpy_by_hand(x: Any) -> Any:
    return jax.ffi.ffi_call("by_hand.AxpyHandler", jax.ShapeDtypeStruct(x.shape, x.dtype))(x, a=np.float32(0.5))


@jax.custom_vjp
def rms_norm_by_hand(x: Any, w: Any) -> Any:
    out = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return jax.ffi.ffi_call("by_hand.ForwardHandler", out)(x, w, eps=np.float32(1e-6))


def _backward_by_hand(residuals: Any, g: Any) -> Any:
    x, w = residuals
    out = jax.ShapeDtypeStruct(x.shape, x.dtype)
    x_bar, w_bar = jax.ffi.ffi_call("by_hand.BackwardHandler", (out, out))(x, w, g, eps=np.float32(1e-6))
    return x_bar, jnp.sum(w_bar, 0)


rms_norm_by_hand.defvjp(lambda x, w: (rms_norm_by_hand(x, w), (x, w)), _backward_by_hand)


# --------------------------------------------------------------------------------------------------------- jaxprim
def axpy_cpp() -> Any:
    kernel = kernels.cpp(AXPY, "(x: f32[n]; a: f32) -> f32[n]")
    return lambda x: kernel(x, a=0.5)


def axpy_pointer(made: ctypes.CDLL) -> Any:
    kernel = kernels.c_function(made.axpy, "(x: f32[n]; a: f32) -> f32[n]")
    return lambda x: kernel(x, a=0.5)


def axpy_numba() -> Any:
    def axpy(x, a, y):
        for i in range(len(x)):
            y[i] = a * x[i] + 1

    kernel = kernels.numba(axpy, "(x: T[n]; a: T) -> T[n]")
    return lambda x: kernel(x, a=0.5)


def add_at(aliases: dict[str, str] | None) -> Any:
    """Add to some places of x: in its memory, or in a copy that the kernel makes."""
    source = ADD_AT % (("", "") if aliases else ("const float* x,", "std::copy(x, x + n, y);"))
    return kernels.cpp(source, "add_at(x: f32[n], at: i32[k], v: f32[k]) -> y: f32[n]", aliases=aliases)


def cholesky_solve(most: int) -> Primitive:
    """Solve with a positive definite matrix, whose factors are kept between calls, or made anew if `most` is 0."""
    signature = "solve(a: f32[..., n, n], b: f32[..., n]) -> x: f32[..., n]"
    op = Primitive("solve")
    op.def_impl(kernels.cpp(CHOLESKY, signature, keep="Factors(a)", most=most))

    @op.def_jvp
    def _(primals, tangents):
        (a, b), (a_dot, b_dot) = primals, tangents
        x = op(a, b)
        return x, op(a, jnp.asarray(b_dot) - jnp.asarray(a_dot) @ x)

    op.def_transpose(lambda x_bar, a: op(a, x_bar), linear="b")
    return op


def rms_norm() -> Primitive:
    forward = kernels.cpp(RMS_NORM, "rms_norm(x: f32[..., d], w: f32[d]; eps: f32) -> f32[..., d]")
    backward = kernels.cpp(
        RMS_NORM,
        "rms_norm_back(x: f32[..., d], w: f32[d], g: f32[..., d]; eps: f32) -> (x_bar: f32[..., d], w_bar: f32[..., d])",
    )
    op = Primitive("rms_norm")
    op.def_impl(lambda x, w: forward(x, w, eps=1e-6))

    @op.def_vjp
    def _(primals):
        x, w = primals

        def pullback(g):
            x_bar, w_bar = backward(x, w, jnp.asarray(g), eps=1e-6)
            return x_bar, jnp.sum(w_bar, 0)

        return op(x, w), pullback

    return op
