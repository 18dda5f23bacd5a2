"""Derivatives of a C++ kernel from its source, in every mode and mix of modes.

Truth is a closed form, or JAX's derivative of the same function in `jax.numpy`. The kernels are shared, and compiled
without optimization, because compiling them is what these tests cost.
"""

from __future__ import annotations

import itertools
import re
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from jax_versions import IS_OLDER_JAX
from tools import collectives, cxx

from jaxprim import KernelError, Primitive, kernels
from jaxprim.kernels import build_ahead
from jaxprim.kernels.instantiation import up_to
from jaxprim.kernels.signature import parse

pytestmark = [cxx, pytest.mark.usefixtures("kernel_cache", "x64")]
newest = pytest.mark.skipif(IS_OLDER_JAX, reason="compiles many instantiations; nothing in them depends on JAX")

QUICKLY = ("-O0",)
IIR = """
template <class T>
void iir(const T* x, const T* a, int64_t n, T* y) {
  T y1 = 0, y2 = 0;
  for (int64_t i = 0; i < n; ++i) {
    const T now = x[i] + a[0] * y1 + a[1] * y2;
    y2 = y1;
    y[i] = y1 = now;
  }
}
"""
# Everything that a signature may have. `trick` makes it do what no derivative can follow.
MIXED = """
#include <stdexcept>
#include <string>
#include <vector>
template <class T>
int mixed(const T* x, const int32_t* k, T scale, double power, int64_t trick, int64_t n, int64_t m, T* y, int32_t* count,
          T* sum) {
  std::vector<T> terms(n);
  *count = 0;
  if (trick == 1) return 1;
  if (trick == 2) throw std::runtime_error("it is " + std::to_string(x[0]));
  #pragma omp parallel for num_threads(2) if (trick == 3)
  for (int64_t i = 0; i < n; ++i) terms[i] = x[i] > 1 ? scale * std::pow(x[i], power) : T(0.5);
  *sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (trick != 4 || i > 0) y[i] = terms[i];
    *sum += terms[i] * k[i % m];
    *count += x[i] > 1;
  }
  if (trick == 5) {
    static auto kept = x[0];
    *sum += kept;
  }
  return 0;
}
"""


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


@cache
def iir():
    return kernels.cpp(IIR, "iir(x: T[..., n], a: T[2]) -> T[..., n]", differentiable=True, flags=QUICKLY, threads=None)


@cache
def softplus():
    source = "template <class T> T softplus(T x) { return std::log1p(std::exp(x)); }"
    return kernels.cpp(source, "softplus(x: f64) -> f64", differentiable=True, flags=QUICKLY)


@cache
def mixed():
    return kernels.cpp(
        MIXED,
        "mixed(x: T[..., n], k: i32[m]; scale: T = 2.0, power: f64 = 3.0, trick: i64 = 0)"
        " -> (y: T[..., n], count: i32[...], sum: T[...])",
        status={1: "it was asked to fail"},
        differentiable=True,
        flags=(*QUICKLY, "-fopenmp"),
    )


def in_jnp(x, a):
    def step(carry, x):
        y1, y2 = carry
        now = x + a[0] * y1 + a[1] * y2
        return (now, y1), now

    zero = jnp.zeros((), x.dtype)
    return jax.lax.scan(step, (zero, zero), x)[1]


def mixed_in_jnp(x, k, scale=2.0):
    y = jnp.where(x > 1, scale * x**3, 0.5)
    return y, jnp.sum(y * jnp.resize(k, x.shape).astype(x.dtype))


def total(fn):
    return lambda *xs: jnp.sum(fn(*xs) ** 2)


