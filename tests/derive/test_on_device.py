"""Operations with a sharding rule, in every way of using a mesh, against the same function in jnp on one device."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
from contextlib import nullcontext
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from jax_versions import IS_OLDER_JAX
from tools import collectives, cxx

from jaxprim import BadCall, Primitive, RuleWrong, kernels

pytestmark = [pytest.mark.usefixtures("kernel_cache")]

SOURCE = """
void matmul(const float* x, const float* w, int64_t i, int64_t k, int64_t j, float* y) {
  for (int64_t a = 0; a < i; ++a)
    for (int64_t b = 0; b < j; ++b) {
      y[a * j + b] = 0;
      for (int64_t c = 0; c < k; ++c) y[a * j + b] += x[a * k + c] * w[c * j + b];
    }
}
void pull(const float* x, const float* w, const float* g, int64_t b, int64_t n, float* x_bar, float* w_bar) {
  for (int64_t j = 0; j < n; ++j) w_bar[j] = 0;
  for (int64_t i = 0; i < b * n; ++i) { x_bar[i] = 2 * x[i] * w[i % n] * g[i]; w_bar[i % n] += x[i] * x[i] * g[i]; }
}
"""


def _matmul(name, implement, **options):
    p = Primitive(name, **options)
    implement(p)
    p.def_sharding("i k, k j -> i j", reduced="k")

    @p.def_jvp
    def _(primals, tangents):
        (x, w), (x_dot, w_dot) = primals, tangents
        return p(x, w), p(x_dot, w) + p(x, w_dot)

    @p.def_vjp
    def _(primals):
        x, w = primals
        return p(x, w), lambda g: (p(g, w.T), p(x.T, g))

    return p


def matmul_cpp():
    kernel = kernels.cpp(SOURCE, "matmul(x: f32[i, k], w: f32[k, j]) -> f32[i, j]")
    return _matmul("matmul", lambda p: p.def_impl(lambda x, w: kernel(x, w)))


def matmul_host():
    def implement(p):
        p.def_host(lambda x, w: x @ w)
        p.def_abstract_eval(lambda x, w: jax.ShapeDtypeStruct((x.shape[0], w.shape[1]), x.dtype))

    return _matmul("matmul_on_host", implement)


def matmul_jnp():
    return _matmul("matmul_in_jnp", lambda p: p.def_impl(lambda x, w: x @ w), batching="vmap")


def fused():
    """y = x^2 w. The backward kernel sums w's cotangent over the batch, and passes x's through."""
    kernel = kernels.cpp(SOURCE, "pull(x: f32[b, n], w: f32[n], g: f32[b, n]) -> (x_bar: f32[b, n], w_bar: f32[n])")
    in_jnp = lambda x, w, g: (2 * x * w[None] * g, jnp.sum(x * x * g, 0))
    pull = Primitive("pull")
    pull.def_impl(lambda x, w, g: kernel(x, w, g))
    pull.def_sharding("b n, n, b n -> b n, n", reduced="b")
    pull.def_jvp(lambda primals, tangents: jax.jvp(in_jnp, primals, tuple(map(jnp.asarray, tangents))))
    pull.def_vjp(lambda primals: (pull(*primals), lambda g: jax.vjp(in_jnp, *primals)[1](tuple(map(jnp.asarray, g)))))

    p = Primitive("square")
    p.def_impl(lambda x, w: x * x * w[None])
    p.def_vjp(lambda primals: (p(*primals), lambda g: tuple(pull(*primals, jnp.asarray(g)))))
    return p


def softmax():
    p = Primitive("softmax")
    p.def_impl(lambda x, w: jax.nn.softmax(x, -1) * w[None])
    p.def_sharding("... n, n -> ... n", replicated="n")
    return p


def in_pallas():
    def body(x, w, y):
        y[...] = x[...] * x[...] * w[...][None]

    p = Primitive("in_pallas")
    p.def_impl(lambda x, w: pl.pallas_call(body, jax.ShapeDtypeStruct(x.shape, x.dtype), interpret=True)(x, w))
    p.def_sharding("b n, n -> b n")

    @p.def_vjp
    def _(primals):
        x, w = primals
        return p(x, w), lambda g: (2 * x * w[None] * g, jnp.sum(x * x * g, 0))

    return p


OPERATIONS = {"matmul_host": matmul_host, "matmul_jnp": matmul_jnp, "softmax": softmax, "in_pallas": in_pallas}
if not cxx.args[0]:
    OPERATIONS |= {"matmul_cpp": matmul_cpp, "fused": fused}
made = {name: cache(make) for name, make in OPERATIONS.items()}


def plain(name):
    if name.startswith("matmul"):
        return lambda x, w: x @ w
    return (lambda x, w: jax.nn.softmax(x, -1) * w[None]) if name == "softmax" else (lambda x, w: x * x * w[None])


def loss(f, x, w):
    return jnp.sum(jnp.sin(f(x, w)))


def scanned(f, x, w):
    return jax.lax.scan(lambda c, _: (c + 0.1 * jnp.sin(f(c, w)), None), x, None, length=3)[0]


def over_weights(f, x, w):
    return jax.lax.scan(lambda c, each: (c + 0.1 * jnp.sin(f(c, each)), None), x, jnp.stack([w, 2 * w]))[0]


def pushed(f, x, w):
    return jax.jvp(f, (x, w), (jnp.cos(x), jnp.sin(w)))


def gradient(f):
    return jax.grad(partial(loss, f), (0, 1))


def twice(x):
    return jnp.stack([x, 2 * x])


def linearized(f, x, w):
    y, push = jax.linearize(f, x, w)
    return y, push(jnp.cos(x), jnp.sin(w))


PROGRAMS = {
    "value": lambda f, x, w: f(x, w),
    "jvp": pushed,
    "linearize": linearized,
    "gradient": lambda f, x, w: gradient(f)(x, w),
    "gradient of checkpoint": lambda f, x, w: gradient(jax.checkpoint(f))(x, w),
    "scan": scanned,
    "gradient of scan": lambda f, x, w: jax.grad(lambda x, w: jnp.sum(scanned(f, x, w)), (0, 1))(x, w),
    "gradient of scan of checkpoint": lambda f, x, w: jax.grad(
        lambda x, w: jnp.sum(scanned(jax.checkpoint(f), x, w)), (0, 1)
    )(x, w),
    "gradient of scan over weights": lambda f, x, w: jax.grad(lambda x, w: jnp.sum(over_weights(f, x, w)), (0, 1))(x, w),
    "vmap": lambda f, x, w: jax.vmap(f, (0, None))(twice(x), w),
    "vmap over weights": lambda f, x, w: jax.vmap(f, (None, 0))(x, twice(w)),
    "vmap of gradient": lambda f, x, w: jax.vmap(gradient(f), (0, None))(twice(x), w),
    "gradient of vmap": lambda f, x, w: gradient(jax.vmap(f, (0, None)))(twice(x), w),
    "Hessian-vector product": lambda f, x, w: pushed(gradient(f), x, w)[1],
    "gradient of gradient": lambda f, x, w: jax.grad(lambda x: jnp.sum(jnp.sin(gradient(f)(x, w)[1])))(x),
    "cond": lambda f, x, w: jax.lax.cond(x[0, 0] > 0, f, lambda x, w: -f(x, w), x, w),
    "loop": lambda f, x, w: jax.lax.fori_loop(0, 3, lambda _, c: jnp.sin(f(c, w)), x),
    "jacfwd": lambda f, x, w: jax.jacfwd(partial(loss, f), 1)(x, w),
}  # fmt: skip


def numbers(*shape):
    return np.cos(1.0 + 3 * np.arange(np.prod(shape))).reshape(shape).astype(np.float32)


X = numbers(8, 4)
AUTO, EXPLICIT = (AxisType.Auto,) * 2, (AxisType.Explicit,) * 2
WAYS = {
    "automatic": (AUTO, None),
    "explicit": (EXPLICIT, None),
    "mixed": ((AxisType.Explicit, AxisType.Auto), None),
    "manual": (AUTO, {"d", "t"}),
    "partly manual": (AUTO, {"d"}),
}


# Each compiles for a long time. What the others ask is made of the same parts. Each way and each operation has three of
# these, then the three others, in turn.
SOME = (
    "jvp",
    "gradient of checkpoint",
    "gradient of scan",
    "vmap over weights",
    "gradient of vmap",
    "Hessian-vector product",
)
ALL = [("matmul_cpp", "automatic"), ("matmul_host", "mixed")] * (not IS_OLDER_JAX)


def in_one(f, x, w, *, programs):
    return {name: PROGRAMS[name](f, x, w) for name in programs}


# On an older JAX, those that depend most on it: a kernel, a host function, a sum in a kernel.
CELLS = [
    (name, way)
    for name in OPERATIONS
    for way in WAYS
    if not IS_OLDER_JAX or (name in ("matmul_cpp", "matmul_host", "fused") and way in ("automatic", "explicit"))
]


@pytest.mark.parametrize(("name", "way"), CELLS)
def test_every_program(name, way):
    kinds, manual = WAYS[way]
    some = SOME[(list(OPERATIONS).index(name) + list(WAYS).index(way)) % 2 :: 2]
    run = partial(in_one, programs=PROGRAMS if (name, way) in ALL else some)
    f, w = made[name](), numbers(4, 4) if name.startswith("matmul") else numbers(4)
    mesh = jax.make_mesh((2, 2), ("d", "t"), axis_types=kinds)
    own = "t" if way in ("automatic", "explicit") and name != "softmax" else None
    if way == "explicit" and name.startswith("matmul"):
        own = None  # a carry that is split over t comes back whole, and JAX refuses that
    put = lambda x, *spec: jax.device_put(x, NamedSharding(mesh, P(*spec)))
    want = run(plain(name), X, w)
    if manual:
        f = jax.shard_map(f, mesh=mesh, in_specs=(P("d"), P()), out_specs=P("d"), axis_names=manual)
        got = jax.jit(partial(run, f))(put(X, "d"), put(w))
    else:
        with jax.set_mesh(mesh):
            got = jax.jit(partial(run, f))(put(X, "d", own), put(w, own))
    for program, expected in want.items():
        jax.tree.map(partial(np.testing.assert_allclose, rtol=3e-5, atol=2e-5, err_msg=program), got[program], expected)


# ------------------------------------------------------------------------------------------------------ communication
LAYOUTS = {
    "data": (("d",), ()),
    "weights": ((), (None, "t")),
    "both": (("d",), (None, "t")),
    "contraction": ((None, "t"), ("t",)),
}
ASKED = ("value", "jvp", "gradient", "gradient of checkpoint", "Hessian-vector product")


@cxx
@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_more_communication_than_the_same_in_jnp(layout):
    mesh = jax.make_mesh((2, 2), ("d", "t"), axis_types=AUTO)
    x, w = (
        jax.device_put(value, NamedSharding(mesh, P(*spec)))
        for value, spec in zip((X, numbers(4, 6)), LAYOUTS[layout], strict=True)
    )
    for program in ASKED:
        ours, twin = (
            jax.jit(partial(PROGRAMS[program], f)).lower(x, w).compile()
            for f in (made["matmul_cpp"](), plain("matmul"))
        )
        assert collectives(ours) == collectives(twin), program


INSIDE = {
    "loss of all": lambda f, x, w: jax.value_and_grad(lambda x, w: jax.lax.psum(loss(f, x, w), "d"), (0, 1))(x, w),
    "loss of one": lambda f, x, w: jax.grad(partial(loss, f), (0, 1))(x, w),
    "checkpoint in scan": lambda f, x, w: jax.grad(lambda w: jnp.sum(scanned(jax.checkpoint(f), x, w)))(w),
    "Hessian-vector product": lambda f, x, w: pushed(gradient(f), x, w)[1],
}


@cxx
@pytest.mark.parametrize("check_vma", [True, False])
def test_gradients_inside_shard_map_are_those_of_jnp(check_vma):
    mesh = jax.make_mesh((2, 2), ("d", "t"), axis_types=AUTO)
    w = numbers(4, 4)

    def everything(f, x, w):
        return {name: jax.tree.map(lambda y: y[None], run(f, x, w)) for name, run in INSIDE.items()}

    def compiled(f):
        run = partial(everything, f)
        inside = jax.shard_map(
            run, mesh=mesh, in_specs=(P("d"), P()), out_specs=P("d"), check_vma=check_vma, axis_names={"d", "t"}
        )
        return jax.jit(inside).lower(jax.device_put(X, NamedSharding(mesh, P("d"))), w).compile()

    ours, twin = compiled(made["matmul_cpp"]()), compiled(plain("matmul"))
    x = jax.device_put(X, NamedSharding(mesh, P("d")))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=3e-5, atol=3e-5), ours(x, w), twin(x, w))
    assert collectives(ours) == collectives(twin)


# ------------------------------------------------------------------------------------------------- each device's part
def seen_by_host(spec, batching=None, **kinds):
    """An elementwise host function that notes the shapes that it gets."""
    shapes: list[tuple[int, ...]] = []
    p = Primitive("seen", batching=batching)

    @p.def_host
    def _(x):
        shapes.append(x.shape)
        return np.sum(x, 1, keepdims=True) + x if spec.startswith("b n -> ") else x + 1

    p.def_abstract_eval(lambda x: x)
    p.def_sharding(spec, **kinds)
    return p, shapes


@pytest.mark.parametrize(
    ("sizes", "spec", "seen"),
    [
        ((8, 6), ("d", "t"), (4, 6)),
        ((8, 6), (("d", "t"),), (2, 6)),
        ((8, 6), (("t", "d"), None), (2, 6)),
        ((6, 6), (("d", "t"),), (6, 6)),  # uneven: no device sees what XLA fills up with
    ],
)
def test_the_part_that_a_host_function_sees(sizes, spec, seen):
    p, shapes = seen_by_host("b n -> b n", replicated="n")
    mesh = jax.sharding.Mesh(np.array(jax.devices())[[2, 0, 3, 1]].reshape(2, 2), ("d", "t"))
    x = numbers(*sizes)
    constrained = lambda x: p(jax.lax.with_sharding_constraint(x, NamedSharding(mesh, P(*spec))))
    got = jax.jit(constrained)(x)
    np.testing.assert_allclose(got, x.sum(1, keepdims=True) + x, rtol=1e-5)
    assert set(shapes) == {seen}


def joined():
    """The sum, the largest and the least along an axis, and what all parts have alike."""
    p = Primitive("joined")
    p.def_host(lambda x, w: (x.sum(1, dtype=x.dtype), x.max(1), x.min(1), 2 * w, x * w))
    p.def_abstract_eval(lambda x, w: (*[jax.ShapeDtypeStruct(x.shape[:1], x.dtype)] * 3, w, x))
    p.def_sharding("b n, -> b, b, b, , b n", reduced={"n": ("sum", "max", "min", "invarying"), "b": "invarying"})
    return p


OF_WORDS = [("float32", "automatic"), ("float32", "explicit"), ("float32", "partly manual"), ("int32", "partly manual")]


@pytest.mark.parametrize(("dtype", "way"), OF_WORDS[2:] if IS_OLDER_JAX else OF_WORDS)
def test_the_words_for_a_result_that_lacks_an_axis(dtype, way):
    kinds, manual = WAYS[way]
    mesh = jax.make_mesh((2, 2), ("d", "t"), axis_types=kinds)
    x, w, p = (-3 - 2 * X).astype(dtype), np.asarray(3, dtype), joined()
    if manual:
        out = (P("d"), P("d"), P("d"), P(), P("d"))
        p = jax.shard_map(p, mesh=mesh, in_specs=(P("d"), P()), out_specs=out, axis_names=manual, check_vma=False)
    with jax.set_mesh(mesh) if not manual else nullcontext():
        xs = jax.device_put(x, NamedSharding(mesh, P("d", "t")))
        compiled = jax.jit(p).lower(xs, w).compile()
        got = compiled(xs, w)
    want = (x.sum(1), x.max(1), x.min(1), 2 * w, x * w)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), got, want)
    found = collectives(compiled)
    assert (found["all-gather"], found["all-reduce"] > 0) == (0, True)


@pytest.mark.parametrize("manual", ["b"] if IS_OLDER_JAX else ["a", "b", "c"])
def test_partly_manual_code_sums_as_jnp_does(manual):
    """XLA numbers devices in an order of its own there, so the sum is left to it."""
    name, sizes = "matmul_host" if manual == "b" else "matmul_jnp", {"a": 2, "b": 2, "c": 1}
    mesh = jax.make_mesh((2, 2, 1), ("a", "b", "c"), axis_types=(AxisType.Auto,) * 3)
    one, *others = sorted(sizes.keys() - {manual}, key=sizes.get)
    layouts = [(None, one), (one, others[0]), (None, (others[0], one)), (others[0], None)]

    def compiled(f):
        f = jax.shard_map(f, mesh=mesh, in_specs=(P(manual), P()), out_specs=P(manual), axis_names={manual})
        return jax.jit(lambda pairs: [f(x, w) for x, w in pairs]).lower(pairs).compile()

    x, w = numbers(8, 8), numbers(8, 6)
    put = lambda value, *spec: jax.device_put(value, NamedSharding(mesh, P(*spec)))
    pairs = [(put(x, (manual, i) if i else manual, k), put(w, k)) for i, k in layouts]
    ours, twin = compiled(made[name]()), compiled(plain("matmul"))
    got = ours(pairs)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=3e-5, atol=1e-5), got, [x @ w] * len(layouts))
    assert collectives(ours) == collectives(twin)


# How operands and devices may be laid out over four devices: the mesh, the two layouts, and the sizes of i, k and j.
PLACED = {
    "free axes over one mesh axis": ((2, 2), ("a",), (None, "a"), (8, 4, 8)),
    "one operand of a contraction": ((2, 2), (None, "b"), (), (8, 4, 8)),
    "a contraction in two orders": ((2, 2), (None, ("b", "a")), (("a", "b"),), (8, 8, 8)),
    "one axis over two of three": ((2, 1, 2), (("c", "a"), "b"), ("b",), (8, 4, 8)),
    "an uneven contraction": ((2, 2), (None, ("a", "b")), (("a", "b"),), (9, 6, 9)),
    "uneven rows": ((2, 2), (("a", "b"),), (), (6, 5, 3)),
    "an axis of one element": ((2, 2), ("a", "b"), ("b",), (1, 4, 1)),
    "nothing to sum": ((2, 2), ("a", "b"), ("b",), (4, 0, 3)),
}


def test_layouts_of_two_operands():
    """In one program. No host function sees what XLA fills up uneven parts with, and operands may be donated."""
    p = Primitive("product")
    seen: set[tuple[int, ...]] = set()

    @p.def_host
    def _(x, w):
        seen.update([x.shape, w.shape])
        return x @ w

    p.def_abstract_eval(lambda x, w: jax.ShapeDtypeStruct((x.shape[0], w.shape[1]), x.dtype))
    p.def_sharding("i k, k j -> i j", reduced="k")
    devices = np.array(jax.devices())[[2, 0, 3, 1]]
    pairs = {name: (numbers(*sizes[:2]), numbers(*sizes[1:])) for name, (*_, sizes) in PLACED.items()}

    def run(pairs):
        found = {}
        for name, (shape, *specs, _) in PLACED.items():
            mesh = jax.sharding.Mesh(devices.reshape(shape), ("a", "b", "c")[: len(shape)])
            cut = [
                jax.lax.with_sharding_constraint(x, NamedSharding(mesh, P(*s)))
                for x, s in zip(pairs[name], specs, strict=True)
            ]
            found[name] = p(*cut) + (cut[0] if name == "a contraction in two orders" else 0)
        return found

    on_all = NamedSharding(jax.sharding.Mesh(devices, ("d",)), P())
    got = jax.jit(run, donate_argnums=0)(jax.device_put(pairs, on_all))
    for name, (x, w) in pairs.items():
        want = x @ w + (x if name == "a contraction in two orders" else 0)
        np.testing.assert_allclose(got[name], want, rtol=1e-4, atol=1e-5, err_msg=name)
    assert {(8, 2), (2, 8)} <= seen
    assert {part for part in seen if {*part} & {5, 9}} == {(9, 6), (6, 9), (6, 5), (5, 3)}


def test_explicit_axes_over_empty_arrays():
    """XLA refuses a `shard_map` of nothing but empty arrays."""
    mesh = jax.make_mesh((2, 2), ("d", "t"), axis_types=EXPLICIT)
    with jax.set_mesh(mesh):
        x = jax.device_put(numbers(4, 0), NamedSharding(mesh, P("d", "t")))
        w = jax.device_put(numbers(0, 3), NamedSharding(mesh, P("t")))
        got = jax.jit(made["matmul_host"]())(x, w)
    assert (got.shape, got.sharding.spec, np.any(got)) == ((4, 3), P("d", None), False)


def test_a_vmapped_host_function_without_a_rule_splits_along_the_batch():
    mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))
    calls: list[int] = []
    p = Primitive("one")
    p.def_host(lambda x: calls.append(len(x)) or np.cumsum(x, dtype=x.dtype))
    p.def_abstract_eval(lambda x: x)
    x = jax.device_put(X, NamedSharding(mesh, P("d")))
    compiled = jax.jit(jax.vmap(p)).lower(x).compile()
    np.testing.assert_allclose(compiled(x), np.cumsum(X, 1), rtol=1e-5)
    assert calls == [4] * 8
    assert not any(collectives(compiled).values())
    assert p.explain()["sharding"].origin == "host"


@pytest.mark.parametrize("kinds", [AUTO, EXPLICIT], ids=["automatic", "explicit"])
@pytest.mark.parametrize("name", [name for name in OPERATIONS if name in ("matmul_cpp", "matmul_host", "softmax")])
def test_vmaps_over_a_mesh_axis(name, kinds):
    f, twin = made[name](), plain(name)
    mesh = jax.make_mesh((2, 2), ("d", "t"), axis_types=kinds)
    x, w = np.stack([X, 2 * X]), numbers(4, 4) if name.startswith("matmul") else numbers(4)
    over = {"spmd_axis_name": "d"} if kinds is AUTO else {}
    run = lambda f: jax.vmap(jax.value_and_grad(partial(loss, f)), (0, None), **over)
    named = lambda f: jax.vmap(jax.vmap(lambda x, w: f(x[None], w)[0], (0, None), axis_name="i"), (0, None), **over)
    want = jax.vmap(jax.value_and_grad(partial(loss, twin)), (0, None))(x, w), jax.vmap(twin, (0, None))(x, w)
    with jax.set_mesh(mesh):
        xs = jax.device_put(x, NamedSharding(mesh, P("d")))
        got = jax.jit(run(f))(xs, w), jax.jit(named(f))(xs, w)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=3e-5, atol=2e-5), got, want)


def test_a_host_function_in_partly_manual_code():
    """JAX refuses its own callbacks there. Each device calls it, with all that its part of the manual axes has."""
    p = Primitive("sorted")
    p.def_host(lambda x: np.sort(x))
    p.def_abstract_eval(lambda x: x)
    mesh = jax.make_mesh((2, 2), ("d", "t"), axis_types=AUTO)
    run = jax.shard_map(p, mesh=mesh, in_specs=P("d"), out_specs=P("d"), axis_names={"d"})
    x = jax.device_put(X, NamedSharding(mesh, P("d", "t")))
    np.testing.assert_array_equal(jax.jit(run)(x), np.sort(X))


@pytest.mark.parametrize("kinds", [AUTO, EXPLICIT], ids=["automatic", "explicit"])
@pytest.mark.parametrize("calls", ["debug.print", "pure_callback"])
def test_an_implementation_that_calls_python_by_jax(calls, kinds, capfd):
    """On automatic axes it is not split: the part would call another function of the program."""
    p = Primitive("printing")
    shape = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype)
    own = {
        "debug.print": lambda x: (jax.debug.print("seen {}", x[0, 0]), 2 * x)[1],
        "pure_callback": lambda x: jax.pure_callback(lambda x: np.multiply(x, 2, dtype=x.dtype), shape(x), x),
    }
    p.def_impl(own[calls])
    p.def_sharding("b n -> b n")
    mesh = jax.make_mesh((2, 2), ("d", "t"), axis_types=kinds)
    other = lambda x: jax.pure_callback(lambda x: np.multiply(x, 0, dtype=x.dtype), shape(x), x)
    with jax.set_mesh(mesh):
        x = jax.device_put(X, NamedSharding(mesh, P("d")))
        got = jax.jit(lambda x: p(x) + (other(x) if kinds is AUTO else 0 * x))(x)
        np.testing.assert_allclose(got, 2 * X, rtol=1e-6)


def test_a_collective_over_the_batch_needs_all_of_it():
    p = Primitive("centred")
    p.def_impl(lambda x: x - jax.lax.pmean(x, "i"))
    p.def_sharding("n -> n")
    mesh = jax.make_mesh((2, 2), ("d", "t"), axis_types=AUTO)
    x = jax.device_put(X, NamedSharding(mesh, P("d", "t")))
    got = jax.jit(jax.vmap(p, axis_name="i"))(x)
    np.testing.assert_allclose(got, X - X.mean(0), atol=1e-6)


def test_each_part_is_traced_once_in_a_program():
    traces: list[tuple[int, ...]] = []
    p = Primitive("traced")
    p.def_impl(lambda x: traces.append(x.shape) or jnp.sin(x))
    p.def_sharding("b n -> b n")
    mesh = jax.make_mesh((2, 2), ("d", "t"), axis_types=AUTO)
    x = jax.device_put(X, NamedSharding(mesh, P("d", "t")))
    jax.jit(lambda x: p(p(p(x))) + jax.lax.scan(lambda c, _: (p(c), None), x, None, length=2)[0])(x)
    assert sorted(traces) == [(4, 2), (8, 4)]


def test_a_host_function_has_a_place_in_each_module():
    p, _ = seen_by_host("b n -> b n", replicated="n")
    other = lambda x: jax.pure_callback(
        lambda x: np.multiply(x, 0, dtype=x.dtype), jax.ShapeDtypeStruct(x.shape, x.dtype), x
    )
    mesh = jax.make_mesh((2, 2), ("d", "t"), axis_types=AUTO)
    x = jax.device_put(X, NamedSharding(mesh, P("d")))
    once = X.sum(1, keepdims=True) + X
    for program in (p, lambda x: other(x) + p(x), lambda x: other(x) + p(other(x) + x)):
        np.testing.assert_allclose(jax.jit(program)(x), once, rtol=1e-5)


def test_two_operations_that_differ_only_on_a_part():
    def make(number):
        p = Primitive("look alike")
        p.def_impl(lambda x: x + (number if x.shape == (4, 4) else 0))
        p.def_sharding("b n -> b n")
        return p

    one, other = make(1), make(2)
    mesh = jax.make_mesh((2, 2), ("d", "t"), axis_types=AUTO)
    x = jax.device_put(X, NamedSharding(mesh, P("d")))
    got = jax.jit(lambda x: (one(x), other(x)))(x)
    np.testing.assert_allclose(got, (X + 1, X + 2))


def test_the_settings_of_the_place_where_it_was_lowered():
    p = Primitive("wide")
    p.def_impl(lambda x: x * jnp.asarray(np.float64(1 / 3)))
    p.def_sharding("b n -> b n")
    mesh = jax.make_mesh((2, 2), ("d", "t"), axis_types=AUTO)
    with jax.enable_x64(True):
        x = jax.device_put(X.astype(np.float64), NamedSharding(mesh, P("d")))
        lowered = jax.jit(p).lower(x)
    with jax.set_mesh(jax.make_mesh((4,), ("d",), axis_types=(AxisType.Explicit,))):
        compiled = lowered.compile()
    np.testing.assert_array_equal(compiled(x), X.astype(np.float64) * (1 / 3))


def test_a_host_function_in_double_precision():
    p = Primitive("cumulative", batching="expand_dims")
    p.def_host(lambda x: np.cumsum(x, -1))
    p.def_abstract_eval(lambda x: x)
    p.def_sharding("b n -> b n", replicated="n")
    mesh = jax.make_mesh((2, 2), ("d", "t"), axis_types=AUTO)
    with jax.enable_x64(True):
        x = X.astype(np.float64)
        got = jax.jit(jax.vmap(p))(jax.device_put(x[None], NamedSharding(mesh, P(None, "d"))))
    assert got.dtype == np.float64
    np.testing.assert_allclose(got[0], np.cumsum(x, 1), rtol=1e-14)


def test_a_rule_reaches_what_was_compiled_before():
    p, shapes = seen_by_host("b n -> b n", replicated="b n")
    mesh = jax.make_mesh((2, 2), ("d", "t"), axis_types=AUTO)
    x = jax.device_put(X, NamedSharding(mesh, P("d")))
    run = jax.jit(lambda x: p(x))
    run(x)
    p.def_sharding("b n -> b n", replicated="n")
    run(x)
    assert set(shapes) == {(8, 4), (4, 4)}


def test_a_compiled_program_outlives_its_operation():
    def compiled(x):
        p, _ = seen_by_host("b n -> b n", replicated="n")
        return jax.jit(lambda x: p(x) + jax.lax.fori_loop(0, 2, lambda _, c: p(c), x)).lower(x).compile()

    mesh = jax.make_mesh((2, 2), ("d", "t"), axis_types=AUTO)
    x = jax.device_put(X, NamedSharding(mesh, P("d")))
    run = compiled(x)
    gc.collect()
    once = lambda x: x.sum(1, keepdims=True) + x
    np.testing.assert_allclose(run(x), once(X) + once(once(X)), rtol=1e-4)


def test_keys_pytrees_integers_and_empty_parts():
    p = Primitive("mixed")
    p.def_impl(lambda key, tree, i: {"y": tree["x"] * i + jax.random.uniform(key), "none": None})
    p.def_sharding(", b n, -> b n")
    mesh = jax.make_mesh((2, 2), ("d", "t"), axis_types=AUTO)
    key = jax.random.key(0)
    for rows in (8, 0):
        x = jax.device_put(X[:rows], NamedSharding(mesh, P("d")))
        got = jax.jit(p)(key, {"x": x}, 3)
        np.testing.assert_allclose(got["y"], X[:rows] * 3 + np.asarray(jax.random.uniform(key)), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "complex64", "int32", "bool"])
def test_every_kind_of_number(dtype):
    """The factor is weakly typed, so the part must know that, too."""
    p = Primitive("scaled")
    p.def_impl(lambda x, factor: jnp.sum(x * factor, 1) if dtype != "bool" else jnp.any(x & (factor > 0), 1))
    p.def_sharding("b n, -> b", reduced="n")
    mesh = jax.make_mesh((2, 2), ("d", "t"), axis_types=AUTO)
    x = (2 * X).astype(dtype)
    compiled = jax.jit(lambda x: p(x, 2)).lower(jax.device_put(x, NamedSharding(mesh, P("d", "t")))).compile()
    got = compiled(jax.device_put(x, NamedSharding(mesh, P("d", "t"))))
    assert got.dtype == dtype
    np.testing.assert_allclose(
        got.astype(np.complex64), p(x, 2).astype(np.complex64), rtol=3e-2 if dtype == "bfloat16" else 1e-6
    )
    assert not collectives(compiled)["all-gather"]


# -------------------------------------------------------------------------------------------------- several processes
OTHER_PROCESS = """
import sys
from pathlib import Path
import jax, numpy as np
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from jaxprim import Primitive

hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event) if "cache_hits" in event else None)
file, what = Path(sys.argv[2]), sys.argv[3]
total, host, batched = Primitive("total"), Primitive("host"), Primitive("batched", batching="expand_dims")
if what != "not made":
    total.def_impl(lambda tree: (3 if what == "another" else 2) * tree["x"].sum(1))
    total.def_sharding("b n -> b", reduced="n")
host.def_host(lambda x: 2 * x.sum(1))
host.def_abstract_eval(lambda x: jax.ShapeDtypeStruct(x.shape[:1], x.dtype))
host.def_sharding("b n -> b", reduced="n")
batched.def_host(lambda x: 2 * x.sum(-1))
batched.def_abstract_eval(lambda x: jax.ShapeDtypeStruct(x.shape[:-1], x.dtype))
if what == "not made":
    from jaxprim import _origin
    _origin._made.clear()
parted = Primitive("parted")  # of another process, it differs on a part alone
parted.def_impl(lambda x: x * (3 if what == "another" and x.shape == (4, 4) else 2))
parted.def_sharding("b n -> b n")
x = np.arange(64.0, dtype=np.float32).reshape(8, 8)
cut = NamedSharding(jax.make_mesh((2, 2), ("d", "t"), axis_types=(AxisType.Auto,) * 2), P("d", "t"))
own = lambda x: total({"x": x})
compiled = jax.jit(parted, in_shardings=cut).lower(x).compile()
print(len(hits), np.asarray(compiled(x))[0, 1], flush=True)
if not file.exists():
    checks = [jax.export.DisabledSafetyCheck.custom_call("jaxprim_split")]
    file.write_bytes(jax.export.export(jax.jit(own, in_shardings=cut), disabled_checks=checks)(x).serialize())
