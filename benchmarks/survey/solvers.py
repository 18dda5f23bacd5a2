"""lineax, optimistix, jaxopt and diffrax: derivatives of what a solver returns, by implicit rules and adjoints.

A solver stops at a tolerance, which bounds the error of its result and of its derivative alike. All are asked at
tolerances far below those of the check in float64, and at one that float32 can reach there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .op import Op, at, definite, normal, points, regular

SQUARE, TALL, VECTOR = regular(3), normal(4, 2), normal(3)


def tight(x: Any) -> float:
    """A tolerance that a solver can reach in the precision of `x`."""
    return 1e-12 if jnp.result_type(x) in (jnp.float64, jnp.complex128) else 1e-6


def ops() -> Iterator[Op]:
    for part in (_lineax, _optimistix, _jaxopt, _diffrax):
        yield from (replace(op, make=partial(_jitted, op.make)) for op in part())


def _jitted(make: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
    """Traced once for each type of operand: outside of jit, these libraries compile their loops at each call."""
    return jax.jit(make())


# ------------------------------------------------------------------------------------------------------------- lineax
def _lineax() -> Iterator[Op]:
    spd = points((definite(3), VECTOR))
    for name in ("LU", "QR", "SVD"):
        yield _linear(name, points((SQUARE, VECTOR), (SQUARE + 1j * normal(3, 3, seed=2), VECTOR + 0j)))
    yield _linear("Cholesky", spd, definite=True)
    yield _linear("CG", spd, definite=True, iterative=True)
    yield _linear("GMRES", points((SQUARE, VECTOR)), iterative=True)
    yield _linear("BiCGStab", points((SQUARE, VECTOR)), iterative=True)
    yield _linear("NormalCG", points((SQUARE, VECTOR)), iterative=True)
    yield _linear("LSMR", points((SQUARE, VECTOR)), iterative=True)
    yield _linear("QR", points((TALL, normal(4)), (TALL.T, normal(2))), note=", least squares")
    yield _linear("SVD", points((TALL, normal(4)), (np.diag([1.0, 0.0]), at(1.0, 2.0))), note=", least squares")
    yield Op("lineax Triangular", _triangular, points((SQUARE, VECTOR)))
    yield Op("lineax Tridiagonal", _tridiagonal, points((normal(3) + 4, normal(2), normal(2, seed=1), VECTOR)))


def _linear(name: str, about: Any, *, definite: bool = False, iterative: bool = False, note: str = "") -> Op:
    def make() -> Callable[..., Any]:
        import lineax

        def solve(a: Any, b: Any) -> Any:
            options = {"rtol": tight(b), "atol": tight(b)} if iterative else {}
            tags = (lineax.positive_semidefinite_tag, lineax.symmetric_tag) if definite else ()
            a = (a + a.mT) / 2 if definite else a
            solver = getattr(lineax, name)(**options)
            return lineax.linear_solve(lineax.MatrixLinearOperator(a, tags), b, solver).value

        return solve

    return Op(f"lineax {name}{note}", make, about)


def _triangular() -> Callable[..., Any]:
    import lineax

    def solve(a: Any, b: Any) -> Any:
        operator = lineax.MatrixLinearOperator(jnp.tril(a), lineax.lower_triangular_tag)
        return lineax.linear_solve(operator, b, lineax.Triangular()).value

    return solve


def _tridiagonal() -> Callable[..., Any]:
    import lineax

    def solve(diagonal: Any, lower: Any, upper: Any, b: Any) -> Any:
        return lineax.linear_solve(lineax.TridiagonalLinearOperator(diagonal, lower, upper), b).value

    return solve


# --------------------------------------------------------------------------------------------------------- optimistix
def _optimistix() -> Iterator[Op]:
    for name in ("Newton", "Chord", "Dogleg"):
        yield Op(f"optimistix root_find, {name}", _root_find(name), points(at(0.6, 2.0)))
    yield Op("optimistix root_find, Bisection", _root_find("Bisection", lower=0.0, upper=4.0), points(np.array(0.6)))
    yield Op("optimistix fixed_point", _fixed_point, points(at(0.6, 2.0)))
    for name in ("LevenbergMarquardt", "GaussNewton", "Dogleg"):
        yield Op(f"optimistix least_squares, {name}", _least_squares(name), points((at(0.5, 1.2, 2.1), at(1.1, 0.7))))
    yield Op("optimistix minimise, BFGS", _minimise, points((definite(2), at(0.3, -1.0))))


def _root_find(name: str, **options: float) -> Callable[[], Callable[..., Any]]:
    def make() -> Callable[..., Any]:
        import optimistix

        def root(a: Any) -> Any:
            """`y` with `y^3 + y = a`."""
            solver = getattr(optimistix, name)(rtol=tight(a), atol=tight(a))
            found = optimistix.root_find(lambda y, a: y**3 + y - a, solver, jnp.ones_like(a), a, options, max_steps=500)
            return found.value

        return root

    return make


def _fixed_point() -> Callable[..., Any]:
    import optimistix

    def fixed(a: Any) -> Any:
        """`y` with `y = cos(y) / (1 + a)`."""
        solver = optimistix.FixedPointIteration(rtol=tight(a), atol=tight(a))
        return optimistix.fixed_point(
            lambda y, a: jnp.cos(y) / (1 + a), solver, jnp.ones_like(a), a, max_steps=500
        ).value

    return fixed


def _least_squares(name: str) -> Callable[[], Callable[..., Any]]:
    def make() -> Callable[..., Any]:
        import optimistix

        def fit(data: Any, weights: Any) -> Any:
            """The two parameters of a curve through three points, pulled towards weights."""

            def residual(y: Any, args: Any) -> Any:
                data, weights = args
                x = jnp.arange(3.0, dtype=data.dtype)
                return jnp.concatenate([y[0] * jnp.exp(0.3 * y[1] * x) - data, weights * (y - 1)])

            solver = getattr(optimistix, name)(rtol=tight(data), atol=tight(data))
            start = jnp.ones(2, data.dtype)
            return optimistix.least_squares(residual, solver, start, (data, weights), max_steps=500).value

        return fit

    return make


def _minimise() -> Callable[..., Any]:
    import optimistix

    def lowest(a: Any, b: Any) -> Any:
        def energy(y: Any, args: Any) -> Any:
            a, b = args
            return y @ (a @ y) / 2 - b @ y + jnp.sum(y**4) / 4

        solver = optimistix.BFGS(rtol=tight(b), atol=tight(b))
        return optimistix.minimise(energy, solver, jnp.zeros_like(b), (a, b), max_steps=500).value

    return lowest


# ------------------------------------------------------------------------------------------------------------- jaxopt
def _jaxopt() -> Iterator[Op]:
    data = (normal(5, 2), normal(5, seed=1), np.array(0.1))
    yield Op("jaxopt GradientDescent, ridge", _descent("GradientDescent"), points(data))
    yield Op("jaxopt LBFGS, ridge", _descent("LBFGS"), points(data))
    yield Op("jaxopt ProximalGradient, lasso", _lasso, points((normal(5, 2), normal(5, seed=1), np.array(0.05))))
    yield Op("jaxopt Bisection", _bisection, points(np.array(0.6)))
    yield Op("jaxopt FixedPointIteration", _jaxopt_fixed_point, points(at(0.6, 2.0)))
    yield Op("jaxopt isotonic_l2_pav", _isotonic, points(at(0.3, 1.2, 0.9, 2.0), at(1.0, 1.0, 0.5)))
    for name, about in PROJECTIONS.items():
        yield Op(f"jaxopt {name}", _projection(name), about)


INSIDE = normal(3)
PROJECTIONS = {
    "projection_simplex": points(at(0.3, 0.9, -0.4), at(0.5, 0.5, -0.5), at(0.2, 0.3, 0.5)),
    "projection_l1_ball": points((at(0.3, 0.9, -0.4), np.array(1.0)), (at(0.1, 0.2, 0.0), np.array(1.0))),
    "projection_l1_sphere": points((at(0.3, 0.9, -0.4), np.array(1.0))),
    "projection_l2_ball": points((at(0.3, 0.9, -0.4), np.array(0.5)), (at(0.0, 0.0, 0.0), np.array(0.5))),
    "projection_l2_sphere": points((at(0.3, 0.9, -0.4), np.array(0.5))),
    "projection_linf_ball": points((at(0.3, 0.9, -0.4), np.array(0.5))),
    "projection_box": points((at(0.3, 1.9, -0.4), (at(0.0, 0.0, 0.0), at(1.0, 1.0, 1.0)))),
    "projection_non_negative": points(at(0.3, 1.9, -0.4)),
    "projection_hyperplane": points((INSIDE, (at(1.0, 2.0, -1.0), np.array(0.5)))),
    "projection_halfspace": points((INSIDE, (at(1.0, 2.0, -1.0), np.array(-0.5)))),
    "projection_box_section": points((INSIDE, (at(-1.0, -1.0, -1.0), at(1.0, 1.0, 1.0), at(1.0, 2.0, 1.0), np.array(0.5)))),
    "projection_transport": points((normal(2, 3), (at(0.4, 0.6), at(0.2, 0.3, 0.5)))),
}  # fmt: skip


def _projection(name: str) -> Callable[[], Callable[..., Any]]:
    def make() -> Callable[..., Any]:
        import jaxopt.projection

        return getattr(jaxopt.projection, name)

    return make


def _isotonic() -> Callable[..., Any]:
    """Without Numba, if it is there: its functions take none of the arrays that `pure_callback` gives them."""
    from jaxopt._src import isotonic

    plain = getattr(isotonic._isotonic_l2_pav_numba, "py_func", isotonic._isotonic_l2_pav_numba)
    isotonic._isotonic_l2_pav_numba = plain
    return isotonic.isotonic_l2_pav


def _descent(name: str) -> Callable[[], Callable[..., Any]]:
    def make() -> Callable[..., Any]:
        import jaxopt

        def energy(w: Any, x: Any, y: Any, weight: Any) -> Any:
            return jnp.mean((x @ w - y) ** 2) + weight * jnp.sum(w**2)

        def solve(x: Any, y: Any, weight: Any) -> Any:
            solver = getattr(jaxopt, name)(energy, tol=tight(y), maxiter=2000, implicit_diff=True)
            return solver.run(jnp.zeros(2, y.dtype), x, y, weight).params

        return solve

    return make


def _lasso() -> Callable[..., Any]:
    import jaxopt

    def solve(x: Any, y: Any, weight: Any) -> Any:
        energy = lambda w, data: jnp.mean((data[0] @ w - data[1]) ** 2)
        solver = jaxopt.ProximalGradient(energy, jaxopt.prox.prox_lasso, tol=tight(y), maxiter=2000, implicit_diff=True)
        return solver.run(jnp.zeros(2, y.dtype), hyperparams_prox=weight, data=(x, y)).params

    return solve


def _bisection() -> Callable[..., Any]:
    import jaxopt

    def root(a: Any) -> Any:
        solver = jaxopt.Bisection(lambda y, a: y**3 + y - a, 0.0, 4.0, tol=tight(a), maxiter=100, check_bracket=False)
        return solver.run(None, a).params

    return root


def _jaxopt_fixed_point() -> Callable[..., Any]:
    import jaxopt

    def fixed(a: Any) -> Any:
        solver = jaxopt.FixedPointIteration(
            lambda y, a: jnp.cos(y) / (1 + a), tol=tight(a), maxiter=500, implicit_diff=True
        )
        return solver.run(jnp.ones_like(a), a).params

    return fixed


# ------------------------------------------------------------------------------------------------------------ diffrax
def _diffrax() -> Iterator[Op]:
    about = points((at(1.0, 0.5), at(1.1, 0.4, 0.4, 0.1), np.array(1.5)))
    for adjoint in ("RecursiveCheckpointAdjoint", "DirectAdjoint", "ForwardMode", "BacksolveAdjoint"):
        yield Op(f"diffrax {adjoint}", _diffeqsolve(adjoint), about)
    yield Op("diffrax Kvaerno3", _diffeqsolve("DirectAdjoint", solver="Kvaerno3"), about)
    yield Op("diffrax ImplicitAdjoint", _steady_state, points(at(0.6, 2.0)))


def _diffeqsolve(adjoint: str, solver: str = "Tsit5") -> Callable[[], Callable[..., Any]]:
    def make() -> Callable[..., Any]:
        import diffrax

        def solve(y0: Any, rates: Any, end: Any) -> Any:
            """Hares and lynxes at time `end`, in fixed steps: an exact derivative is that of the steps."""
            return diffrax.diffeqsolve(
                diffrax.ODETerm(_lotka_volterra), getattr(diffrax, solver)(**_roots(solver, y0)), 0.0, end, end / 8, y0,
                rates, adjoint=getattr(diffrax, adjoint)(), max_steps=16,
            ).ys[0]  # fmt: skip

        return solve

    return make


def _roots(solver: str, y: Any) -> dict[str, Any]:
    """Implicit steps need a root finder."""
    import optimistix

    return {"root_finder": optimistix.Newton(rtol=tight(y), atol=tight(y))} if solver.startswith("Kvaerno") else {}


def _lotka_volterra(t: Any, y: Any, rates: Any) -> Any:
    hares, lynxes = y
    a, b, c, d = rates
    return jnp.stack([a * hares - b * hares * lynxes, d * hares * lynxes - c * lynxes])


def _steady_state() -> Callable[..., Any]:
    import diffrax

    def steady(a: Any) -> Any:
        """`y` with `y^3 + y = a`, where `y' = a - y - y^3` comes to rest."""
        return diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, a: a - y - y**3), diffrax.Tsit5(), 0.0, jnp.inf, 0.1, jnp.zeros_like(a), a,
            adjoint=diffrax.ImplicitAdjoint(), event=diffrax.Event(diffrax.steady_state_event()), max_steps=4096,
            stepsize_controller=diffrax.PIDController(rtol=tight(a), atol=tight(a)),
        ).ys[0]  # fmt: skip

    return steady
