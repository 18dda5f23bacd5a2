"""Set-ups that a kernel keeps between calls: how often they are made, and that nothing else changes."""

from __future__ import annotations

import os
import threading
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pages
import pytest
from tools import cxx, gpu, header, nvcc

import jaxprim
from jaxprim import KernelError, Primitive, kernels
from jaxprim.kernels import handler, keeping
from jaxprim.kernels.languages import CPP
from jaxprim.kernels.signature import parse

pytestmark = cxx

# A sparse matrix in compressed columns: its pattern, and its LU factors, dense and with partial pivoting.
SOURCE = """
#include <cmath>
#include <stdexcept>
#include <vector>
struct Pattern {
  std::vector<int32_t> rows, columns;
  Pattern(const int32_t* ap, const int32_t* ai, int64_t m, int64_t nz) : rows(ai, ai + nz), columns(nz) {
    for (int64_t j = 0; j + 1 < m; ++j)
      for (int32_t k = ap[j]; k < ap[j + 1]; ++k) columns[k] = static_cast<int32_t>(j);
  }
};
struct Factors {
  const Pattern& pattern;
  int64_t n = 0;
  std::vector<double> lu;
  std::vector<int64_t> order;
  bool in_use = false;
  Factors(const Pattern& pattern, const double* ax, int64_t nz) : pattern(pattern) {
    for (int32_t j : pattern.columns) n = std::max<int64_t>(n, j + 1);
    lu.assign(n * n, 0);
    for (int64_t k = 0; k < nz; ++k) lu[pattern.rows[k] * n + pattern.columns[k]] += ax[k];
    for (int64_t j = 0; j < n; ++j) order.push_back(j);
    for (int64_t j = 0; j < n; ++j) {
      int64_t best = j;
      for (int64_t i = j; i < n; ++i) if (std::abs(lu[i * n + j]) > std::abs(lu[best * n + j])) best = i;
      if (lu[best * n + j] == 0) throw std::runtime_error("the matrix is singular");
      std::swap(order[j], order[best]);
      for (int64_t c = 0; c < n; ++c) std::swap(lu[j * n + c], lu[best * n + c]);
      for (int64_t i = j + 1; i < n; ++i) {
        lu[i * n + j] /= lu[j * n + j];
        for (int64_t c = j + 1; c < n; ++c) lu[i * n + c] -= lu[i * n + j] * lu[j * n + c];
      }
    }
  }
};
void solve(Factors& f, const double* b, bool transposed, int64_t n, double* x) {
  if (n != f.n) throw std::invalid_argument("b has another size than the matrix");
  if (f.in_use) throw std::runtime_error("two calls use one set-up");
  f.in_use = true;
  std::vector<double> y(n);
  const auto& a = f.lu;
  if (!transposed) {
    for (int64_t i = 0; i < n; ++i) { y[i] = b[f.order[i]]; for (int64_t j = 0; j < i; ++j) y[i] -= a[i * n + j] * y[j]; }
    for (int64_t i = n - 1; i >= 0; --i) { for (int64_t j = i + 1; j < n; ++j) y[i] -= a[i * n + j] * y[j]; y[i] /= a[i * n + i]; }
    std::copy(y.begin(), y.end(), x);
  } else {
    for (int64_t i = 0; i < n; ++i) { y[i] = b[i]; for (int64_t j = 0; j < i; ++j) y[i] -= a[j * n + i] * y[j]; y[i] /= a[i * n + i]; }
    for (int64_t i = n - 1; i >= 0; --i) for (int64_t j = i + 1; j < n; ++j) y[i] -= a[j * n + i] * y[j];
    for (int64_t i = 0; i < n; ++i) x[f.order[i]] = y[i];
  }
  f.in_use = false;
}
"""
SIGNATURE = (
    "solve(ap: i32[m], ai: i32[nz], ax: f64[..., nz], b: f64[..., n]; transposed: bool = False) -> x: f64[..., n]"
)
KEEP = ("Pattern(ap, ai)", "Factors(Pattern, ax)")
SIZE = 6


