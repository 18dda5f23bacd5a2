"""Functions that are known by their address: libm, SciPy's Cython, LAPACK, cffi, Numba, a library of one's own."""

from __future__ import annotations

import ctypes
import ctypes.util
import datetime
import gc
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tools import cxx, needs

import jaxprim
from jaxprim import BadCall, KernelError, Primitive, kernels
from jaxprim.kernels import build, pointers

pytestmark = cxx

libm = ctypes.CDLL(ctypes.util.find_library("m"))


@pytest.fixture(autouse=True)
def in_double():
    with jax.enable_x64(True):
        yield


def test_an_elementwise_function_broadcasts():
    hypot = kernels.c_function(libm.hypot, "(f64, f64) -> f64")
    x, y = np.arange(3.0)[:, None], np.array([4.0, 5.0])
    np.testing.assert_allclose(hypot(x, y), np.hypot(x, y))
    np.testing.assert_allclose(hypot(3.0, 4.0), 5.0)
    np.testing.assert_allclose(jax.jit(jax.vmap(hypot, (1, None), 1))(x, 4.0), np.hypot(x, 4.0))


def test_threads():
    cos = kernels.c_function(libm.cos, "(f64) -> f64", threads=None)
    x = np.linspace(0, 1, 10_001)
    np.testing.assert_allclose(cos(x), np.cos(x), rtol=1e-15)


@needs("scipy")
def test_cythons_capsules_with_the_argument_that_cython_adds():
    special = pytest.importorskip("scipy.special.cython_special")
    from scipy.special import jv

    found = kernels.c_function(special.__pyx_capi__["__pyx_fuse_1jv"], "(v: f64, x: f64) -> f64", name="jv")
    x = np.linspace(0.1, 9, 5)
    np.testing.assert_allclose(found(1.5, x), jv(1.5, x), rtol=1e-15)
    complex_ = kernels.c_function(special.__pyx_capi__["__pyx_fuse_0jv"], "(v: f64, z: c128) -> c128", name="jv")
    np.testing.assert_allclose(complex_(1.5, x + 2j), jv(1.5, x + 2j), rtol=1e-15)


@needs("scipy")
def test_a_low_level_callable():
    special = pytest.importorskip("scipy.special.cython_special")
    from scipy import LowLevelCallable
    from scipy.special import erf

    pointer = LowLevelCallable.from_cython(special, "__pyx_fuse_1erf")
    found = kernels.c_function(pointer, "(f64) -> f64", name="erf")
    np.testing.assert_allclose(found(np.array([0.1, 2.0])), erf(np.array([0.1, 2.0])))


@needs("scipy")
def test_lapack_solves_in_place_in_fortran_order():
    lapack = pytest.importorskip("scipy.linalg.cython_lapack").__pyx_capi__
    gesv = kernels.c_function(
        lapack["dgesv"],
        "(a: f64[n, n], b: f64[n, k]) -> (lu: f64[n, n], pivots: i32[n], x: f64[n, k])",
        arguments="&n, &k, lu=a, &n, pivots, x=b, &n, &status",
        sizes="i32",
        status={-1: "n is negative"},
        order="F",
        name="dgesv",
    )
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((5, 3, 3)), rng.standard_normal((4, 3, 2))
    over = jax.vmap(jax.vmap(gesv, (0, None)), (None, 0))
    np.testing.assert_allclose(over(a, b)[2], np.linalg.solve(a[None], b[:, None]), rtol=1e-9)
    with pytest.raises(jax.errors.JaxRuntimeError, match="dgesv: the kernel returned status 1"):
        gesv(np.zeros((3, 3)), b[0])[2].block_until_ready()


@needs("cffi")
def test_cffi():
    cffi = pytest.importorskip("cffi")
    ffi = cffi.FFI()
    ffi.cdef("double cbrt(double);")
    library = ffi.dlopen(ctypes.util.find_library("m"))
    pointer = ffi.addressof(library, "cbrt")
    np.testing.assert_allclose(kernels.c_function(pointer, "(f64) -> f64")(np.array([8.0, 27.0])), [2, 3])


@needs("numba")
def test_a_cfunc_of_numba():
    numba = pytest.importorskip("numba")

    @numba.cfunc("float64(float64)")
    def triple(x):
        return 3 * x

    np.testing.assert_allclose(kernels.c_function(triple, "(f64) -> f64")(np.array([1.0, 2.0])), [3, 6])


