"""Names of parameters tell what types cannot."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from tools import cxx, needs

from jaxprim import KernelError, kernels
from jaxprim.kernels.parameters import definitions

ANOTHER_ORDER = "its parameters have another order than what it is given"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("void f(const float* x, int64_t n, float *out) {}", [["x", "n", "out"]]),
        ("void f(float* __restrict x, float y[3], unsigned k = 3, std::vector<int, A> v) noexcept {}", [["x", "y", "k", "v"]]),
        ("void f(int, const double*, std::size_t, unsigned long, const float&) {}", [["", "", "", "", ""]]),
        ("void f(int (*g)(int), [[maybe_unused]] int n) {}", [["", "n"]]),
        ("template <class T> auto ns::f(T a, T b) -> T { return f(b, a); }", [["a", "b"]]),
        ("int f(void) { return 0; }", [[]]),
        ("void f(int a); // void f(int b) {}", []),
        ("void f(int a /* , int b */) {}\nvoid f(double c) {}", [["a"], ["c"]]),
        ('const char* s = "f(int a) {"; void g() { f(1); if (f(2)) {} }', []),
    ],
)  # fmt: skip
def test_the_names_of_parameters_are_read(text, names):
    assert [[parameter.name for parameter in each] for each in definitions(text, "ns::f")] == names


SWAPPED = "void f(const float* x, int64_t d, int64_t n, float* out) {}"


@pytest.mark.parametrize(
    ("text", "signature", "arguments"),
    [
        (SWAPPED, "f(x: f32[n, d]) -> f32[n, d]", None),
        (SWAPPED, "f(x: f32[n, d]) -> (out: f32[n, d])", "x, n, d, out"),
        (SWAPPED.replace("int64_t", "int64_t*"), "f(x: f32[n, d]) -> f32[n, d]", "x, &n, &d, out"),
        ("void f(const float* x, int64_t n, int64_t k, float* out) {}", "f(x: f32[n]; k: i64) -> f32[n]", None),
        ("template <class T> void f(const T* y, const T* x, T* z) {}", "f(x: T[3], y: T[3]) -> (z: T[3])", None),
        ("float f(float b, float a) { return a / b; }", "f(a: f32, b: f32) -> f32", None),
        ("float f(float \u03b2, float v_a) { return v_a; }", "f(v_a: f32, \u03b2: f32) -> f32", None),
    ],
)
def test_another_order_is_refused(text, signature, arguments):
    with pytest.raises(KernelError, match=ANOTHER_ORDER):
        kernels.cpp(text, signature, arguments=arguments)


def test_another_order_in_a_file_is_refused(tmp_path):
    (tmp_path / "main.cpp").write_text("void f(const float* x, int64_t d, int64_t n, float* out);")
    (tmp_path / "more.cpp").write_text(SWAPPED)
    with pytest.raises(KernelError, match=ANOTHER_ORDER):
        kernels.cpp([tmp_path / "main.cpp", tmp_path / "more.cpp"], "f(x: f32[n, d]) -> f32[n, d]")


@pytest.mark.parametrize(
    ("text", "signature", "arguments"),
    [
        (SWAPPED, "f(x: f32[n, d]) -> f32[n, d]", "x, d, n, out"),
        ("void f(const float* in, long rows, long columns, float* y) {}", "f(x: f32[n, d]) -> f32[n, d]", None),
        ("void f(const float* x2, const float* x1, float* y) {}", "f(f32[3], f32[3]) -> f32[3]", None),
        ("void f(int n) {}\nvoid f(const float* x, int64_t n, float* y) {}", "f(x: f32[n]) -> (y: f32[n])", None),
    ],
)
def test_the_same_order_other_names_and_names_of_nobody_are_not(text, signature, arguments):
    kernels.cpp(text, signature, arguments=arguments)


@needs("numba")
def test_another_order_of_a_numba_function_is_refused():
    def step(x, b, a, out):
        out[:] = a * x + b

    with pytest.raises(KernelError, match=ANOTHER_ORDER):
        kernels.numba(step, "(x: f32[n]; a: f32, b: f32) -> f32[n]")
    kernels.numba(step, "(x: f32[n]; b: f32, a: f32) -> f32[n]")


@pytest.mark.parametrize(
    ("text", "signature", "arguments"),
    [
        ("void f(const float* x, int64_t k, int n, float* y) {}", "f(x: f32[n]; k: f64) -> f32[n]", None),
        ("void f(const float* x, const unsigned long k, float* y) {}", "f(x: f32[n]; k: f32) -> f32[n]", "x, k, out"),
        ("float f(std::size_t x) { return x; }", "f(x: f32) -> f32", None),
        ("void f(const float* x, bool, float* y) {}", "f(x: f32[n]) -> f32[n]", "x, 0.5, out"),
    ],
)
def test_a_real_number_for_an_integer_is_refused(text, signature, arguments):
    with pytest.raises(KernelError, match="is an integer, and what it is given is real"):
        kernels.cpp(text, signature, arguments=arguments)


@pytest.mark.parametrize(
    ("text", "signature"),
    [
        ("void f(const float* x, float k, int n, float* y) {}", "f(x: f32[n]; k: f64) -> f32[n]"),
        ("void f(const float* x, Real k, int n, float* y) {}", "f(x: f32[n]; k: f64) -> f32[n]"),
        ("int f(int x) { return x; }", "f(x: T) -> T"),
        ("void f(const int* x, int* y, int n) {}", "f(x: f32[n]) -> f32[n]"),
    ],
)
def test_a_real_number_for_a_real_or_unknown_type_is_not(text, signature):
    kernels.cpp(text, signature, arguments="x, out, n" if "y, int n" in text else None)


WHOLE = "void f(const float* x, {} k, int n, float* y) {{ for (int i = 0; i < n; ++i) y[i] = x[i] + float(k); }}"


@cxx
@pytest.mark.parametrize("kind", ["int8_t", "unsigned", "double"])
def test_an_integer_attribute_that_does_not_fit_is_refused(kind, kernel_cache):
    kernel = kernels.cpp(WHOLE.format(kind), "f(x: f32[n]; k: i64) -> f32[n]")
    x = jnp.ones(2, jnp.float32)
    assert kernel(x, k=100).tolist() == [101, 101]
    if kind == "double":
        assert kernel(x, k=-(2**40)).tolist() == [-(2**40), -(2**40)]
        return
    wrong = -1 if kind == "unsigned" else 2**40
    with pytest.raises(jax.errors.JaxRuntimeError, match=f"an attribute of {wrong} does not fit the integer type"):
        kernel(x, k=wrong)
