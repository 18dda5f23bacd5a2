"""Kernels that work in place: operands stay values, whatever XLA does with their memory."""

from __future__ import annotations

import ctypes
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from tools import cxx, gpu, needs, nvcc

from jaxprim import Primitive, kernels
from jaxprim.kernels import ahead, build_ahead, handler
from jaxprim.kernels.aliases import shared
from jaxprim.kernels.build import library
from jaxprim.kernels.signature import parse
from jaxprim.kernels.source import fingerprint

SOURCE = """
void add_at(const int32_t* at, const float* v, int64_t n, int64_t k, float* y) {
  for (int64_t j = 0; j < k; ++j) if (at[j] >= 0 && at[j] < n) y[at[j]] += v[j];
}
void mix(const float* v, int64_t n, float* y) {  // 2 x, and v from its end
  for (int64_t i = 0; i < n; ++i) y[i] = 2 * y[i] + v[n - 1 - i];
}
"""
ADD_AT = "add_at(x: f32[..., n], at: i32[..., k], v: f32[..., k]) -> y: f32[..., n]"
MIX = "mix(x: f32[..., n], v: f32[..., n]) -> y: f32[..., n]"
IN_PLACE = {"y": "x"}
X, AT, V = np.arange(8, dtype=np.float32), np.array([1, 5, 5], np.int32), np.array([10, 20, 30], np.float32)
ADDED = X + np.array([0, 10, 0, 0, 0, 50, 0, 0], np.float32)


@cache
def add_at():
    return kernels.cpp(SOURCE, ADD_AT, aliases=IN_PLACE)


@cache
def mix():
    return kernels.cpp(SOURCE, MIX, aliases=IN_PLACE)


@cache
def operation():
    p = Primitive("add_at")
    p.def_impl(add_at())

    @p.def_jvp
    def _(primals, tangents):
        (x, at, v), (x_dot, _, v_dot) = primals, tangents
        return p(x, at, v), p(jnp.asarray(x_dot), at, jnp.asarray(v_dot))

    @p.def_vjp
    def _(primals):
        x, at, v = primals
        return p(x, at, v), lambda g: (g, None, g[at])

    return p


def address(array):
    return array.unsafe_buffer_pointer()


def equal(got, want):
    np.testing.assert_array_equal(np.asarray(got), np.asarray(want))


# ------------------------------------------------------------------------------------------------------------- values
@cxx
def test_an_operand_stays_a_value():
    x, at, v = map(jnp.asarray, (X, AT, V))
    equal(add_at()(x, at, v), ADDED)
    equal(add_at()(X, AT, V), ADDED)  # NumPy's memory
    both = lambda x: (add_at()(x, at, v), 2 * x, add_at()(x, at, 2 * v) + add_at()(x, at, v))
    for run in (both, jax.jit(both)):
        y, twice, total = run(x)
        equal(y, ADDED), equal(twice, 2 * X), equal(total, 3 * ADDED - X)
    equal(x, X), equal(X, np.arange(8))
    constant = jax.jit(lambda: add_at()(jnp.zeros(3), at[:1], v[:1]))
    equal(constant(), [0, 10, 0]), equal(constant(), [0, 10, 0])


@cxx
def test_an_operand_that_is_passed_twice():
    run = lambda x: mix()(x + 1, x + 1)
    for found in (mix()(jnp.asarray(X), jnp.asarray(X)), jax.jit(run)(X - 1)):
        equal(found, 2 * X + X[::-1])


@cxx
def test_a_donated_operand_is_the_result():
    x = jnp.asarray(X) + 0
    place = address(x)
    y = jax.jit(add_at(), donate_argnums=0)(x, AT, V)
    equal(y, ADDED)
    assert address(y) == place
    assert x.is_deleted()


@cxx
def test_a_loop_copies_nothing():
    loop = lambda x: jax.lax.fori_loop(0, 20, lambda i, x: add_at()(x, AT, V), x)
    compiled = jax.jit(loop, donate_argnums=0).lower(jnp.asarray(X)).compile()
    equal(compiled(jnp.asarray(X) + 0), X + 20 * (ADDED - X))
    text = compiled.as_text()
    assert "output_to_operand_aliasing" in text
    assert "= f32[8]{0} copy(" not in text


@cxx
def test_transformations():
    p, at, v = operation(), jnp.asarray(AT), jnp.asarray(V)
    loss = lambda x, v: jnp.sum(p(x, at, v) ** 2)
    for grad in (jax.grad(loss, (0, 1)), jax.jit(jax.grad(jax.checkpoint(loss), (0, 1)))):
        g_x, g_v = grad(X, v)
        equal(g_x, 2 * ADDED), equal(g_v, 2 * ADDED[AT])
    equal(jax.hessian(loss)(X, v), 2 * np.eye(8))
    equal(jax.jvp(lambda x: p(x, at, v), (X,), (X,))[1], X)
    steps = lambda v: jnp.sum(jax.lax.scan(lambda x, _: (p(x, at, v), x[5]), jnp.asarray(X), None, length=3)[0] ** 2)
    equal(jax.jit(jax.grad(steps))(v), 6 * (X + 3 * (ADDED - X))[AT])
    equal(jax.jit(lambda x, c: jax.lax.cond(c, lambda x: p(x, at, v), lambda x: x, x))(X, True), ADDED)


