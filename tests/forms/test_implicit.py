"""Derivatives of solutions of equations. The truth is a closed form, differences, or JAX's derivative of a plain function."""

from __future__ import annotations

import collections
import functools
import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import lu_factor, lu_solve
from scipy.optimize import minimize
from tools import cxx

from jaxprim import Primitive, kernels

RNG = np.random.default_rng(0)
N = 4
A, S = RNG.normal(size=(N, N)) + 4 * np.eye(N), RNG.normal(size=(N, N))
S = S @ S.T + np.eye(N)
B, B_DOT, Y_BAR = RNG.normal(size=(3, N))
A_DOT = RNG.normal(size=(N, N))


@pytest.fixture(autouse=True)
def _x64():
    """In all threads: a host function may run in one of XLA's."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def close(got, want, tol=1e-9):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=tol, atol=tol), got, want)


def linear_system(**options):
    op = Primitive("linear_system")
    op.def_host(np.linalg.solve)
    op.def_abstract_eval(lambda a, b: b)
    op.def_implicit(lambda y, a, b: a @ y - b, **options)
    return op


# ------------------------------------------------------------------------------------------------ an elementwise equation
def newton(x):
    y = np.zeros_like(x)
    for _ in range(60):
        y = y - (y**3 + y - x) / (3 * y**2 + 1)
    return y


def cubic():
    """y with y^3 + y = x, by Newton's method in NumPy."""
    op = Primitive("cubic")
    op.def_host(newton)
    op.def_abstract_eval(lambda x: x)
    op.def_implicit(lambda y, x: y**3 + y - x, solve="diagonal")
    return op


def slope(y):
    """From y^3 + y = x: (3 y^2 + 1) y' = 1."""
    return 1 / (3 * y**2 + 1)


def second(y):
    """6 y y'^2 + (3 y^2 + 1) y'' = 0, so y'' = -6 y / (3 y^2 + 1)^3."""
    return -6 * y / (3 * y**2 + 1) ** 3


def test_every_order_of_forward_and_reverse():
    op, x = cubic(), 3.0
    y = op(x)
    third = jax.grad(second)(y) * slope(y)
    modes = (jax.jacfwd, jax.jacrev)

    @jax.jit
    def all_orders(x):
        return (
            [a(op)(x) for a in modes],
            [a(b(op))(x) for a in modes for b in modes],
            [a(b(a(op)))(x) for a in modes for b in modes],
        )

    close(all_orders(x), ([slope(y)] * 2, [second(y)] * 4, [third] * 4))
    close([a(b(op))(x) for a in modes for b in modes], [second(y)] * 4)


def test_inside_other_transformations():
    op, x = cubic(), 3.0
    xs, y = jnp.linspace(-2, 2, 5), op(x)
    ys = op(xs)
    twice = lambda x: jax.lax.scan(lambda c, _: (op(c), None), x, None, length=2)[0]
    got = jax.jit(
        lambda x, xs: {
            "vmap of grad": jax.vmap(jax.grad(op))(xs),
            "hessian of a sum": jax.hessian(lambda t: op(t).sum())(xs),
            "checkpoint": jax.grad(jax.checkpoint(op))(x),
            "scan": jax.grad(twice)(x),
            "linearize": jax.linear_transpose(jax.linearize(op, x)[1], x)(1.0)[0],
        }
    )(x, xs)
    want = {
        "vmap of grad": slope(ys),
        "hessian of a sum": jnp.diag(second(ys)),
        "checkpoint": slope(y),
        "scan": slope(y) * slope(op(y)),
        "linearize": slope(y),
    }
    close(got, want)


def test_a_python_number_and_half_precision():
    op = Primitive("root")
    op.def_impl(jnp.sqrt)
    op.def_implicit(lambda y, a: y * y - a)
    close(jax.grad(op)(4.0), 0.25)
    close(jax.jvp(op, (4.0,), (1.0,)), (2.0, 0.25))
    x = jnp.asarray([4.0, 16.0], "bfloat16")
    got = jax.grad(lambda x: op(x).sum())(x)
    assert got.dtype == x.dtype
    close(got.astype("float32"), np.array([0.25, 0.125], "float32"), 1e-2)


def test_a_singular_jacobian_gives_no_error():
    op = Primitive("root")
    op.def_impl(jnp.sqrt)
    op.def_implicit(lambda y, a: y * y - a)
    assert not np.isfinite(jax.grad(op)(0.0))


