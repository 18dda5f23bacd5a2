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
    # Loops, as Numba compiles np.roll for seconds.
    def step(u, out):
        for i in range(len(u)):
            out[i] = u[i - 1] - u[i]

    def back(v, out):
        for i in range(len(v)):
            out[i - 1] = v[i] - v[i - 1]

    step, back = (kernels.numba(function, "(u: T[n]) -> T[n]") for function in (step, back))
    p, q = Primitive("step"), Primitive("back")
    p.def_impl(step)
    q.def_impl(back)
    p.def_transpose(lambda y_bar: q(y_bar), linear="u")
    q.def_transpose(lambda y_bar: p(y_bar), linear="u")
    assert jaxprim.report(p, random(5)).ok

    @jax.checkpoint
    def body(u, _):
        return u + np.float32(0.1) * p(u), None

    loss = lambda u: (jax.lax.scan(body, u, None, length=4)[0] ** 2).sum()
    matrix = jnp.eye(5) + 0.1 * (jnp.roll(jnp.eye(5), 1, 0) - jnp.eye(5))
    expected = jax.grad(lambda u: (jnp.linalg.matrix_power(matrix, 4) @ u).dot(jnp.linalg.matrix_power(matrix, 4) @ u))
    np.testing.assert_allclose(jax.grad(loss)(random(5)), expected(random(5)), rtol=1e-4)


def halves_by_index(x, out):
    for i in range(len(x)):
        out[i] = x[i] / 2


def halves_by_slice(x, out):
    out[1:] = x[1:] * 0.5
    out[:1] = x[:1]


def halves_by_part(x, out):
    part = out[:]
    for i in range(len(x)):
        part[i] += x[i] / 2


LOSSY = [
    (lambda x: np.sin(x), None),
    (lambda x: x - x.mean(), "(x: T[n]) -> T[n]"),
    (lambda x: x * 1.5, "(x: f32[n]) -> i32[n]"),
    (lambda x: x * 300.0, "(x: f32) -> u8"),
    (lambda x: x * 1.5, "(x: f32) -> bool"),
    (lambda x: x * 1j, "(x: f32) -> f32"),
    (lambda x: (x, x * 1.5), "(x: i32[n]) -> (i32[n], i32[n])"),
    (halves_by_index, "(x: T[n]) -> T[n]"),
    (halves_by_slice, "(x: T[n]) -> T[n]"),
    (halves_by_part, "(x: T[n]) -> T[n]"),
]


@pytest.mark.parametrize(("fn", "signature"), [pytest.param(*row, id=str(i)) for i, row in enumerate(LOSSY)])
def test_a_result_that_loses_a_part_of_a_value_is_refused(fn, signature):
    kernel = kernels.numba(fn, signature, name="lossy")
    x = np.ones(3, np.float32 if "f32" in str(kernel.signature) else np.int32)
    with pytest.raises(KernelError, match=r"lossy: the Numba function (returns|stores) something else") as caught:
        kernel(x)
    assert "loses the" in str(caught.value)


def test_stores_in_functions_that_get_the_result_and_in_parallel_loops_are_seen():
    numba = pytest.importorskip("numba")
    helper = numba.njit(halves_by_index)

    @numba.njit(parallel=True)
    def in_parallel(x, out):
        for i in numba.prange(len(x)):
            out[i] = x[i] / 2

    for fn in (lambda x, out: helper(x, out), in_parallel, numba.njit("void(int32[::1], int32[::1])")(halves_by_index)):
        with pytest.raises(KernelError, match="stores something else"):
            kernels.numba(fn, "(x: T[n]) -> T[n]", name="halves")(np.ones(3, np.int32))
        if fn is in_parallel:
            assert kernels.numba(fn, "(x: T[n]) -> T[n]")(np.ones(3, np.float32)).tolist() == [0.5, 0.5, 0.5]


def test_what_a_result_can_hold_is_stored():
    assert kernels.numba(lambda x: 1, "(x: f32) -> f32")(np.ones(2, np.float32)).tolist() == [1, 1]
    assert kernels.numba(lambda x: x & 1, "(x: i32) -> bool")(np.arange(3, dtype=np.int32)).tolist() == [
        False,
        True,
        False,
    ]
    assert kernels.numba(lambda x: x + 1, "(x: u8[n]) -> u8[n]")(np.array([255], np.uint8)).tolist() == [0]
    assert float(kernels.numba(lambda x: np.array(2.5), "(x: f32[n]) -> f32[]")(np.ones(2, np.float32))) == 2.5