@cxx
def test_a_batch():
    x, ats = jnp.asarray(X), jnp.stack([AT, 0 * AT])
    want = np.stack([ADDED, X + np.eye(8)[0] * 60])
    for map_ in (jax.vmap, lambda *a: jax.jit(jax.vmap(*a))):
        equal(map_(add_at(), (None, 0, None))(x, ats, V), want)  # the operand itself has no batch
        equal(map_(add_at(), (1, None, None))(jnp.stack([x, x], 1), AT, V), np.stack([ADDED] * 2))
    nested = jax.vmap(jax.vmap(add_at(), (None, 0, None)), (0, None, None))
    equal(nested(jnp.stack([x, x + 1]), ats, V), np.stack([want, want + 1]))
    equal(add_at()(x, ats, V), want)  # axes that broadcast, without vmap
    equal(x, X)


@cxx
def test_an_export():
    (b,) = jax.export.symbolic_shape("b")
    types = [jax.ShapeDtypeStruct((b, 8), np.float32), AT, V]
    exported = jax.export.export(jax.jit(add_at()), disabled_checks=add_at().export_checks())(*types)
    loaded = jax.export.deserialize(exported.serialize())
    assert "output_operand_alias" in loaded.mlir_module()
    x = jnp.stack([X, X + 1])
    equal(loaded.call(x, AT, V), [ADDED, ADDED + 1])
    equal(x, [X, X + 1])


SPLIT = [  # the batch, how the operands are split, whether each device has its part
    (8, P("d"), P("d"), True),
    (8, P("d"), P(), True),
    (8, P(), P("d"), True),
    (8, P(None, "d"), P(), False),
    (6, P(), P(), False),
]


@cxx
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=lambda kind: kind.name)
def test_several_devices(kind):
    mesh = jax.make_mesh((4,), ("d",), axis_types=(kind,))
    for rows, over_x, over_v, has_parts in SPLIT:
        if kind is AxisType.Explicit and not has_parts:
            continue
        x, v = (np.cos(np.arange(rows * 4.0) + k).reshape(rows, 4).astype(np.float32) for k in range(2))
        with jax.set_mesh(mesh):
            placed = [jax.device_put(jnp.asarray(a), NamedSharding(mesh, p)) for a, p in ((x, over_x), (v, over_v))]
            compiled = jax.jit(mix()).lower(*placed).compile()
            found = compiled(*placed)
        np.testing.assert_allclose(found, 2 * x + v[:, ::-1], rtol=1e-6)
        assert "output_to_operand_aliasing" in compiled.as_text()  # XLA's own partitioner would lose it
        assert ("f32[2,4]{1,0} custom-call" in compiled.as_text()) == has_parts
        equal(placed[0], x)


# ----------------------------------------------------------------------------------------------------- kinds of kernels
@cxx
def test_a_caller_that_gives_two_pieces_of_memory():
    # As a program does that calls the handler without jaxprim.
    type_ = jax.ShapeDtypeStruct((8,), np.float32)
    target = add_at().target(add_at().signature).name
    equal(jax.jit(jax.ffi.ffi_call(target, type_))(X, AT, V), ADDED)


@cxx
@needs("scipy")
def test_a_function_that_overwrites_its_operands():
    from scipy.linalg import cython_lapack

    solve = kernels.c_function(
        cython_lapack.__pyx_capi__["sgesv"],
        "(a: f32[..., n, n], b: f32[..., n, k]) -> (lu: f32[..., n, n], pivots: i32[..., n], x: f32[..., n, k])",
        arguments="&n, &k, lu=a, &n, pivots, x=b, &n, &status",
        sizes="i32",
        order="F",
        name="sgesv",
        aliases={"lu": "a", "x": "b"},
    )
    a, b = np.array([[2, 1], [1, 3]], np.float32), np.array([[3], [4]], np.float32)
    assert "copy(" not in solve.source(solve.signature).handler.replace("apart", "").partition("for_each")[2]
    np.testing.assert_allclose(solve(a, b)[2], np.linalg.solve(a, b), rtol=1e-6)
    xs = jax.vmap(solve, (0, None))(jnp.stack([a, 2 * a]), b)[2]
    np.testing.assert_allclose(xs, [np.linalg.solve(a, b), np.linalg.solve(2 * a, b)], rtol=1e-6)


@cxx
def test_arguments_in_another_order():
    source = "void scale(float* x, float a, int64_t n) { for (int64_t i = 0; i < n; ++i) x[i] *= a; }"
    signature = "scale(x: f32[..., n]; a: f32) -> y: f32[..., n]"
    for order in ("y, a, n", "x, a, n, y"):
        text = source if order == "y, a, n" else source.replace(") {", ", const float*) {")
        scale = kernels.cpp(text, signature, arguments=order, aliases=IN_PLACE)
        equal(scale(jnp.asarray(X), a=3.0), 3 * X)


