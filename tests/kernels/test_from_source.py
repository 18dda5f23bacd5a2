"""C++ as kernels."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tools import cxx

import jaxprim
from jaxprim import BadCall, KernelError, Primitive, RuleMissing, kernels
from jaxprim.kernels.dtypes import DTYPES

pytestmark = cxx

RMS_NORM = """
#include <cmath>

void rms_norm(const float* x, const float* w, float eps, int64_t n, int64_t d, float* out) {
  for (int64_t i = 0; i < n; ++i, x += d, out += d) {
    float sum = 0;
    for (int64_t j = 0; j < d; ++j) sum += x[j] * x[j];
    const float scale = 1 / std::sqrt(sum / d + eps);
    for (int64_t j = 0; j < d; ++j) out[j] = x[j] * scale * w[j];
  }
}
"""
rms_norm = kernels.cpp(RMS_NORM, "rms_norm(x: f32[n, d], w: f32[d]; eps: f32 = 1e-6) -> f32[n, d]")


def reference(x, w, eps=1e-6):
    return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + eps) * w


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=2e-6, atol=2e-6)


def test_eager_and_compiled():
    x, w = random(4, 3), random(3, seed=1)
    close(rms_norm(x, w), reference(x, w))
    close(jax.jit(rms_norm)(x, w), reference(x, w))
    close(jax.jit(lambda x, w: rms_norm(x, w, eps=0.5))(x, w), reference(x, w, 0.5))


@pytest.mark.parametrize(("axes", "out"), [((0, None), 0), ((1, None), 1), ((2, 1), 0), ((None, 0), 2), ((0, 1), 0)])
def test_vmap_over_any_axis_is_one_call(axes, out):
    x, w = random(4, 3), random(3, seed=1)
    xs = x if axes[0] is None else np.moveaxis(random(5, 4, 3), 0, axes[0])
    ws = w if axes[1] is None else np.moveaxis(random(5, 3, seed=1), 0, axes[1])
    over = jax.vmap(rms_norm, axes, out)
    close(over(xs, ws), jax.vmap(lambda x, w: jnp.asarray(reference_jax(x, w)), axes, out)(xs, ws))
    assert str(jax.make_jaxpr(over)(xs, ws)).count("kernel_call[") == 1


def reference_jax(x, w):
    return x / jnp.sqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6) * w[None]


def test_nested_vmap_with_mixed_axes():
    xs, ws = random(5, 4, 3), random(6, 3, seed=1)
    got = jax.vmap(jax.vmap(rms_norm, (0, None)), (None, 0))(xs, ws)
    close(got, reference(xs[None], ws[:, None, None]))


def test_scan_cond_and_while():
    x, w = random(4, 3), random(3)
    got, _ = jax.lax.scan(lambda x, _: (rms_norm(x, w), None), x, None, length=3)
    close(got, reference(reference(reference(x, w), w), w))
    close(jax.lax.cond(True, lambda: rms_norm(x, w), lambda: jnp.asarray(x)), reference(x, w))


def test_shard_map_keeps_the_axes_that_vary():
    mesh = jax.make_mesh((4,), ("i",), (jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec
    x, w = random(8, 3), random(3)
    found = jax.jit(jax.shard_map(rms_norm, mesh=mesh, in_specs=(spec("i"), spec()), out_specs=spec("i")))(x, w)
    close(found, reference(x, w))


def test_in_a_primitive_with_rules():
    p = Primitive("rms_norm")
    p.def_impl(rms_norm)

    @p.def_jvp
    def _(primals, tangents, *, eps):
        (x, w), (x_dot, w_dot) = primals, tangents
        r = 1 / jnp.sqrt(jnp.mean(x * x, -1, keepdims=True) + eps)
        r_dot = -(r**3) * jnp.mean(x * x_dot, -1, keepdims=True)
        return p(x, w, eps=eps), (x_dot * r + x * r_dot) * w[None] + x * r * w_dot[None]

    x, w = random(4, 3), random(3, seed=1)
    assert jaxprim.report(p, x, w, eps=1e-6).ok
    got = jax.grad(lambda w: p(x, w, eps=1e-6).sum())(w)
    close(got, jax.grad(lambda w: reference_jax(x, w).sum())(w))


def test_batch_axes_in_the_signature_are_looped_over():
    norm = kernels.cpp(
        "void norm(const double* x, int64_t n, double* out) { *out = 0; for (int64_t i = 0; i < n; ++i) *out += x[i]; }",
        "norm(x: f64[..., n]) -> f64[...]",
    )
    with jax.enable_x64(True):
        x = np.random.default_rng(0).standard_normal((3, 2, 5))
        np.testing.assert_allclose(norm(x), x.sum(-1))
        np.testing.assert_allclose(norm(x[0, 0]), x[0, 0].sum())
        np.testing.assert_allclose(jax.vmap(norm, 2)(x), x.sum(1).T)
        assert norm(np.zeros((0, 2, 5))).shape == (0, 2)


ADD = "void add(const float* x, const float* y, float* out) { *out = *x + *y; }"


def test_batch_axes_broadcast():
    add = kernels.cpp(ADD, "add(x: f32[...], y: f32[...]) -> f32[...]")
    x, y = random(4, 1, 3), random(2, 1, seed=1)
    close(add(x, y), x + y)
    close(jax.vmap(add, (1, None), 2)(random(4, 5, 3), random(3)), np.moveaxis(random(4, 5, 3) + random(3), 1, 2))


def test_threads_give_what_one_gives():
    source = "void add(const float* x, const float* y, float* out) { *out = *x + 2 * *y; }"
    signature = "add(x: f32[...], y: f32[...]) -> f32[...]"
    x, y = random(1000, 7), random(7, seed=1)
    for threads in (None, 2, 64):
        close(kernels.cpp(source, signature, threads=threads)(x, y), x + 2 * y)


def test_an_error_in_a_thread_is_raised():
    source = """
    #include <stdexcept>
    void check(const float* x, float* out) {
      if (*x > 2) throw std::invalid_argument("a number is larger than 2");
      *out = *x;
    }
    """
    check = kernels.cpp(source, "check(f32[...]) -> f32[...]", threads=None)
    close(check(np.zeros(100, np.float32)), np.zeros(100))
    with pytest.raises(jax.errors.JaxRuntimeError, match="check: a number is larger than 2"):
        check(np.arange(100, dtype=np.float32)).block_until_ready()


def test_every_dtype_goes_in_and_out():
    operands = ", ".join(f"const {row.c}* x_{name}" for name, row in DTYPES.items())
    results = ", ".join(f"{row.c}* y_{name}" for name, row in DTYPES.items())
    source = f"""
    template <class T> void copy(const T* x, int64_t n, T* out) {{ for (int64_t i = 0; i < n; ++i) out[i] = x[i]; }}
    void copy_all({operands}, int64_t n, {results}) {{ {" ".join(f"copy(x_{name}, n, y_{name});" for name in DTYPES)} }}
    """
    inner = ", ".join(f"x_{name}: {name}[n]" for name in DTYPES)
    outer = ", ".join(f"y_{name}: {name}[n]" for name in DTYPES)
    with jax.enable_x64(True):
        xs = [np.array([0, 1, 2]).astype(row.numpy) for row in DTYPES.values()]
        for x, got in zip(xs, kernels.cpp(source, f"copy_all({inner}) -> ({outer})")(*xs), strict=True):
            assert got.dtype == x.dtype
            np.testing.assert_array_equal(got, x)


def test_attributes_of_every_dtype():
    rows = {name: row for name, row in DTYPES.items() if row.is_attribute}
    values = ", ".join(f"{row.c} v_{name}" for name, row in rows.items())
    results = ", ".join(f"{row.c}* y_{name}" for name, row in rows.items())
    fills = " ".join(f"for (int64_t i = 0; i < n; ++i) y_{name}[i] = v_{name};" for name in rows)
    source = f"void fill({values}, int64_t n, {results}) {{ {fills} }}"
    attributes = ", ".join(f"v_{name}: {name}" for name in rows)
    outer = ", ".join(f"y_{name}: {name}[n]" for name in rows)
    with jax.enable_x64(True):
        fill = kernels.cpp(source, f"fill(; {attributes}, n: i64) -> ({outer})")
        given = {f"v_{name}": np.dtype(row.numpy).type(place % 2) for place, (name, row) in enumerate(rows.items())}
        for value, got, row in zip(given.values(), fill(**given, n=3), rows.values(), strict=True):
            np.testing.assert_array_equal(got, np.full(3, value, row.numpy))
            assert got.dtype == row.numpy


def test_half_precision_arrives_as_bits():
    source = "void flip(const uint16_t* x, int64_t n, uint16_t* out) { for (int64_t i = 0; i < n; ++i) out[i] = x[i] ^ 0x8000; }"
    x = jnp.array([1.0, -2.0], jnp.bfloat16)
    assert kernels.cpp(source, "flip(bf16[n]) -> bf16[n]")(x).tolist() == [-1.0, 2.0]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_template_never_computes_with_the_bits_of_a_half(dtype):
    double = kernels.cpp(
        "template <class T> void twice(const T* x, int64_t n, T* out) { for (int64_t i = 0; i < n; ++i) out[i] = 2 * x[i]; }",
        "twice(x: T[n]) -> T[n]",
    )
    for call in (double, jax.jit(double)):
        with pytest.raises(BadCall, match="'x' has a dtype that the type variable T does not cover"):
            call(jnp.ones(3, dtype))


def test_a_template_is_compiled_for_each_dtype():
    source = "template <class T> void twice(const T* x, int64_t n, T* out) { for (int64_t i = 0; i < n; ++i) out[i] = T(2) * x[i]; }"
    twice = kernels.cpp(source, "twice(x: T[n]) -> T[n]")
    for dtype in (np.float32, np.int32, np.complex64):
        assert twice(np.ones(2, dtype)).dtype == dtype
        assert twice(np.ones(2, dtype)).tolist() == [2, 2]


def test_numbers_are_passed_and_returned_by_value():
    source = "#include <cmath>\nfloat power(float x, float y) { return std::pow(x, y); }"
    power = kernels.cpp(source, "power(x: f32, y: f32) -> f32")
    close(power(random(3, 1) ** 2, np.array([1.0, 2.0], np.float32)), (random(3, 1) ** 2) ** np.array([1, 2]))
    close(power(2.0, 3.0), 8)
    dot = kernels.cpp(
        "float dot(const float* x, float a, int64_t n) { float s = 0; while (n--) s += a * *x++; return s; }",
        "dot(x: f32[n], a: f32) -> f32",
    )
    close(jax.vmap(dot, (0, 0))(random(4, 3), random(4)), random(4, 3).sum(-1) * random(4))


def test_complex_numbers_by_value():
    square = kernels.cpp("std::complex<float> sq(std::complex<float> z) { return z * z; }", "sq(z: c64) -> c64")
    assert square(np.array([1j, 2], np.complex64)).tolist() == [-1, 4]


def test_the_extern_c_function_is_found_by_itself():
    one = kernels.cpp('extern "C" void one(const float* x, float* out) { *out = *x + 1; }', "(f32[]) -> f32[]")
    assert one.name == "one"
    assert float(one(1.0)) == 2


def test_a_status_is_an_error_with_its_meaning():
    source = "int risky(const float* x, float* out) { *out = *x; return *x > 5 ? 7 : *x > 2; }"
    risky = kernels.cpp(source, "risky(f32[]) -> f32[]", status={1: "the number is larger than 2"})
    assert float(risky(2.0)) == 2
    with pytest.raises(jax.errors.JaxRuntimeError, match="risky: the number is larger than 2"):
        risky(3.0).block_until_ready()
    with pytest.raises(jax.errors.JaxRuntimeError, match="risky: the kernel returned status 7"):
        risky(6.0).block_until_ready()


def test_several_results_and_fortran_order():
    source = "void split(const float* a, int64_t m, int64_t n, float* first, float* all) {"
    source += (
        "  for (int64_t j = 0; j < n; ++j) first[j] = a[j * m]; for (int64_t i = 0; i < m * n; ++i) all[i] = a[i]; }"
    )
    split = kernels.cpp(source, "split(a: f32[m, n]) -> (first: f32[n], all: f32[m, n])", order="F")
    a = random(4, 3)
    first, everything = split(a)
    close(first, a[0])
    close(everything, a)
    first, everything = jax.vmap(split, 1, 1)(random(4, 5, 3))
    close(first, random(4, 5, 3)[0].T)
    close(everything, np.moveaxis(random(4, 5, 3), 1, 1))


def test_files_with_headers(tmp_path):
    (tmp_path / "two.h").write_text("static const float two = 2;")
    (tmp_path / "helper.c").write_text("float helper(float x) { return x * 10; }")
    main = '#include "two.h"\nextern "C" float helper(float);\n'
    (tmp_path / "main.cpp").write_text(
        main + 'extern "C" void f(const float* x, float* out) { *out = helper(*x) * two; }'
    )
    files = [tmp_path / "main.cpp", tmp_path / "helper.c"]
    assert float(kernels.cpp(files, "(f32[]) -> f32[]")(1.0)) == 20
    (tmp_path / "two.h").write_text("static const float two = 3;")
    assert float(kernels.cpp(files, "(f32[]) -> f32[]")(1.0)) == 30


HANDLER = """
#include "xla/ffi/api/ffi.h"
namespace ffi = xla::ffi;