# ------------------------------------------------------------------------------------------- which operands, which results
def test_only_what_is_perturbed_is_differentiated():
    seen = []
    op = linear_system()

    @op.def_implicit
    def _(y, a, b):
        seen.append(isinstance(a, jax.core.Tracer))
        return a @ y - b

    y_bar = jnp.asarray(Y_BAR)
    close(jax.vjp(lambda b: op(A, b), jnp.asarray(B))[1](y_bar)[0], np.linalg.solve(A.T, Y_BAR))
    text = str(jax.make_jaxpr(lambda b: jax.jvp(lambda b: op(A, b), (b,), (b,)))(B))
    assert f"f64[{N},{N}] = neg" not in text
    outer = jax.make_jaxpr(lambda a, b: jax.vjp(lambda b: op(a, b), b)[1](y_bar))(A, B)
    assert [v.aval.shape for v in outer.jaxpr.outvars] == [(N,)]


def test_integers_keys_and_params_are_closed_over():
    op = Primitive("shifted")
    op.def_impl(lambda a, k, key, *, power: (a * k + jax.random.normal(key)) ** (1 / power))
    op.def_implicit(lambda y, a, k, key, *, power: y**power - a * k - jax.random.normal(key))
    key = jax.random.key(3)
    y = op(5.0, 3, key, power=3)
    close(jax.grad(lambda a: op(a, 3, key, power=3))(5.0), 3 / (3 * y**2))
    close(jax.jvp(lambda a: op(a, 3, key, power=3), (5.0,), (1.0,))[1], 3 / (3 * y**2))
    close(jax.grad(lambda a: op(a, 3, key, power=2))(5.0), 3 / (2 * op(5.0, 3, key, power=2)))


def test_a_result_without_a_tangent_is_no_unknown():
    """The number of iterations beside the root, in a dict."""
    op = Primitive("counted")
    op.def_impl(lambda a: {"root": jnp.sqrt(a), "steps": jnp.int32(7)})
    op.def_implicit(lambda y, a: {"root": y["root"] ** 2 - a, "steps": None})
    close(jax.grad(lambda a: op(a)["root"])(4.0), 0.25)
    close(jax.jit(jax.hessian(lambda a: op(a)["root"]))(4.0), -1 / 32)
    direct = lambda matvec, b: {"root": b["root"] / matvec({"root": 1.0, "steps": None})["root"], "steps": None}
    op.def_implicit(lambda y, a: {"root": y["root"] ** 2 - a, "steps": y["steps"]}, solve=direct, symmetric=True)
    close(jax.grad(lambda a: op(a)["root"])(4.0), 0.25)


@cxx
def test_a_kernel_that_solves(kernel_cache):
    """exp(y) = exp(a x) has y = a x."""
    op = Primitive("logarithm")
    kernel = kernels.cpp(  # as in tests/test_eager.py, so that it is compiled once
        "void axpb(const float* x, float a, int64_t n, float* y) { for (int64_t i = 0; i < n; ++i) y[i] = a * x[i]; }",
        "axpb(x: f32[n]; a: f32 = 2) -> f32[n]",
    )
    op.def_kernel(kernel, platform="cpu")
    op.def_implicit(lambda y, x, *, a: jnp.exp(y) - jnp.exp(a * x), solve="diagonal")
    x = jnp.array([1.0, 0.5], "float32")
    slope, curvature = jax.jit(lambda x: (jax.jacrev(op)(x), jax.hessian(lambda x: op(x).sum())(x)))(x)
    close((slope, curvature), (2 * np.eye(2), np.zeros((2, 2))), 1e-5)


# ------------------------------------------------------------------------------------------------------- linear systems
def direct(matvec, b):
    return jnp.linalg.solve(jax.jacfwd(matvec)(b), b)


FUNCTION = {"solve": direct, "transpose_solve": direct}
ITERATIVE = ("gmres", "bicgstab", "normal_cg")
WITH = {"dense": {}, "function": FUNCTION, **{word: {"solve": word} for word in ITERATIVE}}


