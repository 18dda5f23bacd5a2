"""An initial value problem, `y' = f(t, y, p)` and `y(t_0) = y_0`, with SciPy's `solve_ivp`; derivatives in `y_0` and `p`.

With the Jacobians `F = df/dy` and `G = df/dp` along the solution, a change of `y_0` and `p` moves it by the solution of a
linear equation, the forward sensitivity. Its transpose runs backwards, and takes in a cotangent at each time (the adjoint):

    s' = F s + G p_dot,     s(t_0) = y0_dot,     y_dot_k = s(t_k)                                     (JVP)
    l' = -F^T l,            l jumps by y_bar_k at t_k,     y0_bar = l(t_0),  p_bar = int G^T l dt     (VJP)

Solved each with steps of its own, the two would be neither linear nor each other's transpose, except to their tolerance;
`check` says so. Here both take the steps of the nonlinear solution, by the rule of Gauss and Legendre with 4 stages (of order
8, and stable for stiff equations). With `M` for the stages' matrix, one step and its exact transpose are

    K = M^-1 (F s + G p_dot),      s += h (b^T (x) 1) K
    w = M^-T h (b (x) 1) l,        l += F^T w,    p_bar += G^T w

The solution and the factors of each `M` are kept: in a cache, whose key is what they were made from, the bytes of `y_0` and
`p` (`sparse_lu.py` says why there). So a value and all its tangents and cotangents are one solve of the nonlinear equation,
under `jit(jvp)` too, and one linearization. A batch of tangents or cotangents, as in `jacfwd` and `jacrev`, is one pass.

Host functions get NumPy arrays and use NumPy: so must `f` and its Jacobians. They say nothing of the second derivatives of
`f`, so this operation has first derivatives alone, in both modes.

Run it with `python examples/gallery/ode.py` (`python examples/gallery/ode.py picture.png` draws it), or check it with
`jaxprim check examples/gallery/ode.py`.
"""

import functools
import sys
import threading
import timeit
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.ode import odeint
from scipy.integrate import solve_ivp
from scipy.linalg import lu_factor, lu_solve

from jaxprim import Example, Primitive


class Equation(NamedTuple):
    """`y' = f(t, y, p)` in NumPy: `f` is [n], its Jacobians `by_y` [n, n] and `by_p` [n, m]."""

    f: Callable
    by_y: Callable
    by_p: Callable


class Solver(NamedTuple):
    """How it is solved; the times begin with that of `y0`."""

    times: tuple[float, ...]
    method: str = "DOP853"
    rtol: float = 1e-10
    atol: float = 1e-12


# On several devices, what splits are the axes of vmap: a solve needs all of `y0` and `p`. So there is no sharding rule.
ode = Primitive("ode", batching="expand_dims")  # (y0, p) -> y [len(times), n]
ode_tangent = Primitive("ode_tangent", batching="expand_dims")  # (y0, p, y0_dot, p_dot) -> y_dot
ode_adjoint = Primitive("ode_adjoint", batching="expand_dims")  # (y0, p, y_bar) -> y0_bar, p_bar


# -------------------------------------------------------------------------------------------------------- the solution
@functools.lru_cache(maxsize=64)
def solved(equation, solver, y0, p):
    """The solution as a function of time, for operands that are given by their bytes."""
    p, (start, *_, end) = np.frombuffer(p), solver.times
    jacobian = {"jac": lambda t, y: equation.by_y(t, y, p)} if solver.method in ("Radau", "BDF", "LSODA") else {}
    tolerances = {"rtol": solver.rtol, "atol": solver.atol}
    f = lambda t, y: equation.f(t, y, p)
    found = solve_ivp(f, (start, end), np.frombuffer(y0), solver.method, dense_output=True, **tolerances, **jacobian)
    if not found.success:
        raise ArithmeticError(f"solve_ivp stopped at t = {found.t[-1]:g}: {found.message}")
    return found.sol


# The rule of Gauss and Legendre: nodes and weights on [0, 1], and the integrals up to each node.
NODES, WEIGHTS = ((np.polynomial.legendre.leggauss(4)[k] + 1 - k) / 2 for k in (0, 1))
PARTS = np.stack([NODES**q / q for q in range(1, 5)], 1) @ np.linalg.inv(np.vander(NODES, increasing=True))