static ffi::Error Scale(ffi::Buffer<ffi::F32> x, float a, ffi::ResultBuffer<ffi::F32> y) {
  if (a < 0) return ffi::Error::InvalidArgument("a is negative");
  for (size_t i = 0; i < x.element_count(); ++i) y->typed_data()[i] = a * x.typed_data()[i];
  return ffi::Error::Success();
}
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    ScaleHandler, Scale,
    ffi::Ffi::Bind().Arg<ffi::Buffer<ffi::F32>>().Attr<float>("a").Ret<ffi::Buffer<ffi::F32>>());
"""


@pytest.mark.parametrize("dims", ["n", "..."])
def test_a_handler_of_the_authors_own(dims):
    scale = kernels.cpp(HANDLER, f"scale(x: f32[{dims}]; a: f32) -> f32[{dims}]", handler="ScaleHandler")
    close(scale(random(3), a=2), 2 * random(3))
    close(jax.vmap(lambda x: scale(x, a=2), 1)(random(3, 4)), 2 * random(3, 4).T)
    with pytest.raises(jax.errors.JaxRuntimeError, match="a is negative"):
        scale(random(3), a=-1).block_until_ready()


def test_nothing_is_compiled_before_it_is_used():
    broken = kernels.cpp("void f(const float* x, float* out) { this is no C++ }", "f(f32[]) -> f32[]")
    assert jax.eval_shape(broken, 1.0).shape == ()
    with pytest.raises(KernelError, match="f: it does not compile"):
        broken(1.0)
    with pytest.raises(KernelError, match="f: it does not compile"):
        broken.build()


def test_the_compilers_lines_are_the_authors():
    with pytest.raises(KernelError) as caught:
        kernels.cpp(
            """
            void f(const float* x, float* out) {
              *out = unknown(*x);
            }
            """,
            "f(f32[]) -> f32[]",
        ).build()
    lines = Path(__file__).read_text().splitlines()
    number = next(i + 1 for i, line in enumerate(lines) if line.strip() == "*out = unknown(*x);")
    assert f"{__file__}:{number}:" in str(caught.value)


def test_another_declaration_than_the_signatures_does_not_compile():
    with pytest.raises(KernelError) as caught:
        kernels.cpp("void f(const double* x, double* out) {}", "f(x: f32[]) -> f32[]").build()
    assert "a function declared as void f(const float* x, float* out)" in str(caught.value)


def test_differentiation_says_what_to_write():
    with pytest.raises(RuleMissing, match="a kernel has no derivative of its own"):
        jax.grad(lambda x: rms_norm(x, random(3)).sum())(random(4, 3))


def test_what_does_not_fit_is_told_before_the_call():
    x, w = random(4, 3), random(3)
    for bad in (
        lambda: rms_norm(x, w[:2]),
        lambda: rms_norm(x, w, eps=[1]),
        lambda: rms_norm(x, "w"),
        lambda: rms_norm(x),
    ):
        with pytest.raises(BadCall):
            bad()
        with pytest.raises(BadCall):
            jax.jit(bad)()


def test_which_function_is_meant():
    with pytest.raises(KernelError, match="which function of the source is the kernel"):
        kernels.cpp('extern "C" void f() {} extern "C" void g() {}', "(f32[]) -> f32[]")


@pytest.mark.parametrize("name", ["call", "buffers", "at", "frame", "norm", "handle"])
def test_a_function_may_be_called_as_anything_in_the_handler(name):
    source = f"std::complex<float> {name}(std::complex<float> z) {{ return 2.0f * z; }}"
    assert kernels.cpp(source, f"{name}(frame: c64) -> c64")(np.complex64(1j)) == 2j


ADD_HANDLER = """
#include "xla/ffi/api/ffi.h"
namespace ffi = xla::ffi;