@pytest.mark.parametrize("options", WITH.values(), ids=WITH.keys())
def test_the_derivatives_of_a_linear_system(options):
    """A y = b: y_dot = A^-1 (b_dot - A_dot y); with A^T u = y_bar, b_bar = u and A_bar = -u y^T."""
    op = linear_system(**options)
    y, u = np.linalg.solve(A, B), np.linalg.solve(A.T, Y_BAR)

    @jax.jit
    def derivatives(a, b):
        _, y_dot = jax.jvp(op, (a, b), (jnp.asarray(A_DOT), jnp.asarray(B_DOT)))
        return y_dot, jax.vjp(op, a, b)[1](jnp.asarray(Y_BAR))

    close(derivatives(A, B), (np.linalg.solve(A, B_DOT - A_DOT @ y), (-np.outer(u, y), u)), 1e-7)


@pytest.mark.parametrize("options", [{"solve": "bicgstab"}, {"solve": direct, "symmetric": True}, {"solve": "cg"}])
def test_second_derivatives_by_products_alone(options):
    """Of sum(y^3): A^-T diag(6 y) A^-1, here of a symmetric matrix."""
    op, inverse = linear_system(**options), np.linalg.inv(S)
    got = jax.jit(jax.hessian(lambda b: jnp.sum(op(S, b) ** 3)))(B)
    close(got, inverse @ np.diag(6 * inverse @ B) @ inverse, 1e-7)


@pytest.mark.parametrize("options", [{}, FUNCTION], ids=["dense", "function"])
def test_second_derivatives_in_the_matrix(options):
    op = linear_system(**options)
    of = lambda solve: lambda a: jnp.sum(jnp.sin(solve(a, jnp.asarray(B))))
    got = jax.jit(lambda a: (jax.hessian(of(op))(a), jax.jacrev(jax.jacrev(of(op)))(a)))(A)
    want = jax.jit(jax.hessian(of(jnp.linalg.solve)))(A)
    close(got, (want, want), 1e-7)


def test_forward_mode_needs_no_transposed_solve():
    op = linear_system(solve=direct)
    close(jax.jvp(lambda b: op(A, b), (B,), (B_DOT,))[1], np.linalg.solve(A, B_DOT))


@pytest.mark.parametrize("options", [{}, FUNCTION], ids=["dense", "function"])
def test_batches(options):
    """Of matrices, of right-hand sides, of both, and nested."""
    op = linear_system(**options)
    many_a, many_b = jnp.stack([A, A + np.eye(N)]), jnp.stack([B, B_DOT, 0 * B])

    def gradients(solve):
        each = jax.grad(lambda a, b: jnp.sum(solve(a, b) ** 2), (0, 1))
        of_b = jax.vmap(each, (None, 0))
        return jax.jit(
            lambda aa, bb: (of_b(aa[0], bb), jax.vmap(each, (0, None))(aa, bb[0]), jax.vmap(of_b, (0, None))(aa, bb))
        )(many_a, many_b)

    close(gradients(op), gradients(jnp.linalg.solve), 1e-7)


@pytest.mark.parametrize("word", [*ITERATIVE, "cg"])
def test_a_batch_of_directions_one_of_which_is_zero(word):
    """An iteration that ends at once for one element, and later for others."""
    op, directions = linear_system(solve=word), jnp.stack([B, 0 * B, B_DOT])
    push = jax.vmap(lambda b_dot: jax.jvp(lambda b: op(S, b), (jnp.asarray(B),), (b_dot,))[1])
    close(jax.jit(push)(directions), directions @ np.linalg.inv(S), 1e-7)


@pytest.mark.parametrize("word", ["dense", "cg"])
def test_on_two_devices(word):
    op = linear_system(solve=word)
    mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    spec = jax.sharding.PartitionSpec("d")
    each = jax.grad(lambda b: jnp.sum(op(S, b[0]) ** 2))
    got = jax.jit(jax.shard_map(each, mesh=mesh, in_specs=spec, out_specs=spec))(jnp.stack([B, B_DOT]))
    close(got, 2 * np.stack([B, B_DOT]) @ np.linalg.inv(S) @ np.linalg.inv(S), 1e-7)