@pytest.mark.parametrize(
    ("fn", "signature"),
    [
        pytest.param(lambda x: x * 2, "(x: f32[n]) -> f32[]", id="array for a number"),
        pytest.param(lambda x: x.reshape(3, 1), "(x: f32[n]) -> f32[]", id="matrix for a number"),
        pytest.param(lambda x: (1.0, x), "(x: f32[n]) -> (f32[n], f32[])", id="swapped"),
        pytest.param(lambda x: x[0], "(x: f32[n]) -> f32[n]", id="number for an array"),
        pytest.param(lambda x: (x, x, x), "(x: f32[n]) -> (f32[n], f32[n])", id="three for two"),
        pytest.param(lambda x: np.stack((x, x)), "(x: f32[n]) -> (f32[n], f32[n])", id="array for two"),
        pytest.param(lambda x: None, "(x: f32[n]) -> f32[n]", id="nothing"),
        pytest.param(lambda x: (x,), "(x: f32[n]) -> f32[n]", id="tuple"),
    ],
)
def test_a_result_of_another_form_is_refused_before_it_runs(fn, signature):
    with pytest.raises(KernelError, match="the Numba function returns something else than its signature says"):
        jax.jit(kernels.numba(fn, signature)).lower(np.ones(3, np.float32)).compile()


def test_functions_that_numba_lets_write_their_operands_get_a_copy():
    numba = pytest.importorskip("numba")

    @numba.njit("void(float32[::1], float32[::1])")
    def typed(x, out):
        x[0] = 99
        out[:] = x

    def flat(x, out):
        x.flat[0] = 99
        out[:] = x

    def view(x, out):
        np.ascontiguousarray(x)[0] = 99
        out[:] = x

    helper = numba.njit(lambda x: np.ascontiguousarray(x))

    def through(x, out):
        helper(x)[0] = 99
        out[:] = x

    for fn in (typed, flat, view, through):
        x = jnp.zeros(4)
        y = kernels.numba(fn, "(x: f32[n]) -> f32[n]", name="writes")(x)
        assert y.tolist() == [99, 0, 0, 0], fn
        assert x.tolist() == [0, 0, 0, 0], fn


def test_without_operands():
    kernel = kernels.numba(lambda: 1.5, "() -> f32")
    assert float(kernel()) == float(jax.jit(kernel)()) == 1.5
    assert float(kernels.numba(lambda a: 2 * a, "(; a: f32) -> f32")(a=3)) == 6
    assert kernels.numba(lambda n: np.arange(n) * 1.0, "(; n: i64) -> f32[n]")(n=3).tolist() == [0, 1, 2]


def test_an_elementwise_kernel_is_exported():
    kernel = kernels.numba(lambda x: x * x)
    exported = jax.export.export(jax.jit(kernel), disabled_checks=kernel.export_checks(T="f32"))(jnp.ones(3))
    assert exported.call(jnp.arange(3.0)).tolist() == [0, 1, 4]
    (b,) = jax.export.symbolic_shape("b")
    type_ = jax.ShapeDtypeStruct((b,), jnp.float32)
    exported = jax.export.export(jax.jit(kernel), disabled_checks=kernel.export_checks(T="f32"))(type_)
    assert exported.call(jnp.arange(4.0)).tolist() == [0, 1, 4, 9]
    assert kernel.build(T="f32") is kernel


def test_python_numbers_of_two_kinds_are_of_the_wider_one():
    times = kernels.numba(lambda x, y: x * y)
    assert float(times(1.5, 2)) == float(times(2, 1.5)) == float(jax.jit(times)(2, 1.5)) == 3.0
    assert complex(times(2, 1j)) == 2j
    assert times(2, 3).dtype == jnp.int32


def test_threads_of_two_kinds_are_refused():
    numba = pytest.importorskip("numba")
    fn = numba.njit(parallel=True)(halves_by_index)
    with pytest.raises(KernelError, match="runs on Numba's threads"):
        kernels.numba(fn, "(x: T[n]) -> T[n]", threads=4)
