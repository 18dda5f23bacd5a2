"""RMSNorm in C++, forward and backward: `y = r x w` with `r = (mean(x^2) + eps)^(-1/2)` for each row of `x`.

With `g` the cotangent of `y`, and sums over the `d` elements of a row,

    dr     = -r^3 / d  sum_j x_j dx_j
    y_dot  = r w x_dot + r x w_dot + x w r_dot                          (JVP)
    x_bar  = r w g - x r^3 / d  sum_j g_j w_j x_j                       (VJP)
    w_bar  = sum over rows of  r x g

The backward kernel's first pass over a row must read `x` for that last sum. So it computes `r` again on the way, which is
cheaper than to keep it, and the only residuals are the operands.

Each operation has an impl in JAX beside its kernel. It is what runs on other platforms, what `check` compares the kernel
with, and what JAX differentiates for second derivatives: of them, only the outer derivative leaves C++.

Run it with `python examples/gallery/rms_norm.py`, or check it with `jaxprim check examples/gallery/rms_norm.py`.
"""

import ctypes
import functools
import subprocess
import tempfile
import timeit
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim import Example, Primitive, kernels

SOURCE = """
#include <cmath>

template <class T>
void rms_norm(const T* x, const T* w, double eps, int64_t n, int64_t d, T* y) {
  for (int64_t i = 0; i < n; ++i, x += d, y += d) {
    T square = 0;
    for (int64_t j = 0; j < d; ++j) square += x[j] * x[j];
    const T r = 1 / std::sqrt(square / d + T(eps));
    for (int64_t j = 0; j < d; ++j) y[j] = r * x[j] * w[j];
  }
}

template <class T>
void rms_norm_backward(const T* g, const T* x, const T* w, double eps, int64_t n, int64_t d, T* x_bar, T* w_bar) {
  std::fill(w_bar, w_bar + d, T(0));
  for (int64_t i = 0; i < n; ++i, g += d, x += d, x_bar += d) {
    T square = 0, along = 0;
    for (int64_t j = 0; j < d; ++j) square += x[j] * x[j], along += g[j] * w[j] * x[j];
    const T r = 1 / std::sqrt(square / d + T(eps));
    const T c = r * r * r * along / d;
    for (int64_t j = 0; j < d; ++j) {
      x_bar[j] = r * w[j] * g[j] - c * x[j];
      w_bar[j] += r * x[j] * g[j];
    }
  }
}
"""
# With them the compiler adds up a row in vector registers, of the size that the processor has. A row with a NaN or an
# infinity still gives NaN, because the kernels do not ask for them.
FAST = {"fast_math": True, "native": True}

rms_norm = Primitive("rms_norm")
rms_norm_backward = Primitive("rms_norm_backward")


# ------------------------------------------------------------------------------------------------------------- values
def inverse_rms(x, eps):
    return jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + eps)


@rms_norm.def_impl
def _(x, w, *, eps=1e-6):
    """`x` is `[n, d]`, `w` is `[d]`."""
    return inverse_rms(x, eps) * x * w[None]


@rms_norm_backward.def_impl
def _(g, x, w, *, eps=1e-6):
    r = inverse_rms(x, eps)
    along = jnp.mean(g * w[None] * x, -1, keepdims=True)
    return r * w[None] * g - r**3 * along * x, jnp.sum(r * x * g, 0)


# Rows may be split over devices. Backwards, each device sums its part of the cotangent of `w`.
rms_norm.def_sharding("n d, d -> n d", replicated="d")
rms_norm_backward.def_sharding("n d, n d, d -> n d, d", reduced="n", replicated="d")


def in_single(kernel):
    """The kernel, in float32 for operands in half precision, of which C++ would get the bits alone."""

    def call(x, *others, **attributes):
        if x.dtype.itemsize > 2:
            return kernel(x, *others, **attributes)
        operands = [y.astype(jnp.float32) if y.dtype == x.dtype else y for y in (x, *others)]
        return jax.tree.map(lambda out: out.astype(x.dtype), kernel(*operands, **attributes))

    return call


rms_norm_kernel = kernels.cpp(
    SOURCE, "rms_norm(x: T[..., n, d], w: T[d]; eps: f64) -> T[..., n, d]", threads=None, **FAST
)
rms_norm_backward_kernel = kernels.cpp(
    SOURCE,
    "rms_norm_backward(g: T[..., n, d], x: T[..., n, d], w: T[d]; eps: f64) -> (x_bar: T[..., n, d], w_bar: T[..., d])",
    threads=None,
    **FAST,
)