# -------------------------------------------------------------------------------------------------- fixed points, minima
def test_a_fixed_point_of_a_pytree():
    """Against JAX's derivative of 200 steps."""
    step = lambda y, x: {"a": 0.3 * jnp.cos(y["b"]) * x["s"], "b": 0.2 * y["a"] + x["t"]}
    start = {"a": jnp.zeros(2), "b": jnp.zeros(2)}
    op = Primitive("fixed_point")
    op.def_impl(lambda x: jax.lax.fori_loop(0, 200, lambda _, y: step(y, x), start))
    op.def_implicit(fixed_point=step)
    unrolled = lambda x: jax.lax.scan(lambda y, _: (step(y, x), None), start, length=200)[0]
    x = {"s": jnp.array([1.0, 2.0]), "t": jnp.array([0.1, 0.4])}
    both = lambda f: jax.jit(lambda x: (jax.grad(f)(x), jax.hessian(f)(x)))(x)
    loss = lambda solve: lambda x: jnp.sum(solve(x)["a"] * solve(x)["b"])
    close(both(loss(op)), both(loss(unrolled)), 1e-8)


@pytest.mark.parametrize("solve", ["dense", "cg", direct], ids=["dense", "cg", "function"])
def test_a_minimum(solve):
    """Of y S y / 2 + sum(y^4) / 4 - c y, with Hessian H = S + 3 diag(y^2): y_dot = H^-1 c_dot, c_bar = H^-1 y_bar."""
    op = Primitive("minimum")

    @op.def_host
    def _(c):
        slope = lambda y: S @ y + y**3 - c
        y = minimize(lambda y: y @ S @ y / 2 + np.sum(y**4) / 4 - c @ y, np.zeros(N), jac=slope, tol=1e-12).x
        for _ in range(5):
            y = y - np.linalg.solve(S + np.diag(3 * y**2), slope(y))
        return y

    op.def_abstract_eval(lambda c: c)
    op.def_implicit(minimum=lambda y, c: y @ S @ y / 2 + jnp.sum(y**4) / 4 - c @ y, solve=solve)
    y = np.asarray(op(B))
    hessian = S + np.diag(3 * y**2)
    close(jax.jvp(op, (B,), (B_DOT,))[1], np.linalg.solve(hessian, B_DOT), 1e-8)
    gradient = jax.jit(jax.grad(lambda c: jnp.sum(op(c) ** 2)))
    close(gradient(B), np.linalg.solve(hessian, 2 * y), 1e-8)
    along = (gradient(B + 1e-5 * B_DOT) - gradient(B - 1e-5 * B_DOT)) / 2e-5
    close(jax.jvp(gradient, (B,), (B_DOT,))[1], along, 1e-6)


# ------------------------------------------------------------------------------------------------------------- complex
Z, Z_DOT, C_BAR = (RNG.normal(size=(3, 2)) + 1j * RNG.normal(size=(3, 2))) + np.array([[2], [0], [0]])
COMPLEX = ("dense", "diagonal", "bicgstab")


def complex_op(fn, residual, **options):
    op = Primitive("complex")
    op.def_host(fn)
    op.def_abstract_eval(lambda z, *_: z)
    op.def_implicit(residual, **options)
    return op


def both_modes(f, *primals):
    def run(z, *rest):
        tangents = (jnp.asarray(Z_DOT), *(0.7 * x for x in rest))
        return jax.jvp(f, (z, *rest), tangents)[1], jax.vjp(f, z, *rest)[1](jnp.asarray(C_BAR))

    return jax.jit(run)(*primals)


def direct_complex(matvec, b):
    return jnp.linalg.solve(jax.jacfwd(matvec, holomorphic=True)(b), b)


HOLOMORPHIC = {"solve": direct_complex, "transpose_solve": direct_complex}


@pytest.mark.parametrize("options", [{}, {"solve": "diagonal"}, HOLOMORPHIC], ids=["dense", "diagonal", "function"])
def test_a_complex_equation_with_a_real_operand(options):
    op = complex_op(lambda z, r: np.sqrt(z * r), lambda y, z, r: y * y - z * r.astype(z.dtype), **options)
    r = np.array([1.5, 0.5])
    got = both_modes(op, Z, r)
    close(got, both_modes(lambda z, r: jnp.sqrt(z * r.astype(z.dtype)), Z, r), 1e-7)
    assert got[1][1].dtype == jnp.float64


@pytest.mark.parametrize("word", COMPLEX)
def test_an_equation_that_is_not_holomorphic(word):
    """conj(y) |y| = z |z| has y = conj(z)."""
    op = complex_op(np.conj, lambda y, z: jnp.conj(y) * jnp.abs(y) - z * jnp.abs(z), solve=word)
    with jax.numpy_dtype_promotion("standard"):
        close(both_modes(op, Z), both_modes(jnp.conj, Z), 1e-7)


