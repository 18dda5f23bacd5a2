"""Numba functions as kernels."""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tools import cxx, needs

import jaxprim
from jaxprim import KernelError, Primitive, kernels

pytestmark = [cxx, needs("numba")]


def normalize(x, w, eps, out):
    for i in range(x.shape[0]):
        total = x.dtype.type(0)
        for j in range(x.shape[1]):
            total += x[i, j] * x[i, j]
        scale = 1 / np.sqrt(total / x.shape[1] + eps)
        for j in range(x.shape[1]):
            out[i, j] = x[i, j] * scale * w[j]


def reference(x, w, eps=1e-6):
    return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + eps) * w


@pytest.fixture(scope="module")
def rms_norm():
    return kernels.numba(normalize, "(x: T[n, d], w: T[d]; eps: T = 1e-6) -> T[n, d]")


def random(*shape, dtype=np.float32):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_is_compiled_for_the_types_of_the_call(rms_norm, dtype):
    with jax.enable_x64(True):
        x, w = random(4, 3, dtype=dtype), random(3, dtype=dtype)
        got = jax.jit(rms_norm)(x, w)
        assert got.dtype == dtype
        np.testing.assert_allclose(got, reference(x, w), rtol=1e-5)


def test_once_for_each_set_of_types():
    numba = pytest.importorskip("numba")
    compiled = numba.njit(lambda x: x + 1)
    kernel = kernels.numba(compiled, "(T[]) -> T[]", name="one")
    for _ in range(2):
        for x in (1, 1.0):
            jax.clear_caches()
            assert float(kernel(x)) == 2
    assert len(kernel._targets) == 2


def test_vmap_and_threads(rms_norm):
    xs, w = random(5, 4, 3), random(3)
    np.testing.assert_allclose(jax.vmap(rms_norm, (0, None))(xs, w), reference(xs, w), rtol=1e-5)
    threaded = kernels.numba(normalize, "(x: T[..., n, d], w: T[d]; eps: T = 1e-6) -> T[..., n, d]", threads=None)
    np.testing.assert_allclose(threaded(xs, w), reference(xs, w), rtol=1e-5)


def test_without_a_signature_it_is_elementwise():
    numba = pytest.importorskip("numba")

    @numba.njit
    def bump(x, a):
        return np.exp(-1 / (1 - x * x)) if abs(x) < a else 0.0

    kernel = kernels.numba(bump)
    x = np.linspace(-2, 2, 9, dtype=np.float32)
    expected = [bump(float(v), 1.0) for v in x]
    np.testing.assert_allclose(kernel(x, 1.0), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(kernel, (0, None))(x[:, None], 1.0)[:, 0], expected, rtol=1e-6)
    assert kernel(x[:, None], np.ones(2, np.float32)).shape == (9, 2)
    assert kernel(0.0, 1.0).shape == ()


def test_a_function_that_returns_its_results():
    def stats(x, k):
        return x.mean() * k, x - x.mean()

    mean, centred = kernels.numba(stats, "(x: T[n]; k: T) -> (T[], T[n])")(np.arange(4, dtype=np.float32), k=2)
    assert float(mean) == 3
    np.testing.assert_allclose(centred, np.arange(4) - 1.5)


def test_a_result_of_another_shape_is_an_error():
    shorter = kernels.numba(lambda x: x[1:], "(x: T[n]) -> T[n]", name="shorter")
    with pytest.raises(
        jax.errors.JaxRuntimeError, match="shorter: the Numba function returned an array whose shape does not match"
    ):
        shorter(random(3)).block_until_ready()


def test_an_exception_is_an_error():
    def checked(x):
        if x < 0:
            raise ValueError("negative")
        return x

    kernel = kernels.numba(checked)
    assert float(kernel(1.0)) == 1
    with pytest.raises(jax.errors.JaxRuntimeError, match="checked: the Numba function raised an exception"):
        kernel(-1.0).block_until_ready()


def test_a_function_that_writes_its_input_is_refused():
    def spoil(x, out):
        x[0] = 0
        out[0] = x[0]

    with pytest.raises(KernelError, match="spoil: the Numba function writes its input"):
        kernels.numba(spoil, "(x: T[n]) -> T[n]")(random(3))


def test_what_numba_cannot_compile_is_told():
    def unknown(x, out):
        out[0] = no_such_name(x)  # noqa: F821

    with pytest.raises(KernelError, match="unknown: Numba can't compile it") as caught:
        kernels.numba(unknown, "(x: T[n]) -> T[n]")(random(3))
    assert "no_such_name" in str(caught.value)


def test_parallel_functions_at_once():
    numba = pytest.importorskip("numba")

    @numba.njit(parallel=True)
    def double(x, out):
        for i in numba.prange(len(x)):
            out[i] = 2 * x[i]

    kernel = kernels.numba(double, "(x: T[n]) -> T[n]")
    x = random(1000)
    got = jax.jit(lambda x: [kernel(x + i) for i in range(8)])(x)
    for i, y in enumerate(got):
        np.testing.assert_allclose(y, 2 * (x + np.float32(i)), rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(kernel)(random(3, 10)), 2 * random(3, 10))


def test_booleans_and_complex_numbers():
    both = kernels.numba(lambda x, y: x and not y, name="both")
    assert both(np.array([True, True]), np.array([True, False])).tolist() == [False, True]
    turn = kernels.numba(lambda z: z * 1j, "(z: T) -> T", name="turn")
    assert turn(np.array([1, 2j], np.complex64)).tolist() == [1j, -2]


def test_half_precision_is_refused():
    with pytest.raises(KernelError, match="Numba has no bf16"):
        kernels.numba(lambda x: x, "(x: bf16[n]) -> bf16[n]", name="same")(jnp.ones(2, jnp.bfloat16))


def test_the_number_of_arguments_must_fit():
    with pytest.raises(KernelError, match="the function's arguments do not fit the signature"):
        kernels.numba(normalize, "(x: T[n]) -> T[n]")


def test_numba_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(KernelError, match="Numba, which is not installed"):
        kernels.numba(normalize)


def test_in_a_primitive_under_scan_and_checkpoint():
    step = kernels.numba(lambda u: np.roll(u, 1) - u, "(u: T[n]) -> T[n]", name="step")
    back = kernels.numba(lambda v: np.roll(v, -1) - v, "(v: T[n]) -> T[n]", name="back")
    p, q = Primitive("step"), Primitive("back")
    p.def_impl(step)
    q.def_impl(back)
    p.def_transpose(lambda y_bar: q(y_bar), linear="u")
    q.def_transpose(lambda y_bar: p(y_bar), linear="v")
    assert jaxprim.report(p, random(5)).ok

    @jax.checkpoint
    def body(u, _):
        return u + np.float32(0.1) * p(u), None

    loss = lambda u: (jax.lax.scan(body, u, None, length=4)[0] ** 2).sum()
    matrix = jnp.eye(5) + 0.1 * (jnp.roll(jnp.eye(5), 1, 0) - jnp.eye(5))
    expected = jax.grad(lambda u: (jnp.linalg.matrix_power(matrix, 4) @ u).dot(jnp.linalg.matrix_power(matrix, 4) @ u))
    np.testing.assert_allclose(jax.grad(loss)(random(5)), expected(random(5)), rtol=1e-4)