def near(found, wanted, tolerance=1e-10):
    leaves, tree = jax.tree.flatten(found)
    for one, other in zip(leaves, tree.flatten_up_to(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


X, A = np.array([1.0, 0.0, 0.0, 0.0]), np.array([0.5, 0.25])


# ------------------------------------------------------------------------------------------------------- first and second
def test_closed_forms():
    """y_i = x_i + a_0 y_(i-1) + a_1 y_(i-2), by hand: the values, the gradient of the sum, and its Hessian in a."""
    fn = iir()
    loss = lambda x, a: fn(x, a).sum()
    near(fn(X, A), [1, 0.5, 0.5, 0.375])
    near(jax.grad(loss, (0, 1))(X, A), ([2.375, 2, 1.5, 1], [3.25, 2]))
    near(jax.jit(jax.hessian(loss, 1))(X, A), [[5, 2], [2, 0]])
    y, dots = jax.jvp(fn, (X, A), (X, A))
    near((y, dots), jax.jvp(in_jnp, (X, A), (X, A)))


@newest
@pytest.mark.parametrize(("outer", "inner"), list(itertools.product((jax.jacfwd, jax.jacrev), repeat=2)))
def test_every_mix_of_two_modes(outer, inner):
    x = jnp.array([0.3, -0.2, 0.7])
    both = lambda fn: jax.jit(outer(inner(total(fn), (0, 1)), (0, 1)))(x, A)
    near(both(iir()), jax.jacfwd(jax.jacfwd(total(in_jnp), (0, 1)), (0, 1))(x, A))


@newest
def test_third_derivatives():
    """The third derivative of softplus is s (1 - s) (1 - 2 s), for the sigmoid s. It is 0 at 0."""
    fn, g, d = softplus(), jax.grad, jax.jacfwd
    s = 1 / (1 + np.exp(-1.0))
    for nest in (g(g(g(fn))), d(d(d(fn))), d(d(g(fn)))):
        third = jax.jit(nest)
        assert float(third(1.0)) == pytest.approx(s * (1 - s) * (1 - 2 * s), abs=1e-15)
        assert abs(float(third(0.0))) < 1e-15


def test_a_hessian_takes_few_instantiations():
    """Nothing else is needed under vmap and jit: the value, its JVP, and the JVP of its VJP."""
    fn = kernels.cpp(IIR, "iir(x: T[..., n], a: T[2]) -> T[..., n]", differentiable=True, flags=QUICKLY, threads=None)
    loaded: list[str] = []
    load = fn.derivatives._load

    def counted(made, source):
        loaded.append(made.name)
        return load(made, source)

    fn.derivatives._load = counted
    x = jnp.array([[0.3, -0.2, 0.7], [0.1, 0.2, 0.3]])
    hessian = lambda fn: jax.jit(jax.vmap(jax.hessian(lambda a, x: total(fn)(x, a)), (None, 0)))(A, x)
    near(hessian(fn), hessian(in_jnp))
    assert sorted(loaded) == ["iir_jvp", "iir_vjp_jvp"]  # the value of the VJP itself is not used


# -------------------------------------------------------------------------------------------------------- transformations
@pytest.mark.parametrize("axes", [(1, None), (None, 0), (1, 0)])
def test_vmap_inside_and_outside(axes):
    x, a = jnp.array([[0.3, 0.1], [-0.2, 0.5], [0.7, 1.0]]), jnp.array([[0.5, 0.25], [0.1, -0.3]])
    given = [v if ax is not None else w for v, w, ax in zip((x, a), (x[:, 0], a[0]), axes, strict=True)]
    outside = lambda fn: jax.jit(jax.vmap(jax.grad(total(fn), (0, 1)), axes))(*given)
    near(outside(iir()), outside(in_jnp))
    inside = lambda fn: jax.jit(jax.grad(total(jax.vmap(fn, axes)), (0, 1)))(*given)
    near(inside(iir()), inside(in_jnp))


def test_an_operand_without_batch_axes_gets_the_sum_and_no_copy_for_each_element():
    """Its cotangent has the size of the operand wherever it is computed."""
    fn, x = iir(), jnp.asarray(np.random.default_rng(0).normal(size=(1000, 5)))
    grad = jax.jit(jax.grad(lambda a: jnp.sum(fn(x, a) ** 2)))
    near(grad(A), jax.grad(lambda a: jnp.sum(jax.vmap(in_jnp, (0, None))(x, a) ** 2))(A))
    program = jax.make_jaxpr(grad)(A)
    shapes = {var.aval.shape for eqn in _equations(program.jaxpr) if "kernel" in eqn.params for var in eqn.outvars}
    # The sum, and what is not wanted: a cotangent of x that is as small as may be.
    assert shapes >= {(1, 2), (1, 5)}
    assert not {(1000, 2), (1000, 1, 2)} & shapes


def _equations(program):
    for eqn in program.eqns:
        yield eqn
        for inner in eqn.params.values():
            if hasattr(inner, "jaxpr"):
                yield from _equations(inner.jaxpr)


def test_scan_checkpoint_and_linearize():
    fn = iir()
    steps = lambda fn: lambda x, a: jax.lax.scan(lambda x, _: (jax.checkpoint(fn)(x, a), None), x, None, 3)[0]
    x = jnp.array([0.3, -0.2, 0.7])
    near(jax.jit(jax.grad(total(steps(fn)), (0, 1)))(x, A), jax.grad(total(steps(in_jnp)), (0, 1))(x, A))
    _, linear = jax.linearize(fn, x, jnp.asarray(A))
    near(linear(x, jnp.asarray(A)), jax.jvp(in_jnp, (x, A), (x, A))[1])
    # The pullback is linear, and its transpose is the pushforward.
    pullback = lambda ct: jax.vjp(fn, x, jnp.asarray(A))[1](ct)
    back = jax.linear_transpose(pullback, x)
    near(back((x, jnp.asarray(A))), (jax.jvp(in_jnp, (x, A), (x, A))[1],))


def test_the_same_numbers_on_several_threads():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(500, 50)))
    fn = iir()
    grads = jax.jit(jax.grad(total(fn), (0, 1)))
    wanted = jax.jit(jax.grad(total(jax.vmap(in_jnp, (0, None))), (0, 1)))(x, A)
    first = grads(x, A)
    near(first, wanted)
    for _ in range(4):
        again = grads(x, A)
        assert all((one == other).all() for one, other in zip(first, again, strict=True))


