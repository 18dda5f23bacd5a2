"""Kernels on several devices: each device runs the kernel on its part of the batch, and nothing is gathered for it."""

from __future__ import annotations

import ctypes
import ctypes.util
import gc
import importlib.util
import json
import os
import re
import subprocess
import sys
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from jax_versions import IS_OLDER_JAX
from tools import collectives, cxx, needs, shapes_seen

from jaxprim import BadCall, Primitive, kernels

pytestmark = [cxx, pytest.mark.usefixtures("kernel_cache")]

HAS_NUMBA = importlib.util.find_spec("numba") is not None
SOURCE = """
void times(const float* x, const float* w, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = x[i] * w[i];
}
void mean(const float* x, int64_t n, float* out, float* least) {
  *out = 0; *least = x[0];
  for (int64_t i = 0; i < n; ++i) { *out += x[i] / n; if (x[i] < *least) *least = x[i]; }
}
"""


@cache
def times():
    return kernels.cpp(SOURCE, "times(x: f32[..., n], w: f32[n]) -> f32[..., n]")


@cache
def alike():
    """Both operands have the batch axes, so XLA's own partitioner may split it."""
    return kernels.cpp(SOURCE, "times(x: f32[..., n], w: f32[..., n]) -> f32[..., n]")


@cache
def operation():
    """x w, with kernels in its rules too."""
    p = Primitive("times")
    p.def_impl(lambda x, w: times()(x, w))

    @p.def_jvp
    def _(primals, tangents):
        (x, w), (x_dot, w_dot) = primals, tangents
        return p(x, w), p(x_dot, w) + p(x, w_dot)

    @p.def_vjp
    def _(primals):
        x, w = primals
        return p(x, w), lambda g: (p(g, w), jnp.sum(g * x, axis=tuple(range(x.ndim - 1))))

    return p


def plain(x, w):
    return x * jnp.reshape(w, (1,) * (x.ndim - 1) + w.shape)


def numbers(*shape):
    return np.cos(np.arange(np.prod(shape))).reshape(shape).astype(np.float32)


X, W = numbers(16, 8), numbers(8)


def mesh(kind, *sizes):
    return jax.make_mesh(sizes, ("d", "t")[: len(sizes)], axis_types=(kind,) * len(sizes))


def loss(f, x, w):
    return jnp.sum(jnp.sin(f(x, w)))


def looped(f, x, w):
    return jax.lax.scan(lambda c, _: (jnp.sin(f(c, w)), None), x, None, length=3)[0]


def pushed(f, x, w):
    return jax.jvp(f, (x, w), (jnp.sin(x), jnp.sin(w)))


PROGRAMS = {
    "value": lambda f, x, w: f(x, w),
    "jvp": pushed,
    "gradient": lambda f, x, w: jax.grad(partial(loss, f), (0, 1))(x, w),
    "gradient of checkpoint": lambda f, x, w: jax.grad(jax.checkpoint(partial(loss, f)), (0, 1))(x, w),
    "Hessian-vector product": lambda f, x, w: pushed(jax.grad(partial(loss, f), (0, 1)), x, w)[1],
    "gradient of scan": lambda f, x, w: jax.grad(lambda x, w: jnp.sum(looped(f, x, w)), (0, 1))(x, w),
    "vmap": lambda f, x, w: jax.vmap(f, (0, None))(x, w),
    "vmap of gradient": lambda f, x, w: jax.vmap(jax.grad(partial(loss, f)), (0, None))(x, w),
}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=lambda kind: kind.name)
def test_no_more_communication_than_the_same_in_jnp(kind, program):
    run = PROGRAMS[program]
    devices = mesh(kind, 2, 2)
    with jax.set_mesh(devices):
        x, w = jax.device_put(X, NamedSharding(devices, P("d"))), jax.device_put(W, NamedSharding(devices, P()))
        compiled = jax.jit(partial(run, operation())).lower(x, w).compile()
        twin = jax.jit(partial(run, plain)).lower(x, w).compile()
        got, want = jax.device_get(compiled(x, w)), run(plain, X, W) if kind is AxisType.Auto else twin(x, w)
    assert collectives(compiled) == collectives(twin)
    assert shapes_seen(compiled) == {"8,8"}
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), got, jax.device_get(want))