def in_blocks(x):
    """The rows of `x` in blocks, for XLA's threads: as many as divide them, up to 16, of 65,536 numbers or more."""
    n, d = x.shape
    most = max(1, min(16, n * d // 2**16))
    return x.reshape(next(k for k in range(most, 0, -1) if n % k == 0), -1, d)


@rms_norm.def_kernel(platform="cpu")
def _(x, w, *, eps=1e-6):
    return in_single(rms_norm_kernel)(in_blocks(x), w, eps=eps).reshape(x.shape)


@rms_norm_backward.def_kernel(platform="cpu")
def _(g, x, w, *, eps=1e-6):
    x_bar, w_bar = in_single(rms_norm_backward_kernel)(in_blocks(g), in_blocks(x), w, eps=eps)
    return x_bar.reshape(x.shape), jnp.sum(w_bar, 0)


# -------------------------------------------------------------------------------------------------------------- rules
@rms_norm.def_jvp
def _(primals, tangents, *, eps):
    (x, w), (x_dot, w_dot) = primals, tangents
    r = inverse_rms(x, eps)
    r_dot = -(r**3) * (x * x_dot).mean(-1, keepdims=True)
    return rms_norm(x, w, eps=eps), r * w[None] * x_dot + r * x * w_dot[None] + x * w[None] * r_dot


@rms_norm.def_vjp
def _(primals, *, eps):
    x, w = primals
    return rms_norm(x, w, eps=eps), lambda g: rms_norm_backward(g, x, w, eps=eps)


@rms_norm.def_examples
def _():
    x = jnp.array([[0.5, -1.0, 2.0], [3.0, 0.25, -0.125]])
    return [Example((x, jnp.array([1.0, 0.5, -2.0])), {"eps": 1e-3})]


@rms_norm_backward.def_examples
def _():
    x = jnp.array([[0.5, -1.0, 2.0], [3.0, 0.25, -0.125]])
    return [Example((x[::-1] - 1, x, jnp.array([1.0, 0.5, -2.0])), {"eps": 1e-3})]


# ----------------------------------------------------------------------------- the same without jaxprim, for comparison
BY_HAND = """
#include <algorithm>
#include <cstdint>
#include "xla/ffi/api/ffi.h"
namespace ffi = xla::ffi;
using Array = ffi::Buffer<ffi::F32>;
using Result = ffi::ResultBuffer<ffi::F32>;
%s
ffi::Error Forward(Array x, Array w, double eps, Result y) {
  const auto shape = x.dimensions();
  if (shape.size() != 2 || w.element_count() != shape[1]) return ffi::Error::InvalidArgument("shapes");
  rms_norm(x.typed_data(), w.typed_data(), eps, shape[0], shape[1], y->typed_data());
  return ffi::Error::Success();
}
ffi::Error Backward(Array g, Array x, Array w, double eps, Result x_bar, Result w_bar) {
  const auto shape = x.dimensions();
  if (shape.size() != 2 || w.element_count() != shape[1]) return ffi::Error::InvalidArgument("shapes");
  rms_norm_backward(g.typed_data(), x.typed_data(), w.typed_data(), eps, shape[0], shape[1], x_bar->typed_data(),
           w_bar->typed_data());
  return ffi::Error::Success();
}
XLA_FFI_DEFINE_HANDLER_SYMBOL(ForwardHandler, Forward, ffi::Ffi::Bind()
    .Arg<Array>().Arg<Array>().Attr<double>("eps").Ret<Array>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(BackwardHandler, Backward, ffi::Ffi::Bind()
    .Arg<Array>().Arg<Array>().Arg<Array>().Attr<double>("eps").Ret<Array>().Ret<Array>());
"""


@functools.cache
def by_hand(eps=1e-6):
    """The same loops through `jax.ffi` and `jax.custom_vjp`: reverse mode alone, float32 alone, no second derivative."""
    with tempfile.TemporaryDirectory() as folder:
        source, made, library = (Path(folder, f"by_hand.{end}") for end in ("cc", "o", "so"))
        source.write_text(BY_HAND % SOURCE)
        command = [
            "g++",
            "-std=c++17",
            "-O3",
            "-ffast-math",
            "-march=native",
            "-w",
            "-fPIC",
            f"-I{jax.ffi.include_dir()}",
        ]
        subprocess.run([*command, "-c", source, "-o", made], check=True)
        # Linked with -ffast-math, the library would turn small numbers into 0 in the whole process.
        subprocess.run(["g++", "-shared", made, "-o", library], check=True)
        loaded = ctypes.CDLL(str(library))
    for name in ("Forward", "Backward"):
        handler = jax.ffi.pycapsule(getattr(loaded, f"{name}Handler"))
        jax.ffi.register_ffi_target(f"by_hand_{name}", handler, platform="cpu")

    @jax.custom_vjp
    def op(x, w):
        return jax.ffi.ffi_call("by_hand_Forward", like(x), vmap_method="sequential")(x, w, eps=np.float64(eps))

    def backward(residuals, g):
        call = jax.ffi.ffi_call("by_hand_Backward", tuple(map(like, residuals)), vmap_method="sequential")
        return call(g, *residuals, eps=np.float64(eps))

    op.defvjp(lambda x, w: (op(x, w), (x, w)), backward)
    return op


def like(x):
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


# --------------------------------------------------------------------------------------------------------------- show
def milliseconds(fn, *operands):
    jax.block_until_ready(fn(*operands))
    return 1e3 * min(timeit.repeat(lambda: jax.block_until_ready(fn(*operands)), number=10, repeat=9)) / 10


def main(n=512, d=1024):
    x = jax.random.normal(jax.random.key(0), (n, d))
    w = jnp.linspace(0.5, 1.5, d)
    ways = {"C++ with jaxprim": rms_norm, "C++ by hand": by_hand(), "jax.numpy": rms_norm.use("impl")}
    print(f"gradient at {n} x {d}, float32")
    for name, op in ways.items():
        loss = lambda x, w, op=op: jnp.sum(op(x, w) ** 2)
        print(f"  {name:18} {milliseconds(jax.jit(jax.grad(loss, (0, 1))), x, w):6.2f} ms")
    print(rms_norm.explain())
    print(rms_norm.check())


if __name__ == "__main__":
    main()