loaded = jax.export.deserialize(file.read_bytes())
fresh = lambda x: -loaded.call(x)  # not in the cache
for f in [fresh] if what != "same" else [own, host, jax.vmap(batched), loaded.call]:
    compiled = jax.jit(f, in_shardings=cut).lower(x).compile()
    assert np.array_equal(compiled(x), 2 * x.sum(1)), compiled(x)
    assert "all-gather" not in compiled.as_text() or f not in (loaded.call, own, host)
"""


def test_another_process_finds_the_program_and_loads_an_exported_one(tmp_path):
    def run(what):
        arguments = [str(tmp_path / "cache"), str(tmp_path / "exported"), what]
        return subprocess.run(
            [sys.executable, "-c", OTHER_PROCESS, *arguments], capture_output=True, text=True, check=False
        )

    first, second, missing, another = map(run, ("same", "same", "not made", "another"))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert (first.stdout, second.stdout, another.stdout) == ("0 2.0\n", "1 2.0\n", "0 3.0\n")
    assert "which this process has not made. Import the module that makes it first." in missing.stderr
    assert "is another one here than in the exported program. Export it again." in another.stderr


# ------------------------------------------------------------------------------------------------------------- errors
def said(call, error=BadCall):
    with pytest.raises(error) as caught:
        call()
    return re.sub(r"\S*(test_on_device\.py):\d+", r"\1:N", str(caught.value))


def ruled(spec, **kinds):
    p = Primitive("op")
    p.def_impl(lambda x, w: x * jnp.sum(w))
    p.def_sharding(spec, **kinds)
    return p


@pytest.mark.parametrize(
    ("spec", "kinds", "got", "expected"),
    [
        ("i k, k j", {}, "'i k, k j'", "operands -> results, as in 'i k, k j -> i j'"),
        ("i -> i -> i", {}, "'i -> i -> i'", "operands -> results, as in 'i k, k j -> i j'"),
        ("i i, k -> i i", {}, "'i' twice in 'i i', in 'i i, k -> i i'", "a name of its own for each axis of an array"),
        ("i ... -> i", {}, "`...` after 'i', in 'i ... -> i'", "`...` in front of the other names of an array"),
        ("i* -> i", {}, "'i*', in 'i* -> i'", "names such as i or batch, with a space between two of them"),
        (
            "i k, k j -> i j",
            {},
            "'k', which a result lacks, in 'i k, k j -> i j'",
            "reduced, if that result is a sum over its parts (or 'max', 'min', 'invarying'), or replicated, if each device "
            "needs it whole",
        ),
        (
            "i k -> i, k",
            {"reduced": {"k": ("max", "sum"), "i": "min"}},
            "reduced 'k': ('max', 'sum'), in 'i k -> i, k'",
            "one of 'sum', 'max', 'min', 'invarying', or one for each of the 1 results that lack it",
        ),
        ("i -> i", {"replicated": "z"}, "'z', which no operand has, in 'i -> i'", "axes of operands: i"),
        (
            "i k -> i",
            {"reduced": "k", "replicated": "k"},
            "'k' both reduced and replicated, in 'i k -> i'",
            "one of the two",
        ),
        (
            "i -> i",
            {"reduced": "i"},
            "'i' reduced, which every result has, in 'i -> i'",
            "a reduced axis that some result lacks, so that it is summed",
        ),
    ],
)
def test_a_rule_that_cannot_be_read(spec, kinds, got, expected):
    reduced = ", reduced='k')" if expected.startswith("reduced,") else None
    reduced = ", reduced={'k': 'max'})" if expected.startswith("one of 'sum'") else reduced
    write = f"op.def_sharding({spec!r}{reduced}" if reduced else "op.def_sharding('i k, k j -> i j', reduced='k')"
    assert (
        said(lambda: ruled(spec, **kinds))
        == f"""op: its sharding rule cannot be read.
  got:      {got}
  expected: {expected}
  defined:  test_on_device.py:N
  write:    {write}"""
    )


@pytest.mark.parametrize(
    ("spec", "kinds", "headline", "got", "expected"),
    [
        ("b n -> b n", {}, "has another number of operands than the operation.", "1 operand", "2, one for each array: x of shape [8,4], w of shape [4]"),
        ("b n, n -> b n, n", {"replicated": "b n"}, "has another number of results than the operation.", "2 results", "1, one for each array: result 0 of shape [8,4]"),
        ("b, n -> b", {"replicated": "n"}, "does not fit operand 'x'.", "'b'", "names for operand 'x' of shape [8,4]"),
        ("... n, n -> ...", {"reduced": "n"}, "has `...` for different numbers of axes.", "2 in result 0 of shape [8,4]", "1, as in operand 'x'"),
        ("b n, b -> b n", {}, "gives one name to axes of two sizes, 'b'.", "4 in operand 'w'", "8, as in operand 'x'"),
        ("b n, m -> n m", {"replicated": "b n"}, "gives one name to axes of two sizes, 'n'.", "8 in result 0", "4, as in operand 'x'"),
    ],
)  # fmt: skip
def test_a_rule_that_does_not_fit_the_call(spec, kinds, headline, got, expected):
    mesh = jax.make_mesh((2, 2), ("d", "t"), axis_types=AUTO)
    p = ruled(spec, **kinds)
    x = jax.device_put(X, NamedSharding(mesh, P("d")))
    text = said(lambda: jax.jit(p).lower(x, numbers(4)))
    why = "\n  why:      axes of one name are split into the same parts" if "two sizes" in headline else ""
    assert (
        text
        == f"""op: its sharding rule {headline}
  got:      {got}
  expected: {expected}{why}
  rule:     test_on_device.py:N
  write:    op.def_sharding({spec!r}, ...)  # one group of names for each array"""
    )