CUT = {
    "both operands": (alike, (X, X), (P("d"), P("d")), "8,8", P("d")),
    "one of two": (alike, (X, X), (P("d"), P()), "8,8", P("d")),
    "two axes": (alike, (numbers(4, 6, 8),) * 2, (P("d", "t"),) * 2, "2,3,8", P("d", "t")),
    "two axes, swapped": (alike, (numbers(4, 6, 8),) * 2, (P("t", "d"),) * 2, "2,3,8", P("t", "d")),
    "one axis over both": (alike, (numbers(4, 6, 8),) * 2, (P(("t", "d")),) * 2, "1,6,8", P(("t", "d"))),
    "a batch axis of size 1": (alike, (numbers(4, 6, 8), numbers(4, 1, 8)), (P("d", "t"), P("d")), "2,3,8", P("d", "t")),
    "no axis": (alike, (X, X), (P(), P()), "16,8", P()),
}  # fmt: skip


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", CUT)
def test_each_device_runs_its_part(name, kind):
    kernel, arrays, specs, seen, spec = CUT[name]
    devices = mesh(kind, 2, 2)
    with jax.set_mesh(devices):
        placed = [jax.device_put(x, NamedSharding(devices, s)) for x, s in zip(arrays, specs, strict=True)]
        compiled = jax.jit(kernel()).lower(*placed).compile()
        got = compiled(*placed)
    np.testing.assert_array_equal(got, arrays[0] * arrays[1])
    assert not any(collectives(compiled).values())
    assert shapes_seen(compiled) == {seen}
    assert got.sharding.is_equivalent_to(NamedSharding(devices, spec), got.ndim)


def test_devices_in_another_order():
    devices = jax.sharding.Mesh(np.array(jax.devices())[[2, 0, 3, 1]].reshape(2, 2), ("d", "t"))
    x = jax.device_put(numbers(4, 6, 8), NamedSharding(devices, P("t", "d")))
    compiled = jax.jit(times()).lower(x, W).compile()
    np.testing.assert_array_equal(compiled(x, W), numbers(4, 6, 8) * W)
    assert shapes_seen(compiled) == {"2,3,8"}


@pytest.mark.parametrize("kernel", [times, alike], ids=["ours", "XLA's partitioner"])
def test_a_kernel_never_sees_what_fills_up_a_part(kernel):
    """6 rows over 4 devices: XLA would give each device 2 rows, and fill the last ones up with anything."""
    devices = mesh(AxisType.Auto, 4)
    cut = lambda x: jax.lax.with_sharding_constraint(x * 1, NamedSharding(devices, P("d")))
    other = W if kernel is times else X[:6]
    compiled = jax.jit(lambda x: kernel()(cut(x), other)).lower(X[:6]).compile()
    np.testing.assert_array_equal(compiled(X[:6]), X[:6] * other)
    assert shapes_seen(compiled) == {"6,8"}


def test_several_results_of_other_ranks():
    kernel = kernels.cpp(SOURCE, "mean(x: f32[..., n]) -> (out: f32[...], least: f32[...])")
    devices = mesh(AxisType.Auto, 4)
    x = jax.device_put(X, NamedSharding(devices, P("d")))
    compiled = jax.jit(jax.vmap(kernel, in_axes=1, out_axes=0)).lower(x.T).compile()
    got = compiled(x.T)
    np.testing.assert_allclose(got, (X.mean(1), X.min(1)), rtol=1e-5)
    assert shapes_seen(compiled) == set()
    assert " all-gather" not in compiled.as_text()
    assert all(out.sharding.is_equivalent_to(NamedSharding(devices, P("d")), 1) for out in got)


