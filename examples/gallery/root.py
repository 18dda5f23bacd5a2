"""A root finder whose equation is a function operand: it closes over what it likes, and that has derivatives.

    f(y) = 0         f_y y_dot = -f_dot(y)                                        (JVP)
                     f_y^T u = y_bar,   f_bar is the pullback of f -> f(y) at -u  (VJP)

`f_dot` is what a change of the values that `f` reads does to it. An operation gets them as the leaves of `f`, which is a
pytree; so both rules are those of any equation, and `def_implicit` writes them. The guess has a derivative of zero.

The implementation is Newton's method, which halves a step that does not make the residual smaller.

Run it with `python examples/gallery/root.py`, or check it with `jaxprim check examples/gallery/root.py`.
"""

import timeit

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxprim import Primitive

# (f, guess) -> y like the guess, any pytree. The implementation is JAX code, which XLA splits over devices as it is: there is
# no sharding rule.
root = Primitive("root")


@root.def_function("f")
def _(f, guess, **_):
    return (guess,)


@root.def_impl
def _(f, guess, *, most=50):
    """Steps until the next would be as small as rounding, and `most` of them; nan if `f(y)` is not small then."""
    y, in_tree = ravel_pytree(guess)
    residual = lambda y: ravel_pytree(f(in_tree(y)))[0]
    eps = jnp.finfo(y.dtype).eps

    def halved(y, step, size):
        """The step, or the part of it, that makes the residual smaller."""
        falls = lambda part: jnp.linalg.norm(residual(y + part * step)) <= (1 - part / 4) * size
        go_on = lambda part: jnp.logical_not(falls(part)) & (part > eps)
        return jax.lax.while_loop(go_on, lambda part: part / 2, jnp.ones((), y.dtype)) * step

    def again(state):
        y, _, count = state
        value = residual(y)
        step = halved(y, -jnp.linalg.solve(jax.jacfwd(residual)(y), value), jnp.linalg.norm(value))
        return y + step, jnp.linalg.norm(step), count + 1

    # Each step is about the square of the one before: after one of eps^(2/3) comes one of eps^(4/3).
    go_on = lambda state: (state[1] > eps ** (2 / 3) * jnp.linalg.norm(state[0])) & (state[2] < most)
    found = jax.lax.while_loop(go_on, again, (y, jnp.full((), jnp.inf, y.dtype), 0))[0]
    small = jnp.linalg.norm(residual(found)) <= jnp.sqrt(eps) * (1 + jnp.linalg.norm(residual(y)))
    return in_tree(jnp.where(small, found, jnp.nan))


root.def_implicit(lambda y, f, guess, **_: f(y))


@root.def_examples
def _():
    a, t = jnp.array([[2.0, -1.0], [0.5, 1.5]]), jnp.array([1.0, -0.5])
    return [(lambda y: a @ y + y**3 - t, jnp.zeros(2))]


# --------------------------------------------------------------------------------------------------------------- show
def layer(solve, weights, x):
    """A layer of a network whose output is in balance with itself: `y = tanh(W y + U x)`."""
    w, u = weights
    return solve(lambda y: y - jnp.tanh(w @ y + u @ x), jnp.zeros(w.shape[:1], w.dtype))


def by_optimistix(f, guess):
    """The same by optimistix, if it is installed."""
    import optimistix

    solver = optimistix.Newton(1e-10, 1e-10)
    return optimistix.root_find(lambda y, _: f(y), solver, guess, max_steps=50).value


def made_up(n, m, seed=0):
    rng = np.random.default_rng(seed)
    w, u = 0.5 * rng.normal(size=(n, n)) / np.sqrt(n), rng.normal(size=(n, m)) / np.sqrt(m)
    return (jnp.asarray(w), jnp.asarray(u)), jnp.asarray(rng.normal(size=m))


def milliseconds(fn, *operands):
    jax.block_until_ready(fn(*operands))
    return 1e3 * min(timeit.repeat(lambda: jax.block_until_ready(fn(*operands)), number=3, repeat=5)) / 3


def main(n=50, m=20):
    jax.config.update("jax_enable_x64", True)
    weights, x = made_up(n, m)
    print(f"a layer in balance with itself, {n} units: gradient in the weights, which its equation closes over")
    for name, solve in {"ours": root, "root_find of optimistix": by_optimistix}.items():
        loss = lambda weights, solve=solve: jnp.sum(layer(solve, weights, x) ** 2)
        try:
            print(f"  {name:24} {milliseconds(jax.jit(jax.grad(loss)), weights):8.2f} ms")
        except ImportError as error:
            print(f"  {name}: {error}")
    print(root.explain())
    print(root.check())


if __name__ == "__main__":
    main()