def test_a_rule_that_does_not_hold():
    p = Primitive("first")
    p.def_impl(lambda x: jnp.broadcast_to(x[:1], (8, 4)))
    p.def_sharding("b n -> b n")
    mesh = jax.make_mesh((2, 2), ("d", "t"), axis_types=EXPLICIT)
    with jax.set_mesh(mesh):
        x = jax.device_put(X, NamedSharding(mesh, P("d")))
        assert (
            said(lambda: jax.jit(p).lower(x), RuleWrong)
            == """first: its sharding rule does not hold for the result.
  got:      [8, 4] from a part of the operands, x: float32[4,4]
  expected: [4, 4], the part of the result that the rule says
  why:      the rule is 'b n -> b n'
  rule:     test_on_device.py:N
  write:    first.def_sharding(..., replicated=...)  # with the axes that a device needs whole"""
        )


def test_explicit_types():
    mesh = jax.make_mesh((2, 2), ("d", "t"), axis_types=EXPLICIT)
    p, whole = made["matmul_host"](), made["softmax"]()
    host = Primitive("host")
    host.def_host(lambda x: x + 1)
    host.def_abstract_eval(lambda x: x)
    w = numbers(4, 6)
    with jax.set_mesh(mesh):
        put = lambda value, *spec: jax.device_put(value, NamedSharding(mesh, P(*spec)))
        spec = lambda f, *operands: jax.eval_shape(f, *operands).sharding.spec
        assert spec(p, put(X, "d"), put(w, None, "t")) == P("d", "t")
        assert spec(p, put(X, None, "t"), put(w)) == P(None, None)
        assert spec(jax.vmap(p, (0, None)), put(np.stack([X, X]), "d"), put(w, None, "t")) == P("d", None, "t")
        assert jax.jit(p)(put(X, "d"), put(w, None, "t")).sharding.spec == P("d", "t")
        assert (
            said(lambda: jax.jit(whole)(put(X, "d", "t"), put(w[0, :4])))
            == """softmax: operand 'x' is split along an axis that its sharding rule keeps whole.
  got:      f32[8@d,4@t], axis 1 split over t
  expected: '... n, n -> ... n'; replicated n
  why:      each device would compute a part of what needs all of it
  rule:     test_on_device.py:N
  write:    x = jax.sharding.reshard(x, jax.sharding.PartitionSpec('d', None))"""
        )
        assert (
            said(lambda: jax.jit(p)(put(X, "d"), put(w, None, "d")))
            == """matmul_on_host: its operands are split in ways that do not fit together.
  got:      axis 'j' split over d in operand 'w'
  expected: as in the operands before it: axis 'i' split over d
  why:      a device must have the same elements of each operand, and a mesh axis splits one axis alone
  rule:     test_on_device.py:N
  write:    w = jax.sharding.reshard(w, jax.sharding.PartitionSpec(None, None))"""
        )
        assert (
            said(lambda: host(put(X, "d")))
            == """host: operand 'x' is split along an axis that it needs whole.
  got:      f32[8@d,4], axis 0 split over d
  expected: operands that are whole on each device
  why:      it has no sharding rule (def_sharding), and JAX cannot look into its implementation
  rule:     test_on_device.py:N
  write:    x = jax.sharding.reshard(x, jax.sharding.PartitionSpec(None, None))"""
        )
        np.testing.assert_array_equal(jax.vmap(host)(put(X, "d")), X + 1)
        assert jax.vmap(host)(put(X, "d")).sharding.spec == P("d", None)