@pytest.mark.parametrize("shardy", [True, False])
def test_several_results_by_our_partitioner(shardy):
    """XLA's own propagation of shardings knows no rule, so there the operands are gathered."""
    source = SOURCE.replace(
        "int64_t n, float* out, float* least", "const float* w, int64_t n, float* out, float* least"
    )
    kernel = kernels.cpp(source, "mean(x: f32[..., n], w: f32[n]) -> (out: f32[...], least: f32[...])")
    devices = mesh(AxisType.Auto, 4)
    x = jax.device_put(X, NamedSharding(devices, P("d")))
    jax.config.update("jax_use_shardy_partitioner", shardy)
    try:
        compiled = jax.jit(kernel).lower(x, W).compile()
        used = jax.jit(lambda x: kernel(x, W)[1])(x)
    finally:
        jax.config.update("jax_use_shardy_partitioner", True)
    np.testing.assert_allclose(compiled(x, W), (X.mean(1), X.min(1)), rtol=1e-5)
    np.testing.assert_array_equal(used, X.min(1))
    assert shardy != (" all-gather" in compiled.as_text())


@pytest.mark.parametrize("dtype", ["bool", "bfloat16", "complex64", "uint8"])
def test_every_kind_of_number(dtype):
    kind = {"bool": "bool", "bfloat16": "uint16_t", "complex64": "std::complex<float>", "uint8": "uint8_t"}[dtype]
    name = {"bool": "bool", "bfloat16": "bf16", "complex64": "c64", "uint8": "u8"}[dtype]
    source = f"""
    #include <complex>
    void same(const {kind}* x, const {kind}* w, int64_t n, {kind}* y) {{ for (int64_t i = 0; i < n; ++i) y[i] = x[i]; }}
    """
    kernel = kernels.cpp(source, f"same(x: {name}[..., n], w: {name}[n]) -> {name}[..., n]")
    x = jax.device_put(jnp.asarray(X, dtype), NamedSharding(mesh(AxisType.Auto, 4), P("d")))
    compiled = jax.jit(kernel).lower(x, x[0]).compile()
    np.testing.assert_array_equal(compiled(x, x[0]), x)
    assert " all-gather" not in compiled.as_text()


@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize(("axes", "seen"), [({"d"}, "4,8"), ({"d", "t"}, "8,8")], ids=["partly manual", "manual"])
def test_inside_shard_map(axes, seen, check_vma):
    """Where one mesh axis is left to XLA, the kernel is split over that one too."""
    devices = mesh(AxisType.Auto, 2, 2)
    f, g = (
        jax.shard_map(h, mesh=devices, in_specs=(P("d"), P()), out_specs=P("d"), axis_names=axes, check_vma=check_vma)
        for h in (operation(), plain)
    )
    x = jax.device_put(X, NamedSharding(devices, P(("d", "t")) if len(axes) == 1 else P("d")))
    compiled, twin = (jax.jit(jax.value_and_grad(partial(loss, h), (0, 1))).lower(x, W).compile() for h in (f, g))
    want = jax.value_and_grad(partial(loss, plain), (0, 1))(X, W)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), compiled(x, W), want)
    assert collectives(compiled) == collectives(twin)
    assert shapes_seen(compiled) == {seen}


def test_explicit_and_automatic_axes_together():
    devices = jax.make_mesh((2, 2), ("d", "t"), axis_types=(AxisType.Explicit, AxisType.Auto))
    with jax.set_mesh(devices):
        x = jax.device_put(numbers(4, 6, 8), NamedSharding(devices, P("d", "t")))
        compiled = jax.jit(times()).lower(x, W).compile()
        np.testing.assert_array_equal(compiled(x, W), numbers(4, 6, 8) * W)
    assert shapes_seen(compiled) == {"2,3,8"}
    assert not any(collectives(compiled).values())