@cxx
@needs("numba")
def test_numba():
    def scatter(at, v, y):
        for j in range(len(at)):
            y[at[j]] += v[j]

    kernel = kernels.numba(scatter, "(x: T[..., n], at: i32[..., k], v: T[..., k]) -> y: T[..., n]", aliases=IN_PLACE)
    x = jnp.asarray(X)
    equal(jax.vmap(kernel, (None, 0, None))(x, np.stack([AT, AT]), V), [ADDED, ADDED])
    equal(x, X)


HANDLER = """
#include "xla/ffi/api/ffi.h"
namespace ffi = xla::ffi;
static ffi::Error twice(ffi::Buffer<ffi::F32> x, ffi::ResultBuffer<ffi::F32> y) {
  if (x.typed_data() != y->typed_data()) return ffi::Error::InvalidArgument("two pieces of memory");
  for (size_t i = 0; i < y->element_count(); ++i) y->typed_data()[i] *= 2;
  return ffi::Error::Success();
}
XLA_FFI_DEFINE_HANDLER_SYMBOL(twice_handler, twice, ffi::Ffi::Bind().Arg<ffi::Buffer<ffi::F32>>().Ret<ffi::Buffer<ffi::F32>>());
"""


@cxx
def test_a_handler_of_the_authors_own_gets_one_address():
    signature = "twice(x: f32[..., n]) -> y: f32[..., n]"
    cpp = kernels.cpp(HANDLER, signature, handler="twice_handler", aliases=IN_PLACE)
    pointer = ctypes.CDLL(str(library(cpp.source(cpp.signature))[0]._name)).twice_handler
    x = jnp.stack([X, X + 1])
    for kernel in (cpp, kernels.ffi(pointer, signature, aliases=IN_PLACE)):
        equal(kernel(x), 2 * np.asarray(x))
        equal(jax.jit(jax.vmap(kernel))(x), 2 * np.asarray(x))
        equal(x, [X, X + 1])
    assert kernels.ffi(pointer, signature).notes == ()


CUDA = """
__global__ void run(const float* v, int64_t n, float* y) {
  const int64_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = 2 * y[i] + v[n - 1 - i];
}
void mix(const float* v, int64_t n, float* y, cudaStream_t stream) {
  run<<<(n + 255) / 256, 256, 0, stream>>>(v, n, y);
}
"""


def test_cuda_copies_on_its_stream():
    kernel = kernels.cuda(CUDA, MIX, aliases=IN_PLACE)
    text = kernel.source(kernel.signature).handler
    assert "cudaMemcpyAsync(to, from, count * sizeof(*to), cudaMemcpyDeviceToDevice, stream)" in text
    assert text.index("stream = ") < text.index("copy = ") < text.index("call.apart(") < text.index("for_each")


@nvcc
@gpu
def test_cuda_on_a_gpu():
    kernel = kernels.cuda(CUDA, MIX, aliases=IN_PLACE)
    x = jnp.stack([X, X + 1])
    equal(jax.jit(kernel)(x, x), 2 * np.asarray(x) + np.asarray(x)[:, ::-1])
    equal(x, [X, X + 1])


def test_pallas_works_in_place_by_its_own_word():
    pallas = pytest.importorskip("jax.experimental.pallas")

    def body(x, y):
        y[...] = x[...] + 1

    p = Primitive("increment")
    p.def_impl(
        lambda x: pallas.pallas_call(
            body, jax.ShapeDtypeStruct(x.shape, x.dtype), input_output_aliases={0: 0}, interpret=True
        )(x)
    )
    x = jnp.asarray(X)
    equal(p(x), X + 1), equal(jax.vmap(p)(x[None]), X[None] + 1), equal(x, X)


# ------------------------------------------------------------------------------------------------- names and libraries
def test_a_library_is_of_its_aliases():
    plain = kernels.cpp(SOURCE, MIX)
    assert fingerprint(plain.source(plain.signature)) != fingerprint(mix().source(mix().signature))
    other = shared(parse(MIX), {"y": "v"})
    call = handler.Function("mix")
    assert len({handler.contract(signature, call) for signature in (plain.signature, mix().signature, other)}) == 3
    assert handler.contract(plain.signature, call) == (MIX, repr((None, "i64", False, "mix", (), 1)))  # as ever


def test_explain_says_it():
    assert "in place: y in the memory of x" in str(operation().explain())
    assert kernels.cpp(SOURCE, MIX).notes == ()


@cxx
def test_a_library_that_was_built_ahead(tmp_path, monkeypatch):
    build_ahead.build([mix()], tmp_path)
    monkeypatch.setenv(ahead.VARIABLE, str(tmp_path))
    assert isinstance(ahead.find(mix().source(mix().signature)), ahead.Built)
    plain = kernels.cpp(SOURCE, MIX)
    found = ahead.find(plain.source(plain.signature))
    assert isinstance(found, ahead.Unfit)
    assert found.got == "a library of another source, or of other options"