def kernel(most=16):
    return made(most)[0]


def operation(most=16):
    return made(most)[1]


@cache
def made(most):
    threads = None if most == 4 else 1
    kernel = kernels.cpp(SOURCE, SIGNATURE, keep=KEEP, most=most, threads=threads)
    p = Primitive("solve")
    p.def_impl(kernel)

    def times(ap, ai, ax, x, transposed):
        place = jnp.arange(ai.shape[-1], dtype=ap.dtype)
        columns = jnp.sum(place[:, None] >= ap[None, 1:], axis=1, dtype=ai.dtype)
        to, of = (columns, ai) if transposed else (ai, columns)
        return jnp.zeros_like(x).at[to].add(ax * x[of])

    @p.def_jvp
    def _(primals, tangents, *, transposed):
        (ap, ai, ax, b), (_, _, ax_dot, b_dot) = primals, tangents
        x = p(ap, ai, ax, b, transposed=transposed)
        right = jnp.asarray(b_dot) - times(ap, ai, jnp.asarray(ax_dot), x, transposed)
        return x, p(ap, ai, ax, right, transposed=transposed)

    p.def_transpose(
        lambda y_bar, ap, ai, ax, *, transposed: p(ap, ai, ax, y_bar, transposed=not transposed), linear="b"
    )
    return kernel, p


@pytest.fixture(autouse=True)
def _in_double():
    with jax.enable_x64(True):
        yield


def matrix():
    rng = np.random.default_rng(0)
    dense = np.where(rng.random((SIZE, SIZE)) < 0.5, rng.normal(size=(SIZE, SIZE)), 0.0) + 4 * np.eye(SIZE)[::-1]
    columns, rows = np.nonzero(dense.T)
    ap = np.searchsorted(columns, np.arange(SIZE + 1)).astype(np.int32)
    return dense, ap, rows.astype(np.int32), dense[rows, columns]


DENSE, AP, AI, AX = matrix()
B = np.cos(np.arange(float(SIZE)))


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


def solve(ax, b, most=16):
    return operation(most)(AP, AI, ax, b, transposed=False)


def counted(most, run, *args):
    """How many patterns were made, factors made, and factors found."""
    own = kernel(most)
    own.forget()
    before = own.kept("Pattern").made, *own.kept()[:2]
    found = jax.block_until_ready(run(*args))
    after = own.kept("Pattern").made, *own.kept()[:2]
    return found, [b - a for a, b in zip(before, after, strict=True)]


def loss(most, ax, b):
    return jnp.sum(solve(ax, b, most) ** 2)


def pushed(most, ax, v):
    return jax.jvp(lambda ax: jax.grad(partial(loss, most))(ax, B), (ax,), (v,))[1]


def steps(most, ax):
    return jax.lax.scan(lambda c, _: (solve(ax, c, most) + B, None), jnp.asarray(B), None, length=10)[0]