@pytest.mark.parametrize("scale", [1 / 3, 1e300, np.inf])
def test_attributes_reach_each_device(scale):
    source = "void add(const double* x, double k, int64_t n, double* out) { for (int64_t i = 0; i < n; ++i) out[i] = x[i] + k; }"
    with jax.enable_x64(True):
        kernel = kernels.cpp(source, "add(x: f64[..., n]; k: f64) -> f64[..., n]")
        devices = mesh(AxisType.Auto, 2, 2)
        # Nine columns over four devices: XLA's own partitioner is not asked.
        x = jax.device_put(np.zeros((4, 9, 1)), NamedSharding(devices, P(("d", "t"))))
        compiled = jax.jit(partial(kernel, k=scale)).lower(x).compile()
        np.testing.assert_array_equal(compiled(x), scale)
    assert "f64[1,9,1]" in compiled.as_text()
    assert not any(collectives(compiled).values())


def test_jax_does_not_run_programs_of_symbolic_sizes_on_explicit_axes():
    """docs/limits.md says so, and docs/scaling.md does not promise more of kernels."""
    devices = mesh(AxisType.Explicit, 4)
    rows = NamedSharding(devices, P("d"))
    (n,) = jax.export.symbolic_shape("4*b")
    with jax.set_mesh(devices):
        exported = jax.export.export(jax.jit(jnp.sin))(jax.ShapeDtypeStruct((n,), "float32", sharding=rows))
        with pytest.raises(ValueError, match="Error refining shapes"):
            jax.jit(exported.call)(jax.device_put(W, rows))


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=lambda kind: kind.name)
def test_a_program_outlives_its_kernel_and_follows_its_definition(kind):
    """Nothing that a compiled program needs goes with the objects that it was made of; a new definition is traced anew."""

    def define(p, sign):
        kernel = kernels.cpp(SOURCE, "times(x: f32[..., n], w: f32[n]) -> f32[..., n]")
        p.def_impl(lambda x, w: sign * kernel(x, w))
        return p

    devices = mesh(kind, 4)
    with jax.set_mesh(devices):
        x, w = jax.device_put(X, NamedSharding(devices, P("d"))), jax.device_put(W, NamedSharding(devices, P()))
        compiled = jax.jit(define(Primitive("gone"), 1)).lower(x, w).compile()
        gc.collect()
        jax.clear_caches()
        np.testing.assert_array_equal(compiled(x, w), X * W)
        p = define(Primitive("redefined"), 1)
        jitted = jax.jit(p)
        np.testing.assert_array_equal(jitted(x, w), X * W)
        define(p, -1)
        np.testing.assert_array_equal(jitted(x, w), -X * W)