static ffi::Error Add(ffi::Buffer<ffi::F32> x, ffi::Buffer<ffi::F32> y, ffi::ResultBuffer<ffi::F32> z) {
  const size_t count = y.element_count();
  if (count == 0 || z->element_count() % count != 0) return ffi::Error::InvalidArgument("the sizes do not fit");
  if (x.element_count() != z->element_count()) return ffi::Error::InvalidArgument("x has not all batch axes");
  for (size_t i = 0; i < z->element_count(); ++i)
    z->typed_data()[i] = x.typed_data()[i] + y.typed_data()[i % count] + 100 * (y.dimensions().size() == 1);
  return ffi::Error::Success();
}
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    AddHandler, Add,
    ffi::Ffi::Bind().Arg<ffi::Buffer<ffi::F32>>().Arg<ffi::Buffer<ffi::F32>>().Ret<ffi::Buffer<ffi::F32>>());
"""


def test_a_handler_of_ones_own_gets_whole_batches():
    x, y = random(4, 3), random(3, seed=1)
    both = kernels.cpp(ADD_HANDLER, "add(x: f32[..., n], y: f32[..., n]) -> f32[..., n]", handler="AddHandler")
    for call in (both, jax.jit(both), jax.vmap(both, (0, None))):
        close(call(x, y) - 100 * (call is not both and np.ndim(call(x, y)) == 1), x + y)
    close(both(y, x), x + y)
    close(jax.vmap(both, (None, 1), 1)(y, x.T), (x + y).T)
    close(jax.vmap(jax.vmap(both, (0, None)), (None, 0))(x, np.stack((y, 2 * y))), np.stack((x + y, x + 2 * y)))


def test_an_operand_without_batch_axes_has_none_in_a_handler_of_ones_own():
    x, y = random(4, 3), random(3, seed=1)
    shared = kernels.cpp(ADD_HANDLER, "add(x: f32[..., n], y: f32[n]) -> f32[..., n]", handler="AddHandler")
    close(shared(x, y), x + y + 100)  # 100: the handler got y with one axis
    close(jax.vmap(shared, (0, None))(x, y), x + y + 100)
    close(jax.vmap(shared)(x, np.stack([y] * 4)), x + y + 100)


@pytest.mark.parametrize(
    "option",
    [{"arguments": "out, x"}, {"threads": None}, {"status": {1: "x"}}, {"sizes": "i32"}, {"function": "f"}],
    ids=lambda option: next(iter(option)),
)
def test_options_without_meaning_for_a_handler_of_ones_own(option):
    with pytest.raises(KernelError, match="has no meaning for a handler of your own"):
        kernels.cpp("", "f(x: f32[n]) -> f32[n]", handler="F", **option)


def test_a_status_beside_a_returned_number_is_refused():
    with pytest.raises(KernelError, match="it returns no status"):
        kernels.cpp("", "f(x: f32) -> f32", status={1: "it failed"})


@pytest.mark.parametrize(
    ("declared", "signature", "said"),
    [
        ("double f(int32_t x)", "f(i32) -> i32", "a floating-point number, and the signature says an integer"),
        ("std::complex<float> f(float x)", "f(f32) -> f32", "a complex number, and the signature says a real one"),
        ("double f(float x)", "f(f32) -> f32", "a wider number than the signature says"),
    ],
)
def test_a_function_that_returns_a_number_that_its_result_cannot_hold(declared, signature, said):
    with pytest.raises(KernelError, match=f"the function returns {said}"):
        kernels.cpp(f"{declared} {{ return x; }}", signature).build()


def test_a_function_that_returns_a_narrower_number_than_its_result():
    quarter = kernels.cpp("float quarter(float x) { return x / 4; }", "quarter(x: f32) -> f64")
    with jax.enable_x64(True):
        assert quarter(np.float32(1)).dtype == jnp.float64
        assert float(quarter(np.float32(1))) == 0.25


def test_an_unsigned_attribute_of_every_size():
    kernel = kernels.cpp(
        "void f(const float*, uint64_t k, uint8_t* y) { *y = k >> 56; }", "f(x: f32[]; k: u64) -> u8[]"
    )
    for k in (0, 2**62, 2**63, 0x9E3779B97F4A7C15, 2**64 - 1):
        assert int(kernel(1.0, k=k)) == int(jax.jit(lambda x, k=k: kernel(x, k=k))(1.0)) == k >> 56


def test_names_of_every_letter():
    source = "void f(const float* x, float a, float b, int64_t n, float* y) { for (int64_t i = 0; i < n; ++i) y[i] = a * x[i] + b; }"
    kernel = kernels.cpp(
        source, "f(x\u0301: f32[\u00f1]; self: f32, \u03b2: f32) -> f32[\u00f1]".replace("x\u0301", "\u03be")
    )
    assert kernel(jnp.ones(2), self=2.0, β=1.0).tolist() == [3, 3]


def test_sizes_in_arguments_round_down_and_are_converted():
    source = "void f(const float* x, double a, int b, std::complex<double> c, int64_t d, float* y) { *y = a + b + c.real() + d; }"
    arguments = "x, n:f64, (n - 5) // 2, n:c128, k:i64, out"
    kernel = kernels.cpp(source, "f(x: f32[n]; k: i32) -> f32[]", arguments=arguments)
    assert float(kernel(jnp.ones(2), k=7)) == 2 - 2 + 2 + 7
    split = kernels.cpp("void f(const float*, int64_t, float*) {}", "f(x: f32[n]) -> f32[]", arguments="x, 1 // n, out")
    with pytest.raises(jax.errors.JaxRuntimeError, match="divided by 0"):
        split(jnp.ones(0)).block_until_ready()


def test_a_batch_of_symbolic_size_is_exported():
    source = "void f(const float* x, int64_t n, float* y) { for (int64_t i = 0; i < n; ++i) y[i] = 2 * x[i]; }"
    kernel = kernels.cpp(source, "f(x: f32[..., n]) -> f32[..., n]")
    (b,) = jax.export.symbolic_shape("b")
    type_ = jax.ShapeDtypeStruct((b, 3), jnp.float32)
    exported = jax.export.export(jax.jit(kernel), disabled_checks=kernel.export_checks())(type_)
    for size in (5, 1):  # for JAX, a symbolic size is at least 1
        x = random(size, 3)
        close(exported.call(x), 2 * x)


@pytest.mark.parametrize("value", [np.array(2.0, np.float32), jnp.float32(2), np.float64(2), 2, np.int8(2)], ids=repr)
def test_an_attribute_of_no_dimensions(value):
    kernel = kernels.cpp("void f(const float* x, float a, float* y) { *y = a * *x; }", "f(x: f32[]; a: f32) -> f32[]")
    p = Primitive("p")
    p.def_impl(kernel)
    for call in (kernel, p, jax.jit(lambda x: kernel(x, a=value))):
        assert float(call(1.0) if call not in (kernel, p) else kernel(1.0, a=value)) == 2.0


def test_an_operand_of_another_byte_order_is_named():
    # After a call with native numbers, JAX itself takes such an array and reads its bytes in the wrong order.
    double = kernels.cpp("void f(const float* x, float* y) { *y = 2 * *x; }", "f(x: f32[...]) -> f32[...]")
    for call in (double, lambda x: jax.jit(lambda y: double(x) + y)(0.0)):
        with pytest.raises(BadCall, match="another byte order"):
            call(random(4, 3).astype(">f4"))