@pytest.fixture(scope="module")
def library():
    source = """
    #include <cstdint>
    extern "C" int scale(double* a, double* x, int* n, double* out) {
      if (*a < 0) return 2;
      for (int i = 0; i < *n; ++i) out[i] = *a * x[i];
      return 0;
    }
    extern "C" double total(const double* x, int64_t n) { double s = 0; while (n--) s += *x++; return s; }
    extern "C" void literals(char c, int i, double* x, double* scratch, int64_t n, double* out) {
      scratch[n - 1] = *x;
      *out = c + i + scratch[n - 1];
    }
    extern "C" int returns_seven(const double* x, const int* n, double* out, int* status) {
      for (int i = 0; i < *n; ++i) out[i] = 2 * x[i];
      *status = *n > 2;
      return 7;
    }
    """
    return build.library(build.Source("library", source))[0]


def test_fortran_style_and_a_status(library):
    scale = kernels.c_function(
        library.scale,
        "(x: f64[n]; a: f64) -> f64[n]",
        arguments="&a, x, &n:i32, out",
        status={2: "a is negative"},
    )
    np.testing.assert_allclose(scale(np.ones(3), a=2), [2, 2, 2])
    with pytest.raises(jax.errors.JaxRuntimeError, match="scale: a is negative"):
        scale(np.ones(3), a=-1).block_until_ready()


def test_a_status_argument_is_the_status_and_what_the_function_returns_is_not(library):
    """A Fortran subroutine returns nothing; what is left where a result would be means nothing."""
    status = kernels.c_function(
        library.returns_seven,
        "(x: f64[n]) -> f64[n]",
        arguments="x, &n, out, &status",
        sizes="i32",
        status={1: "too long"},
    )
    assert status(np.ones(2)).tolist() == [2, 2]
    with pytest.raises((RuntimeError, ValueError), match="returns_seven: too long"):
        status(np.ones(3)).block_until_ready()


def test_a_returned_number(library):
    total = kernels.c_function(library.total, "(x: f64[n]) -> f64")
    np.testing.assert_allclose(jax.vmap(total, 1)(np.arange(6.0).reshape(3, 2)), [6, 9])


def test_constants_and_scratch(library):
    literals = kernels.c_function(
        library.literals, "(x: f64[n]) -> f64[]", arguments="'A', 3, &1.5, scratch f64[2*n], 2*n, out"
    )
    assert float(literals(np.ones(2))) == ord("A") + 3 + 1.5


def test_an_address(library):
    address = ctypes.cast(library.total, ctypes.c_void_p).value
    assert float(kernels.c_function(address, "total(x: f64[n]) -> f64")(np.ones(3))) == 3


def test_the_signature_must_be_that_of_the_pointer():
    special = pytest.importorskip("scipy.special.cython_special").__pyx_capi__
    for signature in ("(f64) -> f64", "(f64, f32) -> f64", "(f64, c128) -> f64", "(x: f64[n], f64) -> f64"):
        with pytest.raises(BadCall, match="the function's arguments do not match the signature"):
            kernels.c_function(special["__pyx_fuse_1jv"], signature)


def test_the_result_must_be_that_of_the_pointer():
    special = pytest.importorskip("scipy.special.cython_special").__pyx_capi__
    with pytest.raises(BadCall, match="the function's return type does not match the signature"):
        kernels.c_function(special["j0"], "(x: f64) -> f32")


def test_a_type_variable_is_no_way_around_the_prototype():
    special = pytest.importorskip("scipy.special.cython_special").__pyx_capi__
    bessel = kernels.c_function(special["j0"], "(x: T) -> T")
    with pytest.raises(BadCall, match="the function's arguments do not match the signature"):
        bessel(np.ones(2, np.float32))


@pytest.mark.parametrize("pointer", [None, 0, "cosine", np.cos, True, -1, 2**70, 2**63, np.int64(-5), object(), 1.5])
def test_what_is_no_c_function_is_refused(pointer):
    with pytest.raises(KernelError, match="something that is not a C function"):
        kernels.c_function(pointer, "(f64) -> f64")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="NOT TESTED: this system does not say where code is")
def test_the_address_of_data_is_refused():
    numbers = np.ones(3)
    for pointer in (numbers.ctypes.data, ctypes.c_void_p(numbers.ctypes.data), 8, 2**47 - 8, id(None)):
        with pytest.raises(KernelError, match="an address at which there is no code"):
            kernels.c_function(pointer, "(f64) -> f64")


@needs("cffi")
def test_data_of_cffi_is_refused():
    ffi = pytest.importorskip("cffi").FFI()
    for pointer in (
        ffi.new("double[3]"),
        ffi.new("double*"),
        ffi.cast("double(*)(double)", 64),
        ffi.NULL,
        ffi.dlopen(None),
    ):
        with pytest.raises(KernelError, match=r"not a C function|no code"):
            kernels.c_function(pointer, "(f64) -> f64")


def test_a_capsule_without_a_prototype_is_refused():
    for capsule in (jax.ffi.pycapsule(libm.cos), datetime.datetime_CAPI):
        with pytest.raises(KernelError, match="a capsule that does not hold a C function's prototype"):
            kernels.c_function(capsule, "(f64) -> f64")