def test_another_process_finds_the_programs_and_loads_exported_ones(tmp_path):
    """The name of the program of one device is the program, so nothing of the first process is needed."""
    program = Path(__file__).parent / "another_process.py"
    # What a Numba function is called in a program does not depend on JAX.
    run = [
        sys.executable,
        str(program),
        str(tmp_path / "folder"),
        *(["numba"] if HAS_NUMBA and not IS_OLDER_JAX else []),
    ]
    env = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    first, second = (subprocess.run(run, env=env, capture_output=True, text=True, check=False) for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    before, after = json.loads(first.stdout), json.loads(second.stdout)
    assert [name for name, found in before.items() if found] == [
        "exported, Auto",
        "exported, Explicit",
        "exported, symbolic",
    ]
    assert re.match(r"NOT_FOUND: No FFI handler registered for jaxprim\.times\.[0-9a-f.]+ ", after.pop("not there"))
    for kind in ("Auto", "Explicit"):
        assert after.pop(f"host, {kind}") == after.pop(f"JAX's callback, {kind}")  # JAX 0.10 does not keep them
    assert [name for name, found in after.items() if not found] == []


@cache
def elementwise(name):
    if name == "c_function":
        return kernels.c_function(ctypes.CDLL(ctypes.util.find_library("m")).cosf, "(f32) -> f32")
    return kernels.numba(lambda x: x + 1, name="plus")


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", ["c_function", pytest.param("numba", marks=needs("numba"))])
def test_an_elementwise_kernel_is_split_along_each_axis(name, kind):
    """No operand has an axis beside those of the batch: XLA's own partitioner would gather them all."""
    x = numbers(4, 6, 256)
    want = np.cos(x) if name == "c_function" else x + 1
    devices = mesh(kind, 2, 2)
    with jax.set_mesh(devices):
        for spec, seen in ((P("d", "t"), "2,3,256"), (P("t", None, "d"), "2,6,128"), (P(("d", "t")), "1,6,256")):
            placed = jax.device_put(x, NamedSharding(devices, spec))
            compiled = jax.jit(elementwise(name)).lower(placed).compile()
            got = compiled(placed)
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
            assert got.sharding.is_equivalent_to(placed.sharding, 3)
            assert not any(collectives(compiled).values())
            assert shapes_seen(compiled) == {seen}


@needs("numba")
def test_a_numba_kernel_in_an_operation_with_a_rule():
    p, x = Primitive("total"), numbers(4, 256)
    p.def_impl(lambda x: jnp.sum(elementwise("numba")(x), 1))
    p.def_sharding("b n -> b", reduced="n")
    devices = mesh(AxisType.Auto, 2, 2)
    placed = jax.device_put(x, NamedSharding(devices, P("d", "t")))
    compiled = jax.jit(p).lower(placed).compile()
    np.testing.assert_allclose(compiled(placed), np.sum(x + 1, 1), rtol=1e-5)
    assert shapes_seen(compiled) == {"2,128"}
    assert not collectives(compiled)["all-gather"]


@needs("numba")
def test_short_rows_of_an_elementwise_numba_kernel_are_merged_but_not_gathered():
    """The loop over a row is Numba's; a row of three numbers is merged with those before it."""
    kernel = elementwise("numba")
    for kind, shape in ((AxisType.Auto, (8, 3)), (AxisType.Auto, (8,)), (AxisType.Explicit, (4, 2, 3))):
        devices = mesh(kind, 4)
        with jax.set_mesh(devices):
            x = jax.device_put(numbers(*shape), NamedSharding(devices, P("d")))
            compiled = jax.jit(kernel).lower(x).compile()
            got = compiled(x)
        np.testing.assert_array_equal(got, numbers(*shape) + 1)
        assert got.sharding.is_equivalent_to(x.sharding, len(shape))
        assert not any(collectives(compiled).values())


def said(call):
    with pytest.raises(BadCall) as caught:
        call()
    return re.sub(r"\S*(test_splitting\.py):\d+", r"\1:N", str(caught.value))


def test_an_axis_of_one_element_that_is_split():
    devices = mesh(AxisType.Explicit, 2, 2)
    with jax.set_mesh(devices):
        x = jax.device_put(X, NamedSharding(devices, P("d", "t")))
        assert (
            said(lambda: jax.jit(times())(x, W))
            == """times: operand 'x' is split along an axis that the kernel needs whole.
  got:      f32[16@d,8@t], axis 1 split over t
  expected: batch axes alone split: x: f32[..., n]
  why:      each device would run the kernel on a part of one element
  defined:  test_splitting.py:N
  write:    x = jax.sharding.reshard(x, jax.sharding.PartitionSpec('d', None))"""
        )
        np.testing.assert_array_equal(jax.jit(times())(jax.sharding.reshard(x, P("d", None)), W), X * W)


def test_operands_that_are_split_in_other_ways():
    devices = mesh(AxisType.Explicit, 2, 2)
    with jax.set_mesh(devices):
        x, w = (jax.device_put(X, NamedSharding(devices, P(axis))) for axis in "dt")
        assert (
            said(lambda: jax.jit(alike())(x, w))
            == """times: its operands are split in ways that do not fit together.
  got:      batch axis 0 split over t in operand 'w'
  expected: as in the operands before it: batch axis 0 split over d
  why:      a device must have the same elements of each operand, and a mesh axis splits one axis alone
  defined:  test_splitting.py:N
  write:    w = jax.sharding.reshard(w, jax.sharding.PartitionSpec(None, None))"""
        )