@pytest.mark.parametrize("word", ["cg", "dense"])
def test_a_hermitian_system(word):
    """Its transpose is its conjugate, which conjugate gradients must not take for the matrix itself."""
    h = np.array([[2, 1j], [-1j, 3]])
    op = complex_op(lambda b: np.linalg.solve(h, b), lambda y, b: h @ y - b, solve=word)
    close(both_modes(op, Z), both_modes(lambda b: jnp.linalg.solve(jnp.asarray(h), b), Z), 1e-7)


def conjugate_gradients(matvec, b):
    return jax.scipy.sparse.linalg.cg(matvec, b, tol=1e-14)[0]


@pytest.mark.parametrize("solve", ["dense", conjugate_gradients], ids=["dense", "function"])
def test_a_minimum_in_complex_numbers(solve):
    """|2 y - z|^2 + |y|^4 is least where 2 (2 y - z) + 2 |y|^2 y = 0; |y| is the root of r^3 + 2 r = |z|."""
    op = Primitive("complex_minimum")

    def fn(z):
        r = np.abs(z)
        for _ in range(60):
            r = r - (r**3 + 2 * r - np.abs(z)) / (3 * r**2 + 2)
        return r * z / np.abs(z)

    size = lambda y: (y * jnp.conj(y)).real
    op.def_host(fn)
    op.def_abstract_eval(lambda z: z)
    objective = lambda y, z: jnp.sum(size(2 * y - z) + size(y) ** 2)
    op.def_implicit(minimum=objective, solve=solve)
    z, h = Z, 1e-6
    close(fn(z), op(z))
    y_dot, (z_bar,) = both_modes(op, z)
    close(y_dot, (fn(z + h * Z_DOT) - fn(z - h * Z_DOT)) / (2 * h), 1e-6)
    close(np.sum(z_bar * Z_DOT).real, np.sum(C_BAR * np.asarray(y_dot)).real, 1e-7)


# ----------------------------------------------------------------------------------- what the implementation keeps
def factorizing():
    """A linear system by SciPy's LU, whose factors the derivatives use again; and how often it does what."""
    runs = collections.Counter()
    op, back = Primitive("factorizing"), Primitive("back")

    @op.def_host
    def _(a, b):
        runs["factor"] += 1
        factors, pivots = lu_factor(a)
        return lu_solve((factors, pivots), b), factors, pivots.astype(np.int32)

    op.def_abstract_eval(lambda a, b: (b, a, jax.ShapeDtypeStruct(b.shape, np.int32)))

    @back.def_host
    def _(factors, pivots, b, *, trans):
        runs["back"] += 1
        return lu_solve((factors, pivots), b.reshape(-1, N).T, trans=trans).T.reshape(b.shape)

    back.def_abstract_eval(lambda factors, pivots, b, *, trans: b)

    @back.def_batching
    def _(axis, args, dims, *, trans):
        """All right-hand sides of one matrix at once."""
        if dims[:2] != (None, None):
            return jax.lax.map(lambda each: back(*each, trans=trans), _in_front(axis, args, dims)), 0
        return back(*args[:2], jnp.moveaxis(args[2], dims[2], 0), trans=trans), 0

    op.def_implicit(
        lambda y, a, b: a @ y - b,
        keep=("factors", "pivots"),
        solve=lambda matvec, b, factors, pivots: back(factors, pivots, b, trans=0),
        transpose_solve=lambda vecmat, b, factors, pivots: back(factors, pivots, b, trans=1),
    )
    return op, runs


def _in_front(axis, args, dims):
    moved = [jnp.moveaxis(x, d, 0) if d is not None else None for x, d in zip(args, dims, strict=True)]
    return tuple(
        jnp.broadcast_to(x, (axis.size, *x.shape)) if m is None else m for x, m in zip(args, moved, strict=True)
    )