@newest
def test_float32():
    x = X.astype(np.float32)
    found = jax.jit(jax.grad(lambda x, a: iir()(x, a).sum(), (0, 1)))(x, A.astype(np.float32))
    assert {g.dtype for g in found} == {np.dtype(np.float32)}
    near(found, ([2.375, 2, 1.5, 1], [3.25, 2]), 1e-6)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_it_splits_over_devices(kind):
    mesh = jax.make_mesh((4,), ("i",), axis_types=(kind,))
    fn, x = iir(), jnp.asarray(np.random.default_rng(0).normal(size=(16, 3)))
    grads = jax.jit(jax.grad(lambda x, a: jnp.sum(fn(x, a) ** 2), (0, 1)))
    wanted = grads(x, jnp.asarray(A))
    with jax.set_mesh(mesh):
        split = jax.device_put(x, NamedSharding(mesh, P("i")))
        whole = jax.device_put(jnp.asarray(A), NamedSharding(mesh, P()))
        near(grads(split, whole), wanted)
        found = collectives(grads.lower(split, whole).compile())
    assert found["all-gather"] == 0
    assert found["all-reduce"] <= 2


# ----------------------------------------------------------------------------------------------------- all of a signature
def loss(fn, x, **params):
    y, _, s = fn(x, jnp.array([3, 4], jnp.int32), **params)
    return s + jnp.sum(y**2)


def loss_in_jnp(x, scale=2.0):
    y, s = mixed_in_jnp(x, jnp.array([3, 4]), scale)
    return s + jnp.sum(y**2)


Z = np.array([0.5, 1.5, 2.0])


@newest
def test_several_results_integers_attributes_and_second_derivatives():
    near(jax.jit(jax.grad(lambda x: loss(mixed(), x, scale=3.0)))(Z), jax.grad(lambda x: loss_in_jnp(x, 3.0))(Z))
    push = jax.jit(lambda x, v: jax.jvp(jax.grad(lambda x: loss(mixed(), x)), (x,), (v,))[1])
    near(push(Z, Z), jax.hessian(loss_in_jnp)(Z) @ Z)
    y, count, s = mixed()(Z, jnp.array([3, 4], jnp.int32))
    assert int(count) == 2
    near((y, s), mixed_in_jnp(Z, jnp.array([3, 4])))


@newest
@pytest.mark.parametrize(
    ("trick", "said"),
    [
        (1, "mixed: it was asked to fail"),
        (2, "mixed: it is 0.5"),
        (
            3,
            "mixed: the function has threads of its own, which a tape cannot follow: its VJP must be written, or "
            "differentiable='tangents'",
        ),
        (4, "mixed: its derivative is unknown, as the function never wrote all of 'y'"),
    ],
)
def test_what_a_gradient_refuses_when_it_runs(trick, said):
    grad = jax.jit(jax.grad(lambda x: loss(mixed(), x, trick=trick)))
    with pytest.raises(Exception) as caught:
        jax.block_until_ready(grad(Z))
    assert said in str(caught.value)
    # The next call is right.
    near(jax.jit(jax.grad(lambda x: loss(mixed(), x)))(Z), jax.grad(loss_in_jnp)(Z))


@newest
def test_numbers_of_an_earlier_call_are_refused():
    grad = jax.jit(jax.grad(lambda x: loss(mixed(), x, trick=5)))
    jax.block_until_ready(grad(Z))  # the first call makes it
    with pytest.raises(Exception, match="a number of an earlier call, or memory that was never written"):
        jax.block_until_ready(grad(Z))