VALUES = np.stack([AX * (1 + i / 9) for i in range(8)])
PROGRAMS = {  # the counts with set-ups kept, and with most=0
    "value": (lambda most: lambda: solve(AX, B, most), [1, 1, 0], [1, 1, 0]),
    "gradient": (lambda most: lambda: jax.grad(partial(loss, most), (0, 1))(AX, B), [1, 1, 1], [2, 2, 0]),
    "Hessian-vector product": (lambda most: lambda: pushed(most, AX, AX), [1, 1, 4], [5, 5, 0]),
    "five rows of jacrev": (lambda most: lambda: jax.jacrev(lambda ax: solve(ax, B, most)[:5])(AX), [1, 1, 5], [6, 6, 0]),
    "scan of ten": (lambda most: lambda: steps(most, AX), [1, 1, 9], [10, 10, 0]),
    "vmap over right-hand sides": (
        lambda most: lambda: jax.vmap(lambda b: solve(AX, b, most))(np.stack([B] * 8)), [1, 1, 7], [8, 8, 0],
    ),
    "vmap over values": (
        lambda most: lambda: jax.vmap(lambda ax: solve(ax, B, most))(VALUES), [1, 8, 0], [8, 8, 0],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_how_often_they_are_made(name):
    program, kept, made = PROGRAMS[name]
    found, counts = counted(16, jax.jit(program(16)))
    assert counts == kept
    again, counts = counted(0, jax.jit(program(0)))
    assert counts == made
    jax.tree.map(close, found, again)


def test_the_numbers_are_right():
    inverse = np.linalg.inv(DENSE)
    x, columns = inverse @ B, np.searchsorted(AP, np.arange(len(AI)), side="right") - 1
    u = inverse.T @ (2 * x)
    close(solve(AX, B), x)
    close(operation()(AP, AI, AX, B, transposed=True), inverse.T @ B)
    g_ax, g_b = jax.jit(jax.grad(partial(loss, 16), (0, 1)))(AX, B)
    close(g_b, u)
    close(g_ax, -u[AI] * x[columns])
    gradient = lambda ax: jax.grad(partial(loss, 16))(ax, B)
    difference = (gradient(AX * (1 + 1e-6)) - gradient(AX * (1 - 1e-6))) / 2e-6
    np.testing.assert_allclose(pushed(16, AX, AX), difference, rtol=1e-6)
    close(jax.vmap(lambda ax: solve(ax, B))(VALUES)[3], x / (1 + 3 / 9))
    exported = jax.export.export(jax.jit(solve), disabled_checks=kernel().export_checks())(AX, B)
    close(jax.export.deserialize(exported.serialize()).call(AX, B), x)
    close(jax.jit(solve, donate_argnums=1)(AX, jnp.asarray(B) + 0), x)
    close(jax.jit(solve).lower(AX, B).compile()(AX, B), x)


def test_at_most_so_many_are_kept():
    kernel(4).forget()
    before = kernel(4).kept()
    assert before.alive == 0
    for i in range(20):
        close(solve(AX * (1 + i), B, 4), np.linalg.solve(DENSE * (1 + i), B))
        assert kernel(4).kept().alive == min(i + 1, 4)
    for i in (16, 17, 18, 19, 15):  # the last four are there, and no other
        solve(AX * (1 + i), B, 4).block_until_ready()
    after = kernel(4).kept()
    assert (after.made - before.made, after.found - before.found, after.alive) == (21, 4, 4)
    kernel(4).forget()
    assert kernel(4).kept().alive == kernel(4).kept("Pattern").alive == 0


def test_equal_means_the_same_bytes():
    source = """
    template <class T>
    struct Sum {
      const T* a;  // as the cache holds it: the caller may change or free its own
      int64_t size;
      Sum(const T* a, int64_t n, int64_t d) : a(a), size(n * d) {}
    };
    template <class T>
    void f(Sum<T>& s, T* y) { *y = 0; for (int64_t i = 0; i < s.size; ++i) *y += s.a[i]; }
    """
    f = kernels.cpp(source, "f(a: T[n, d]) -> y: T[]", keep="Sum<T>(a)")
    last = np.nextafter(4.0, 5.0)
    a = np.array([1.0, 2.0, 3.0, 4.0]).reshape(2, 2)
    calls = [a, a.reshape(4, 1), np.array([[1, 2], [3, last]]), np.zeros((2, 2)), -np.zeros((2, 2)), a * np.nan, a]
    calls += [np.zeros((0, 2)), np.zeros((2, 0)), np.zeros((0, 2))]
    for call in calls:
        np.testing.assert_array_equal(f(call), np.sum(call))
    assert f.kept("Sum") == f.kept() == (8, 2, 8)
    memory = np.ones(40)
    own = memory[-memory.ctypes.data % 64 // 8 :][:32].reshape(4, 8)  # JAX takes an array that begins there as it is
    first = own.copy()
    assert f(own) == 32
    own[:] = 5
    assert f(first) == 32
    assert f(own) == 160


def test_an_error_keeps_nothing():
    kernel().forget()
    before = kernel().kept()
    with pytest.raises(jax.errors.JaxRuntimeError, match="solve: the matrix is singular"):
        jax.block_until_ready(solve(0 * AX, B))
    assert kernel().kept() == before
    close(solve(AX, B), np.linalg.solve(DENSE, B))
    with pytest.raises(jax.errors.JaxRuntimeError, match="another size"):  # whoever throws may have spoilt its set-up
        jax.block_until_ready(solve(AX, np.ones(SIZE + 1)))
    assert kernel().kept().alive == 0
    close(solve(AX, B), np.linalg.solve(DENSE, B))


def test_classes_that_do_not_fit():
    source = "struct S { S(const double*) {} ~S() noexcept(false) {} }; void f(S&, double*) {}"
    with pytest.raises(KernelError) as caught:
        kernels.cpp(source, "f(a: f64[..., n]) -> y: f64[...]", keep="S(a)").build()
    said = str(caught.value)
    assert "the constructor must take what keep= names" in said
    assert "the destructor must be public and must not throw" in said
    assert said.splitlines()[-1] == (
        "  expected: a function declared as void f(S& set_up, double* y), "
        "and a class with S(const double* a, int64_t n) and a destructor that does not throw"
    )


def test_threads_do_not_share_one():
    scales, wrong = (1.0, 2.0, 3.0), []
    run = jax.jit(partial(solve, most=4))

    def work(start):
        with jax.enable_x64(True):
            for step in range(20):
                scale = scales[(start + step) % 3]
                if not np.allclose(run(AX * scale, B), np.linalg.solve(DENSE * scale, B)):
                    wrong.append(scale)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert wrong == []
    rights = np.random.default_rng(1).normal(size=(64, SIZE))
    kernel(4).forget()
    before = kernel(4).kept().made
    close(jax.vmap(lambda b: solve(AX, b, 4))(rights), np.linalg.solve(DENSE, rights.T).T)
    assert 1 <= kernel(4).kept().made - before <= max(2, os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")
def test_a_fork_makes_its_own():
    jax.block_until_ready(solve(AX, B))
    assert kernel().kept().alive > 0
    child = os.fork()
    if child == 0:
        os._exit(0 if kernel().kept() == (0, 0, 0) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_devices_and_call_sites_share():
    kernel().forget()
    before = kernel().kept()
    for device in jax.devices()[:2]:
        close(jax.jit(solve)(*jax.device_put((AX, B), device)), np.linalg.solve(DENSE, B))
    close(jax.jit(lambda b: solve(AX, b) + solve(AX, b + 1))(B), np.linalg.solve(DENSE, 2 * B + 1))
    assert kernel().kept().made - before.made <= 2  # two at once may need one each


def test_it_stays_pure():
    assert jaxprim.report(operation(), AP, AI, AX, B, transposed=False, only="pure").ok


# ----------------------------------------------------------------------------------------------------- without compiling
def test_what_the_class_and_the_function_get():
    signature = parse("f(a: f64[n, d], b: f64[..., n], c: f64[m]; k: i64, s: f64) -> y: f64[..., n]")
    (alone,) = keeping.set_ups(signature, "ns::Plan(a, k)", CPP)
    assert (alone.type, alone.given) == ("ns::Plan", ("a", "k", "n", "d"))  # and the sizes of the arrays
    assert keeping.left_over(signature, (alone,)) == ["b", "c", "s", "n", "m", "y"]
    (sized,) = keeping.set_ups(signature, "Plan(n, k)", CPP)  # unless sizes are named
    assert sized.given == ("n", "k")
    two = keeping.set_ups(signature, ["First(a)", "Second(First, c)"], CPP)
    assert two[1].earlier == (0,)
    text = "\n".join(keeping.lease(signature, two))
    assert text.index("kept_1.get().take(") < text.index("kept_0.get().share(") < text.index("make<::First>")
    key = text[: text.index("[&]")]
    assert "const double* v_c = own.part<double>(5);" in text  # after a, its sizes, and the dims of c
    assert [f"v_{name}, " in key for name in "acb"] == [True, True, False]  # the second depends on all of the first


def test_a_library_is_of_what_it_keeps():
    signature = parse("f(a: f64[n]) -> y: f64[n]")
    plans = [keeping.set_ups(signature, keep, CPP) for keep in (None, "Plan(a)", "Plan(n)")]
    calls = [handler.Function("f", kept=kept, most=most) for kept in plans for most in (4, 5)]
    assert len({handler.contract(signature, call) for call in calls}) == 5  # without keep=, most= says nothing


def test_a_kernel_that_is_not_loaded_has_made_nothing():
    new = kernels.cpp(
        "struct Plan { Plan(int64_t); }; void f(Plan&, double*) {}", "f(a: f64[n]) -> y: f64[]", keep="Plan(n)"
    )
    assert new.kept() == (0, 0, 0)
    new.forget()
    assert new.notes == ("keeps Plan(n)",)


def test_a_type_variable_in_a_class_template():
    signature = parse("f(a: T[n], b: U[n]) -> y: T[n]")
    kept = keeping.set_ups(signature, "ns::Plan<T, U, 3>(a, b)", CPP)
    (row,) = keeping.resolved(kept, signature, signature.resolve({"T": "f32", "U": "i64"}))
    assert (row.name, row.type) == ("ns::Plan", "ns::Plan<float,int64_t,3>")


def test_a_plan_on_a_device_belongs_to_a_stream_and_is_freed_on_its_device():
    plan = kernels.cuda(
        "struct Plan { Plan(int64_t) {} }; void f(Plan&, const double*, int64_t, double*, cudaStream_t) {}",
        "f(x: f64[..., n]) -> y: f64[..., n]",
        keep="Plan(n)",
        libraries=["cufft"],
    )
    source = plan.source(plan.signature)
    assert "#include <jaxprim_kept.h>" in source.text
    assert source.libraries == ("cufft",)
    assert "Key{{&v_n, sizeof(v_n)}, {&place, sizeof(place)}, {&stream, sizeof(stream)}}" in source.handler
    order = [
        "cudaGetDevice(&now)",
        "cudaSetDevice(place)",
        "cudaDeviceSynchronize()",
        "delete made",
        "cudaSetDevice(now)",
    ]
    places = [source.handler.index(words) for words in order]
    assert places == sorted(places)
    assert source.prototype.startswith(
        "void f(Plan& set_up, const double* x, int64_t n, double* y, cudaStream_t stream)"
    )


@nvcc
@gpu
def test_a_plan_on_a_gpu():
    source = """
    struct Plan { int64_t n; explicit Plan(int64_t n) : n(n) {} };
    __global__ void run(const float* x, int64_t n, float* y) { for (int64_t i = 0; i < n; ++i) y[i] = x[i] + n; }
    void add(Plan& plan, const float* x, int64_t n, float* y, cudaStream_t stream) {
      run<<<1, 1, 0, stream>>>(x, plan.n, y);
    }
    """
    add = kernels.cuda(source, "add(x: f32[..., n]) -> y: f32[..., n]", keep="Plan(n)", most=1)
    for n in (3, 5, 5, 3):  # each other size frees a plan
        x = np.arange(2 * n, dtype=np.float32).reshape(2, n)
        close(jax.jit(add)(x), x + n)
    assert add.kept() == (3, 5, 1)
    add.forget()
    assert add.kept().alive == 0


@header("fftw3.h", "libfftw3-dev")
def test_the_page_plans_with_fftw():
    page = pages.ROOT / "docs" / "kernels" / "keep.md"
    (block,) = [each for each in pages.blocks(page.read_text()) if "fftw3.h" in each.text]
    scope = {"kernels": kernels}
    exec(compile(block.text, str(page), "exec"), scope)
    fft, x = scope["fft"], np.random.default_rng(0).normal(size=(3, 12)) + 1j
    close(fft(x), np.fft.fft(x))
    close(jax.jit(jax.vmap(fft))(x[:, None, :6]), np.fft.fft(x[:, None, :6]))
    assert fft.kept() == (2, 4, 2)