@pytest.mark.parametrize("call", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_a_factorization_is_made_once(call):
    op, runs = factorizing()
    y, u, inverse = np.linalg.solve(A, B), np.linalg.solve(A.T, Y_BAR), np.linalg.inv(A)
    loss = lambda b: jnp.sum(op(A, b) ** 3)

    def counted(f, *args):
        runs.clear()
        found = jax.block_until_ready(call(f)(*args))
        return found, dict(runs)

    forward = lambda a, b: jax.jvp(op, (a, b), (jnp.asarray(A_DOT), jnp.asarray(B_DOT)))[1]
    found = {
        "value": counted(op, A, B),
        "jvp": counted(forward, A, B),
        "vjp": counted(lambda a, b: jax.vjp(op, a, b)[1](jnp.asarray(Y_BAR)), A, B),
        "hessian": counted(jax.hessian(loss), B),
    }
    close(found["value"][0], y)
    close(found["jvp"][0], np.linalg.solve(A, B_DOT - A_DOT @ y))
    close(found["vjp"][0], (-np.outer(u, y), u))
    close(found["hessian"][0], inverse.T @ np.diag(6 * y) @ inverse)
    assert {name: counts["factor"] for name, (_, counts) in found.items()} == dict.fromkeys(found, 1)
    assert found["jvp"][1]["back"] == found["vjp"][1]["back"] == 1
    assert found["hessian"][1]["back"] <= 3  # the gradient, and all directions at once, there and back


def test_what_is_kept_never_leaves_the_operation():
    op, _ = factorizing()
    shape = jax.eval_shape(op, A, B)
    assert (shape.shape, shape.dtype) == ((N,), np.float64)
    many = jnp.stack([A, A + np.eye(N)])
    gradients = jax.jit(jax.vmap(jax.grad(lambda a, b: jnp.sum(op(a, b) ** 2)), (0, None)))(many, B)
    plain = jax.vmap(jax.grad(lambda a: jnp.sum(jnp.linalg.solve(a, jnp.asarray(B)) ** 2)))
    close(gradients, jax.jit(plain)(many))
    assert "keeps factors, pivots" in str(op.explain())
    assert op.report(A, B, only=["abstract-eval", "jvp-differences", "primal"]).ok


def test_without_keep_everything_is_the_result():
    op = Primitive("pair")
    op.def_impl(lambda a: (jnp.sqrt(a), 2 * a))
    op.def_implicit(
        lambda y, a: y * y - a, keep="twice", solve=lambda matvec, b, twice: b / matvec(1.0), symmetric=True
    )
    close(op(4.0), 2.0)
    close(jax.grad(op)(4.0), 0.25)
    op.def_implicit(lambda y, a: (y[0] ** 2 - a, y[1] - 2 * a))
    close(op(4.0), (2.0, 8.0))
    close(jax.jacfwd(op)(4.0), (0.25, 2.0))


# ---------------------------------------------------------------------------------------------------------- definitions
def test_explain_says_it():
    op = cubic()
    lines = str(op.explain())
    assert lines.count("implicit; solve='diagonal'") == 2
    op.def_implicit(minimum=lambda y, x: y, solve="cg", tol=1e-9)
    assert "implicit, of a minimum; solve='cg', tol=1e-09" in str(op.explain())
    op.def_implicit(fixed_point=lambda y, x: y, solve=direct, transpose_solve=direct)
    assert "implicit, of a fixed point; solve=direct at" in str(op.explain())


def test_it_returns_the_function():
    op = Primitive("root")
    op.def_impl(jnp.sqrt)
    residual = lambda y, a: y * y - a
    assert op.def_implicit(residual) is residual
    assert op.def_implicit(solve="gmres")(residual) is residual
    assert op.def_implicit(fixed_point=residual) is residual
    assert op.def_implicit(minimum=residual, solve="cg") is residual


def test_another_rule_replaces_one_of_both():
    op = cubic()
    op.def_jvp(lambda primals, tangents: (op(*primals), 5 * tangents[0]))
    close(jax.jvp(op, (3.0,), (1.0,))[1], 5.0)
    close(jax.grad(op)(3.0), slope(op(3.0)))
    op.def_implicit(lambda y, x: y**3 + y - x)
    close(jax.jvp(op, (3.0,), (1.0,))[1], slope(op(3.0)))


def test_an_operation_that_was_used_can_be_dropped():
    def make():
        op = cubic()
        jax.grad(op)(3.0)
        jax.jvp(op, (3.0,), (1.0,))
        return weakref.ref(op._rules)

    dropped = make()
    jax.clear_caches()
    gc.collect()
    assert dropped() is None


def test_a_gradient_in_eager_code_is_compiled_once():
    traced = []
    op = Primitive("root")
    op.def_impl(jnp.sqrt)

    @op.def_implicit
    def _(y, a):
        traced.append(1)
        return y * y - a

    jax.grad(op)(4.0)
    before = len(traced)
    close(jax.grad(op)(9.0), 1 / 6)
    assert len(traced) == before