@newest
def test_forward_mode_follows_threads():
    push = jax.jit(lambda x, v: jax.jvp(lambda x: loss(mixed(), x, trick=3), (x,), (v,))[1])
    near(push(Z, Z), jax.jvp(loss_in_jnp, (Z,), (Z,))[1])


@newest
def test_another_order_of_arguments_with_a_copy_scratch_and_a_status():
    """Every row of a matrix in Fortran order, times the sum of the row and tol."""
    source = """
    template <class T>
    void rows(const int32_t* m, const int32_t* n, T* y, T* work, T tol, int32_t* status) {
      *status = 0;
      for (int i = 0; i < *m; ++i) {
        work[i] = tol;
        for (int j = 0; j < *n; ++j) work[i] += y[i + *m * j];
        for (int j = 0; j < *n; ++j) y[i + *m * j] *= work[i];
      }
    }
    """
    fn = kernels.cpp(
        source,
        "rows(a: f64[..., m, n]; tol: f64 = 0.5) -> y: f64[..., m, n]",
        arguments="&m, &n, y=a, scratch f64[m], tol, &status",
        sizes="i32",
        order="F",
        differentiable=True,
        flags=QUICKLY,
    )
    a = jnp.arange(6.0).reshape(2, 3)
    same = lambda a: a * (a.sum(1, keepdims=True) + 0.5)
    near(jax.jit(jax.jacrev(fn))(a), jax.jacrev(same)(a))


# ------------------------------------------------------------------------------------------------------- in a Primitive
def test_a_given_rule_wins_and_explain_names_the_means():
    p = Primitive("iir")
    p.def_impl(iir())
    shown = str(p.explain())
    assert "from impl: the C++ source with dual numbers, about 2 times the time of the impl" in shown
    assert "from impl: the C++ source with a tape, about 25 times the time of the impl" in shown
    near(jax.jit(jax.grad(lambda x: p(x, A).sum()))(X), [2.375, 2, 1.5, 1])
    p.def_vjp(lambda primals: (p(*primals), lambda ct: (7 * ct, None)))
    near(jax.grad(lambda x: p(x, jnp.asarray(A)).sum())(jnp.asarray(X)), [7, 7, 7, 7])
    assert "the C++ source with a tape" not in str(p.explain())


@newest
def test_check_finds_it_right():
    p = Primitive("iir")
    p.def_impl(iir())
    assert p.check(jnp.array([0.3, -0.2, 0.7]), jnp.asarray(A), speed="fast").ok


# ------------------------------------------------------------------------------------------------------------ built ahead
@newest
def test_a_package_has_its_derivatives_and_names_the_one_that_is_missing(tmp_path, monkeypatch):
    source = "template <class T> T cube(T x) { return x * x * x; }"
    make = lambda: kernels.cpp(source, "cube(x: f64) -> f64", differentiable=True, flags=QUICKLY)
    made = build_ahead.build([make()], tmp_path, orders=1)
    assert [row.variant.source.name for row in made] == ["cube", "cube_jvp", "cube_vjp"]
    monkeypatch.setenv("JAXPRIM_KERNELS", str(tmp_path))
    monkeypatch.setenv("CXX", "no-compiler")
    fn = make()
    near([jax.grad(fn)(2.0), jax.jvp(fn, (2.0,), (1.0,))[1]], [12.0, 12.0])
    near(jax.jacfwd(fn)(2.0), 12.0)  # several tangents at once are another library: one after the other does
    with pytest.raises(KernelError) as caught:
        jax.jit(jax.grad(jax.grad(fn)))(2.0)
    said = re.sub(r"\S*test_derivatives\.py:\d+", "test_derivatives.py:N", str(caught.value))
    assert said == (
        "cube: its second derivative is not among the libraries that were built ahead.\n"
        "  got:      no library that fits, and no C++ compiler\n"
        "  expected: a library of it that was built ahead, or a compiler\n"
        "  defined:  test_derivatives.py:N\n"
        "  write:    jaxprim build MODULE --orders 2  # where there is a compiler"
    )


@pytest.mark.parametrize(
    ("degree", "names"),
    [
        (0, []),
        (1, ["f_jvp", "f_vjp"]),
        (2, ["f_jvp", "f_jvp_jvp", "f_vjp", "f_vjp_jvp"]),
    ],
)
def test_what_an_order_needs(degree, names):
    assert [made.name for made in up_to(parse("f(x: f64[n]) -> f64[n]"), True, degree)] == names