class Step(NamedTuple):
    """One step of the linear equation: `F` and `G` at the stages, on top of each other, and the factors of `M`."""

    h: float
    by_y: np.ndarray
    by_p: np.ndarray
    factors: tuple


@functools.lru_cache(maxsize=64)
def linearized(equation, solver, y0, p):
    """The steps from each time to the next: those of the solver, cut at the times."""
    y, p = solved(equation, solver, y0, p), np.frombuffer(p)
    nodes = np.union1d(y.ts, solver.times)
    between = lambda a, b: nodes[(nodes >= a) & (nodes <= b)]
    return [
        [linear_step(equation, y, p, t, h) for t, h in zip(part, np.diff(part), strict=False)]
        for part in map(between, solver.times, solver.times[1:])
    ]


def linear_step(equation, y, p, t, h):
    points = [(s, y(s), p) for s in t + NODES * h]
    by_y, by_p = np.array([equation.by_y(*at) for at in points]), np.array([equation.by_p(*at) for at in points])
    n = by_y.shape[1]
    matrix = np.eye(4 * n) - h * np.einsum("jk,jab->jakb", PARTS, by_y).reshape(4 * n, 4 * n)
    return Step(h, by_y.reshape(4 * n, n), by_p.reshape(4 * n, -1), lu_factor(matrix))


LOCK = threading.Lock()


def once(make, equation, solver, y0, p):
    with LOCK:  # who comes second waits for the first one's result
        return make(equation, solver, np.asarray(y0, float).tobytes(), np.asarray(p, float).tobytes())


# ------------------------------------------------------------------------------------------------------------- values
def by_problem(solve, y0, p, *linear):
    """Solves each problem of a batch with all linear operands that belong to it, stacked in front.

    "expand_dims" puts the batch axes in front of all operands, with size 1 where one is shared.
    """
    rank = y0.ndim - 1
    problems = np.broadcast_shapes(y0.shape[:rank], p.shape[:rank])
    batch = np.broadcast_shapes(problems, *(x.shape[:rank] for x in linear))
    y0, p = (np.broadcast_to(x, (*problems, x.shape[-1])) for x in (y0, p))
    linear = [np.broadcast_to(x, (*batch, *x.shape[rank:])) for x in linear]
    outs = None
    for index in np.ndindex(problems):
        of_this = tuple(slice(None) if n == 1 else k for k, n in zip(index, problems, strict=True))
        given = [x[of_this] for x in linear]
        ahead = given[0].shape[: given[0].ndim - linear[0].ndim + len(batch)] if linear else ()
        found = solve(y0[index], p[index], *(x.reshape(-1, *x.shape[len(ahead) :]) for x in given))
        outs = outs or [np.empty((*batch, *x.shape[bool(linear) :]), y0.dtype) for x in found]
        for out, x in zip(outs, found, strict=True):
            out[of_this] = x.reshape(out[of_this].shape)
    return outs


@ode.def_host
def _(y0, p, *, equation, solver):
    solve = lambda y0, p: [once(solved, equation, solver, y0, p)(np.array(solver.times)).T]
    return by_problem(solve, y0, p)[0]


@ode.def_abstract_eval
def _(y0, p, *, equation, solver):
    if y0.ndim != 1 or p.ndim != 1 or y0.dtype != p.dtype:
        raise TypeError(f"y0 {y0.dtype}{y0.shape} and p {p.dtype}{p.shape} must be vectors of the same dtype")
    if len(solver.times) < 2 or min(np.diff(solver.times)) <= 0:
        raise TypeError(f"times must rise, and begin with that of y0: {solver.times}")
    return jax.ShapeDtypeStruct((len(solver.times), *y0.shape), y0.dtype)


# ------------------------------------------------------------------------------------- the linear equation, both ways
@ode_tangent.def_host
def _(y0, p, y0_dot, p_dot, *, equation, solver):
    def solve(y0, p, y0_dot, p_dot):
        s, p_dot = y0_dot.T.astype(float), p_dot.T.astype(float)
        found = [s]
        for part in once(linearized, equation, solver, y0, p):
            for step in part:
                stages = lu_solve(step.factors, step.by_y @ s + step.by_p @ p_dot).reshape(4, *s.shape)
                s = s + step.h * np.tensordot(WEIGHTS, stages, 1)
            found.append(s)
        return [np.array(found).transpose(2, 0, 1)]

    return by_problem(solve, y0, p, y0_dot, p_dot)[0]


