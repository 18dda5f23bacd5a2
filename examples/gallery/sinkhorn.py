"""Optimal transport with entropy, by Sinkhorn's iteration: a fixed point, and derivatives from its equation.

The plan `P` moves mass `a` at one place to mass `b` at another, at the cost `C`. With the entropy as a penalty it is

    P_ij = exp((f_i + g_j - C_ij) / epsilon),        sum_j P_ij = a_i,        sum_i P_ij = b_j.

Each of the two sums gives one potential from the other, and so `g` is a fixed point, `g = S(g)`:

    f_i = epsilon (log a_i - log sum_j exp((g_j - C_ij) / epsilon))
    g_j = epsilon (log b_j - log sum_i exp((f_i - C_ij) / epsilon))

A constant may be added to `g` and subtracted from `f`, so `I - S_g` is singular. Here the mean of `g` under `b` is zero:

    g = S(g) - b.S(g) / b.1

At a fixed point `b^T S_g = b^T`, so `v = S_g v - (b^T S_g v) 1` makes `b^T v` zero, and then `v = S_g v`. As `S_g` has
positive entries and rows of sum 1, such a `v` is constant, and so zero: the linear systems have one solution.

Derivatives keep no steps of the iteration, and are right in `C`, `a`, `b` and `epsilon`, in both modes and to any order.

Run it with `python examples/gallery/sinkhorn.py`, or check it with `jaxprim check examples/gallery/sinkhorn.py`.
"""

import timeit

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import logsumexp

from jaxprim import Primitive

# (C [n, m], a [n], b [m], epsilon) -> g [m]. The implementation is JAX code, which XLA splits over devices as it is, along
# the rows and columns of C and the axes of vmap: there is no sharding rule.
potential = Primitive("sinkhorn")


def other(g, cost, a, epsilon):
    """The potential `f` of the rows."""
    return epsilon * (jnp.log(a) - logsumexp((g - cost) / epsilon, axis=1))


def step(g, cost, a, b, epsilon):
    new = other(other(g, cost, a, epsilon), cost.T, b, epsilon)
    return new - jnp.vdot(b, new) / jnp.sum(b)


@potential.def_impl
def _(cost, a, b, epsilon, *, most=10_000):
    """Steps until `g` moves no more than rounding moves it, and `most` of them."""
    still = 8 * jnp.finfo(cost.dtype).eps * jnp.max(jnp.abs(cost))

    def go_on(state):
        _, moved, count = state
        return (moved > still) & (count < most)

    def again(state):
        g, _, count = state
        new = step(g, cost, a, b, epsilon)
        return new, jnp.max(jnp.abs(new - g)), count + 1

    start = jnp.zeros_like(cost, shape=b.shape)
    return jax.lax.while_loop(go_on, again, (start, jnp.full((), jnp.inf, cost.dtype), 0))[0]


potential.def_implicit(fixed_point=lambda g, cost, a, b, epsilon, **_: step(g, cost, a, b, epsilon))


def plan(cost, a, b, epsilon):
    """`P`, as a differentiable function of everything."""
    g = potential(cost, a, b, epsilon)
    f = other(g, cost, a, epsilon)
    return jnp.exp((f[:, None] + g - cost) / epsilon)


def transport_cost(cost, a, b, epsilon):
    """`sum P C`, without the entropy."""
    return jnp.sum(plan(cost, a, b, epsilon) * cost)


@potential.def_examples
def _():
    cost = jnp.array([[0.0, 1.0, 2.5], [1.0, 0.25, 1.0], [3.0, 1.0, 0.5], [0.5, 2.0, 1.5]])
    return [(cost, jnp.array([0.1, 0.4, 0.3, 0.2]), jnp.array([0.5, 0.2, 0.3]), jnp.array(0.5))]


# --------------------------------------------------------------------------------------------------------------- show
def clouds(n, m, seed=0):
    """Points in a square, and points in the half of it, each with its mass."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(size=(n, 2)), rng.uniform(size=(m, 2)) * [0.5, 1.0]
    a, b = (weights / weights.sum() for weights in (rng.uniform(0.5, 1.0, n), rng.uniform(0.5, 1.0, m)))
    return tuple(map(jnp.asarray, (x, y, a, b)))


def distances(x, y):
    return jnp.sum((x[:, None] - y) ** 2, -1)


def by_ott(cost, a, b, epsilon):
    """The same by ott-jax, if it is installed: by default its derivatives are implicit too."""
    from ott.geometry.geometry import Geometry
    from ott.solvers import linear

    found = linear.solve(Geometry(cost, epsilon=epsilon), a, b, threshold=1e-12, max_iterations=10_000)
    return jnp.sum(found.matrix * cost)


def milliseconds(fn, *operands):
    jax.block_until_ready(fn(*operands))
    return 1e3 * min(timeit.repeat(lambda: jax.block_until_ready(fn(*operands)), number=1, repeat=5))


def main(n=120, m=100, epsilon=0.05):
    jax.config.update("jax_enable_x64", True)
    x, y, a, b = clouds(n, m)
    loss = lambda cost_of: lambda x: cost_of(distances(x, y), a, b, epsilon)
    gradients = {"ours": jax.jit(jax.grad(loss(transport_cost)))}
    print(f"{n} points to {m}: transport cost {loss(transport_cost)(x):.6f}, and its gradient in the points")
    try:
        theirs = jax.jit(jax.grad(loss(by_ott)))
        off = jnp.max(jnp.abs(theirs(x) - gradients["ours"](x))) / jnp.max(jnp.abs(theirs(x)))
        gradients[f"ott-jax (off by {off:.0e})"] = theirs
    except ImportError:
        print("  ott-jax is not installed")
    for name, gradient in gradients.items():
        print(f"  {name:28} {milliseconds(gradient, x):8.2f} ms")
    print(potential.explain())
    print(potential.check())


if __name__ == "__main__":
    main()