def test_a_prototype_is_read_word_by_word():
    pointers.check_prototype("f", "void (const int *n, double x, char)", ["int32_t*", "double", "char"])
    pointers.check_prototype("f", "void (void)", [])
    pointers.check_prototype("f", "some_t (other_t *, size_t)", ["double*", "uint64_t"])
    with pytest.raises(BadCall):
        pointers.check_prototype("f", "void (int *)", ["int32_t"])


@pytest.mark.parametrize(
    ("arguments", "result", "expected"),
    [
        ([ctypes.c_double, ctypes.c_int, ctypes.POINTER(ctypes.c_float)], None, "void (double, int32_t, float*)"),
        ([ctypes.c_void_p, ctypes.c_int64, ctypes.c_uint8], ctypes.c_bool, "bool (void*, int64_t, uint8_t)"),
        ([np.ctypeslib.ndpointer(np.float64)], ctypes.c_long, "int64_t (void*)"),
    ],
)
def test_what_ctypes_was_told_is_the_prototype(arguments, result, expected):
    function = ctypes.CDLL(None).abs
    function.argtypes, function.restype = arguments, result
    assert pointers.prototype_of(function) == expected


def test_the_signature_must_be_that_of_cffi():
    cffi = pytest.importorskip("cffi").FFI()
    cffi.cdef("float cosf(float); double hypot(double, double); int isatty(int);")
    library = cffi.dlopen(None)
    kernels.c_function(library.cosf, "(f32) -> f32")
    for function, signature in ((library.cosf, "(f32, f32) -> f32"), (library.hypot, "(f64, f64) -> f32")):
        with pytest.raises(BadCall, match=r"(arguments do|return type does) not match the signature"):
            kernels.c_function(function, signature)


C = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)


def _compiled_and_dropped():
    """Programs in every form in which JAX gives them out, and nothing else that holds their function."""
    p = Primitive("twice")
    p.def_impl(kernels.c_function(C(lambda v: 2 * v), "(f64) -> f64", name="twice"))
    p.def_partials(lambda y, x: (2.0,))
    x = jnp.arange(3.0)
    plain = jax.jit(p).lower(x).compile()
    mapped = jax.jit(jax.vmap(jax.value_and_grad(p))).lower(x).compile()
    _, linear = jax.linearize(p, x)
    return plain, lambda x: mapped(x)[0], lambda x: p(x), jax.jit(lambda x: linear(x))


def test_a_function_lives_as_long_as_the_programs_that_call_it():
    programs = _compiled_and_dropped()
    x = jnp.arange(3.0)
    jax.clear_caches()
    gc.collect()
    others = [C(lambda v: -1000.0) for _ in range(50)]
    said: list[list[float]] = []
    threads = [
        threading.Thread(target=lambda run=run: said.append(run(x).tolist())) for run in programs for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == [[0, 2, 4]] * len(threads)
    assert len(others) == 50


def test_callbacks_are_told_apart():
    """Their code is the same; only what it finds beside it differs."""
    made = [kernels.c_function(C(lambda v, k=k: k * v), "(f64) -> f64", name="times") for k in range(4)]
    assert [float(kernel(3.0)) for kernel in made] == [0, 3, 6, 9]


def test_functions_of_one_type_share_one_library(monkeypatch):
    kernels.c_function(libm.sinh, "(x: f64) -> f64", name="first").build()
    with monkeypatch.context() as patched:
        patched.setattr(build, "_compile", None)
        another = kernels.c_function(libm.tanh, "second(x: f64) -> f64", threads=None)
        np.testing.assert_allclose(another(np.linspace(0, 1, 1000)), np.tanh(np.linspace(0, 1, 1000)))


def test_each_function_has_its_own_words(library):
    make = lambda words: kernels.c_function(
        library.scale, "(x: f64[n]; a: f64) -> f64[n]", arguments="&a, x, &n:i32, out", status={2: words}, name=words
    )
    for words in ("négatif", "\N{MATHEMATICAL ITALIC SMALL X} < 0", 'a "quote"'):
        with pytest.raises(jax.errors.JaxRuntimeError) as caught:
            make(words)(np.ones(3), a=-1).block_until_ready()
        assert f"UNKNOWN: {words}: {words}" in str(caught.value)


def test_in_a_primitive_with_exact_derivatives():
    special = pytest.importorskip("scipy.special.cython_special").__pyx_capi__
    erf = kernels.c_function(special["__pyx_fuse_1erf"], "(x: f64) -> f64", name="erf")
    p = Primitive("erf")
    p.def_impl(erf)
    p.def_partials(lambda y, x: (2 / np.sqrt(np.pi) * jnp.exp(-x * x),))
    assert jaxprim.report(p, jnp.linspace(-1.0, 2.0, 5)).ok