@ode_tangent.def_abstract_eval
def _(y0, p, y0_dot, p_dot, *, equation, solver):
    return jax.ShapeDtypeStruct((len(solver.times), *y0.shape), y0.dtype)


@ode_adjoint.def_host
def _(y0, p, y_bar, *, equation, solver):
    def solve(y0, p, y_bar):
        first, *others = y_bar.transpose(1, 2, 0).astype(float)
        back, p_bar = np.zeros_like(first), np.zeros((len(p), len(y_bar)))
        for part, jump in zip(reversed(once(linearized, equation, solver, y0, p)), reversed(others), strict=True):
            back = back + jump
            for step in reversed(part):
                w = lu_solve(step.factors, step.h * np.kron(WEIGHTS[:, None], back), trans=1)
                back, p_bar = back + step.by_y.T @ w, p_bar + step.by_p.T @ w
        return [(back + first).T, p_bar.T]

    return tuple(by_problem(solve, y0, p, y_bar))


@ode_adjoint.def_abstract_eval
def _(y0, p, y_bar, *, equation, solver):
    return y0, p


# -------------------------------------------------------------------------------------------------------------- rules
@ode.def_jvp
def _(primals, tangents, **params):
    return ode(*primals, **params), ode_tangent(*primals, *map(jnp.asarray, tangents), **params)


@ode.def_vjp
def _(primals, **params):
    return ode(*primals, **params), lambda y_bar: ode_adjoint(*primals, y_bar, **params)


@ode_tangent.def_transpose(linear=("y0_dot", "p_dot"))
def _(y_bar, y0, p, **params):
    return ode_adjoint(y0, p, y_bar, **params)


@ode_adjoint.def_transpose(linear="y_bar")
def _(bars, y0, p, **params):
    return ode_tangent(y0, p, *map(jnp.asarray, bars), **params)


# ---------------------------------------------------------------------------------------------- predators and their prey
def growth(t, y, p):
    """Of hares `u` and lynxes `v` (Lotka and Volterra): `u' = (a - b v) u`, `v' = (c u - d) v`."""
    (u, v), (a, b, c, d) = y, p
    return np.array([(a - b * v) * u, (c * u - d) * v])


def growth_by_y(t, y, p):
    (u, v), (a, b, c, d) = y, p
    return np.array([[a - b * v, -b * u], [c * v, c * u - d]])


def growth_by_p(t, y, p):
    u, v = y
    return np.array([[u, -v * u, 0, 0], [0, 0, u * v, -v]])


PREDATORS = Equation(growth, growth_by_y, growth_by_p)


def example(*linear):
    operands = jnp.array([1.5, 0.5]), jnp.array([0.6, 0.8, 0.7, 0.9]), *map(jnp.array, linear)
    return [Example(operands, {"equation": PREDATORS, "solver": Solver((0.0, 0.5, 1.5))})]


ode.def_examples(lambda: example())
ode_tangent.def_examples(lambda: example([1.0, -0.5], [0.25, 0.0, -1.0, 0.5]))
ode_adjoint.def_examples(lambda: example([[1.0, -0.5], [0.25, 2.0], [-1.0, 0.5]]))


# --------------------------------------------------------------------------------------------------------------- show
# Pelts that the Hudson's Bay Company bought from 1900 to 1920, in thousands.
HARES = "30 47.2 70.2 77.4 36.3 20.6 18.1 21.4 22 25.4 27.1 40.3 57 76.6 52.3 19.5 11.2 7.6 14.6 16.2 24.7"
LYNXES = "4 6.1 9.8 35.2 59.4 41.7 19 13 8.3 9.1 7.4 8 12.3 19.5 45.7 51.1 29.7 15.8 9.7 10.1 8.6"


