"""`ffi`: handlers that are compiled already, in each form in which people have them."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.linalg  # registers the handlers of LAPACK
import numpy as np
import pytest
from jaxlib import lapack
from tools import cxx, needs

from jaxprim import BadCall, KernelError, Primitive, kernels
from jaxprim.kernels import build
from jaxprim.kernels.metadata import api_of
from jaxprim.kernels.source import HANDLER_API, Source, api_of_headers

# Written with jaxprim's header, which compiles in a fraction of the time of XLA's own templates.
HANDLER = """
#include "jaxprim_kernel.h"

static const char* meaning(const jaxprim::Entry*, int64_t) { return nullptr; }

JAXPRIM_EXPORT XLA_FFI_Error* ScaleHandler(XLA_FFI_CallFrame* frame) {
  return jaxprim::handle("scale", meaning, frame, [](const jaxprim::Call& call) {
    call.expect(1, 1, 2);
    const jaxprim::Buffer x = call.operand(0, "x", XLA_FFI_DataType_F32, 0);
    const jaxprim::Buffer y = call.result(0, "y", XLA_FFI_DataType_F32, 0);
    const float factor = call.attribute<float>(0, "factor", XLA_FFI_DataType_F32);
    if (call.text(1, "how") != "times") call.refuse("only times");
    int64_t n = 1;
    for (int64_t axis = 0; axis < x.rank; ++axis) n *= x.dims[axis];
    for (int64_t i = 0; i < n; ++i) *y.at<float>(i) = factor * *x.at<float>(i);
  });
}
"""
SIGNATURE = "scale(x: f32[..., n]; factor: f32) -> f32[..., n]"


@cache
def library() -> Any:
    """Compiled once for the file."""
    return build.library(Source("library", HANDLER))[0]


def address() -> int:
    return ctypes.cast(library().ScaleHandler, ctypes.c_void_p).value or 0


def registered() -> str:
    jax.ffi.register_ffi_target("test_from_handler", jax.ffi.pycapsule(library().ScaleHandler), platform="cpu")
    return "test_from_handler"


@cxx
@pytest.mark.parametrize(
    "handler",
    [
        lambda: jax.ffi.pycapsule(library().ScaleHandler),
        lambda: library().ScaleHandler,
        address,
        lambda: {"execute": library().ScaleHandler},
        registered,
    ],
    ids=["capsule", "ctypes", "address", "stages", "target"],
)
def test_each_form_of_a_handler(handler):
    scale = kernels.ffi(handler(), SIGNATURE, attributes={"how": "times"})
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(scale(x, factor=2.0), 2 * x)
    np.testing.assert_array_equal(jax.jit(jax.vmap(lambda row: scale(row, factor=3.0), 1, 1))(x), 3 * x)
    with pytest.raises(BadCall, match="operand 'x' does not have the dtype of the signature"):
        scale(x.astype(np.int32), factor=2.0)
    with pytest.raises(BadCall, match="the attribute 'factor' is missing"):
        scale(x)


@cxx
def test_it_differentiates_inside_a_primitive_and_its_errors_have_its_words():
    scale = Primitive("scale")
    scale.def_impl(kernels.ffi(library().ScaleHandler, SIGNATURE, attributes={"how": "times"}))
    scale.def_transpose(lambda y_bar, *, factor: scale(y_bar, factor=factor), linear="x")
    x = jnp.ones(3)
    assert jax.grad(lambda x: scale(x, factor=2.0).sum())(x).tolist() == [2, 2, 2]
    wrong = kernels.ffi(library().ScaleHandler, SIGNATURE, attributes={"how": "plus"})
    with pytest.raises(jax.errors.JaxRuntimeError, match="only times"):
        jax.block_until_ready(wrong(x, factor=2.0))


@cxx
def test_a_handler_says_its_version_and_a_name_that_other_processes_know():
    assert api_of(address()) == HANDLER_API <= api_of_headers()
    first = kernels.ffi(library().ScaleHandler, SIGNATURE)
    again = kernels.ffi(jax.ffi.pycapsule(library().ScaleHandler), SIGNATURE)
    assert first.target(first.signature).name == again.target(again.signature).name
    assert str(address()) not in first.target(first.signature).name


def test_a_handler_of_jaxlib_with_matrices_in_fortran_order():
    target = lapack.prepare_lapack_call("potrf_ffi", np.dtype(np.float32))
    signature = "cholesky(a: f32[..., n, n]) -> (f32[..., n, n], info: i32[...])"
    cholesky = kernels.ffi(target, signature, attributes={"uplo": np.uint8(ord("L"))}, order="F")
    root = np.array([[[2, 0], [1, 3]], [[1, 0], [5, 1]]], np.float32)
    found, info = cholesky(root @ root.swapaxes(1, 2))
    np.testing.assert_allclose(np.tril(found), root, rtol=1e-6)
    assert info.tolist() == [0, 0]


@needs("klujax_cpp")
def test_a_handler_of_a_wheel():
    import klujax_cpp

    solve = kernels.ffi(
        klujax_cpp.solve_f64(),
        "solve(row: i32[k], column: i32[k], a: f64[b, k], x: f64[b, n, m]) -> f64[b, n, m]",
    )
    with jax.enable_x64(True):
        index = jnp.arange(2, dtype=jnp.int32)
        found = solve(index, index, jnp.array([[2.0, 4.0]]), jnp.ones((1, 2, 1)))
    assert found.tolist() == [[[0.5], [0.25]]]


@pytest.mark.parametrize("platform", ["gpu", "tpu", "Host", 3])
def test_a_platform_without_handlers_is_refused(platform):
    with pytest.raises(KernelError, match="invalid value for `platform`"):
        kernels.ffi("target", SIGNATURE, platform=platform)


def test_a_handler_for_another_platform_is_not_lowered():
    kernel = kernels.ffi("target", "f(x: f32[n]) -> f32[n]", platform="cuda")
    assert kernel.platform == "cuda"
    with pytest.raises(NotImplementedError, match="f: not registered for cpu; registered: cuda"):
        jax.jit(kernel).lower(jnp.ones(3)).compile()
