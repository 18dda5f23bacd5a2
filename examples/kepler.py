"""Kepler's equation `E - e sin E = M`, solved for the eccentric anomaly `E` by an iteration of unknown length.

Reverse mode cannot go through the iteration, and forward mode through it would differentiate every step. The implicit
function theorem gives the derivative at the solution instead. Written out: with F(E, e, M) = E - e sin E - M = 0,

    dF = (1 - e cos E) dE - sin E de - dM = 0    =>    dE = (dM + sin E de) / (1 - e cos E).

That is the JVP rule below. The VJP rule is derived from it.

Run it with `python examples/kepler.py`, or check it with `jaxprim check examples/kepler.py`.
"""
# The letters of astronomy: e is the eccentricity, E the eccentric anomaly, M the mean anomaly.
# ruff: noqa: N803, N806

import jax
import jax.numpy as jnp

from jaxprim import Primitive

kepler = Primitive("kepler")


@kepler.def_impl
def solve(e, M):
    """The eccentric anomaly for eccentricities in [0, 1) and any mean anomaly; both of one dtype.

    `E(M)` is odd, and `E(M + 2 pi) = E(M) + 2 pi`, so one half turn is enough. There `f(E) = E - e sin E - M` is convex
    and rising, and `f(min(M + e, pi)) >= 0`: from that point on, Newton's method falls to the root and cannot overshoot.
    """
    turns = 2 * jnp.pi * jnp.round(M / (2 * jnp.pi))
    m = jnp.abs(M - turns)
    start = jnp.minimum(m + e, jnp.asarray(jnp.pi, M.dtype))
    small = 4 * jnp.finfo(M.dtype).eps

    def step(state):
        E, _, count = state
        # (1 - e) E + e (E - sin E): at e near 1 and small E, more digits are left than in E - e sin E.
        change = ((1 - e) * E + e * (E - jnp.sin(E)) - m) / slope(e, E)
        return E - change, jnp.abs(change) > small * E, count + 1

    def is_going_on(state):
        _, is_moving, count = state
        return jnp.any(is_moving) & (count < 50)

    E, _, _ = jax.lax.while_loop(is_going_on, step, (start, jnp.full(start.shape, True), 0))
    return turns + jnp.copysign(E, M - turns)


def slope(e, E):
    """`1 - e cos E`, without its loss of digits at e near 1 and small E."""
    return (1 - e) + 2 * e * jnp.sin(E / 2) ** 2


@kepler.def_jvp
def _(primals, tangents):
    e, M = primals
    e_dot, M_dot = tangents
    E = kepler(e, M)
    return E, (M_dot + jnp.sin(E) * e_dot) / slope(e, E)


@kepler.def_examples
def _():
    M = jnp.linspace(-7.0, 7.0, 8)
    return [(jnp.full_like(M, e), M) for e in (0.0167, 0.99)]


if __name__ == "__main__":
    print("E at e = 0.99, M = 0.01:", kepler(0.99, 0.01))
    print("dE/de, dE/dM:", *jax.grad(kepler, (0, 1))(0.99, 0.01))
    print(kepler.explain())
    print(kepler.check())
    with jax.enable_x64(True):
        print(kepler.check(jnp.array([0.0167, 0.99]), jnp.array([2.0, 0.01])))