def fit(data, solver, steps=8):
    """Start and parameters, as logarithms, by the Gauss-Newton method, damped, on the logarithms of the pelts."""

    def misfit(x):
        x = jnp.exp(x)
        return (jnp.log(ode(x[:2], x[2:], equation=PREDATORS, solver=solver)) - jnp.log(data)).ravel()

    @jax.jit
    def step(x):
        r, j = misfit(x), jax.jacfwd(misfit)(x)
        return x - jnp.linalg.solve(j.T @ j + 0.1 * jnp.eye(x.size), j.T @ r), jnp.linalg.norm(r)

    x = jnp.log(jnp.array([30.0, 4.0, 0.5, 0.025, 0.025, 0.8]))
    for number in range(steps):
        x, size = step(x)
        print(
            f"  step {number}: misfit {size:.4f}; so far {solved.cache_info().misses} solutions, {linearized.cache_info().misses} linearized"
        )
    return jnp.exp(x)


def kinetics(t, y, p):
    """Robertson's three reactions, whose rates differ by nine powers of ten: a stiff equation."""
    flows = p * np.array([y[0], y[1] * y[2], y[1] ** 2])
    return np.array([flows[1] - flows[0], flows[0] - flows[1] - flows[2], flows[2]])


SPLIT = np.array([[-1.0, 1, 0], [1, -1, -1], [0, 0, 1]])  # what each flow does to each substance
REACTIONS = Equation(
    kinetics,
    lambda t, y, p: SPLIT @ (p[:, None] * np.array([[1, 0, 0], [0, y[2], y[1]], [0, 2 * y[1], 0]])),
    lambda t, y, p: SPLIT @ np.diag([y[0], y[1] * y[2], y[1] ** 2]),
)


def in_jax(y0, p, times):
    """The same by the explicit method that JAX has."""

    def f(y, t, p):
        flows = p * jnp.array([y[0], y[1] * y[2], y[1] ** 2])
        return SPLIT @ flows

    return odeint(f, y0, jnp.array(times), p, rtol=1e-8, atol=1e-10)


def compare(end):
    """One gradient of a stiff equation. (`odeint` solves for `y` backwards again, and there a stiff equation explodes.)"""
    solver = Solver((0.0, end), "Radau", rtol=1e-8, atol=1e-10)
    y0, p = jnp.array([1.0, 0.0, 0.0]), jnp.array([0.04, 1e4, 3e7])
    ways = {
        "Radau of SciPy": lambda p: ode(y0, p, equation=REACTIONS, solver=solver),
        "odeint of JAX": lambda p: in_jax(y0, p, solver.times),
    }
    print(f"Robertson's reactions until {end:g}: d y_3 / d log p")
    for name, op in ways.items():
        gradient = jax.jit(jax.grad(lambda p, op=op: op(p)[-1, 2]))
        run = lambda p, gradient=gradient: (solved.cache_clear(), linearized.cache_clear(), gradient(p))[2]
        print(f"  {name}: {gradient(p) * p}, {milliseconds(run, p):.0f} ms")


def milliseconds(fn, *operands):
    return 1e3 * min(timeit.repeat(lambda: jax.block_until_ready(fn(*operands)), number=1, repeat=3))


def main():
    jax.config.update("jax_enable_x64", True)
    data = jnp.stack([jnp.array([float(x) for x in text.split()]) for text in (HARES, LYNXES)], 1)
    solver = Solver(tuple(map(float, range(21))), rtol=1e-8, atol=1e-8)
    print("hares and lynxes, 1900 to 1920: 6 numbers fitted to 42")
    found = fit(data, solver)
    print("  start", found[:2].round(1), "parameters", found[2:].round(4))
    if len(sys.argv) > 1:
        draw(
            sys.argv[1],
            data,
            ode(found[:2], found[2:], equation=PREDATORS, solver=Solver(tuple(np.linspace(0, 20, 200)))),
        )
    compare(end=100.0)
    for op in (ode, ode_tangent, ode_adjoint):
        print(op.explain())
        print(op.check())


def draw(file, data, curve):
    from matplotlib import pyplot

    _, axes = pyplot.subplots(figsize=(5, 2.5))
    for column, (name, color) in enumerate({"hares": "tab:brown", "lynxes": "tab:blue"}.items()):
        axes.plot(1900 + np.arange(21), data[:, column], "o", color=color, markersize=4, label=name)
        axes.plot(1900 + np.linspace(0, 20, 200), curve[:, column], color=color)
    axes.set_xticks(range(1900, 1921, 5))
    axes.set_ylabel("pelts, thousands")
    axes.legend()
    pyplot.savefig(file, dpi=80, bbox_inches="tight")


if __name__ == "__main__":
    main()
