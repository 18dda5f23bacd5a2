"""The minimum of a smooth function, with SciPy's `minimize`; derivatives from the equation that its gradient is zero there.

Where `y` is the minimum of `f(y, x)`, the gradient `f_y` is zero, and stays zero if `y` follows `x`:

    f_yy y_dot = -f_yx x_dot                          (JVP)
    f_yy u = y_bar,      x_bar = -f_xy u              (VJP)

`def_implicit(minimum=...)` writes both rules, of any order. How SciPy finds the minimum does not matter, nor does the point
at which it starts, so the derivative in `start` is zero.

A host function uses NumPy, and derivatives are JAX code, so an objective is given in both. If the two are not the same
function, the question `equation` of `check` says so: the gradient of the one is not zero where the other is least.

Run it with `python examples/gallery/minimize.py`, or check it with `jaxprim check examples/gallery/minimize.py`.
"""

import timeit
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from scipy.special import expit

from jaxprim import Example, Primitive


class Objective(NamedTuple):
    """A smooth function of a vector `y` and of operands `x`, which may be any pytree."""

    in_jax: Callable  # (y, x) -> f
    in_numpy: Callable  # (y, x) -> f, f_y
    hessian: Callable  # (y, x) -> f_yy, in NumPy


# A search needs all of its operands. On several devices, what splits are the axes of vmap, so there is no sharding rule.
minimize = Primitive("minimize")  # (start [n], x) -> y [n]
BY_HESSIAN = {"Newton-CG", "dogleg", "trust-exact", "trust-krylov", "trust-ncg", "trust-constr"}


@minimize.def_host
def _(start, x, *, objective, method="trust-exact", tol=1e-6):
    """SciPy compares values, which rounding makes equal near the minimum; two steps of Newton's go on from there."""
    x = jax.tree.map(lambda leaf: leaf.astype("float64"), x)
    hessian = {"hess": objective.hessian} if method in BY_HESSIAN else {}
    found = scipy.optimize.minimize(
        objective.in_numpy, start.astype("float64"), (x,), method, jac=True, tol=tol, **hessian
    )
    if not found.success:
        raise ArithmeticError(f"minimize stopped after {found.nit} steps: {found.message}")
    y = found.x
    for _ in range(2):
        y = y - np.linalg.solve(objective.hessian(y, x), objective.in_numpy(y, x)[1])
    return y.astype(start.dtype)


@minimize.def_abstract_eval
def _(start, x, **_):
    if start.ndim != 1:
        raise TypeError(f"start is {start.dtype}{list(start.shape)}: SciPy takes a vector")
    return jax.ShapeDtypeStruct(start.shape, start.dtype)


minimize.def_implicit(minimum=lambda y, start, x, *, objective, **_: objective.in_jax(y, x))


# ------------------------------------------------------------------------------------------------- logistic regression
class Data(NamedTuple):
    """Examples, labels 1 or -1, and for each weight the logarithm of what its square costs."""

    features: np.ndarray  # [k, n]
    labels: np.ndarray  # [k]
    penalty: np.ndarray  # [n]


def misfit(y, data):
    """Of the labels alone, without penalties."""
    return jnp.mean(jnp.logaddexp(0.0, -data.labels * (data.features @ y)))


def penalized(y, data):
    return misfit(y, data) + jnp.sum(jnp.exp(data.penalty) * y**2) / 2


def penalized_in_numpy(y, data):
    margins, cost = data.labels * (data.features @ y), np.exp(data.penalty)
    slope = -data.features.T @ (data.labels * expit(-margins)) / margins.size + cost * y
    return np.mean(np.logaddexp(0.0, -margins)) + np.sum(cost * y**2) / 2, slope


def hessian_in_numpy(y, data):
    chance = expit(data.labels * (data.features @ y))
    weights = data.labels**2 * chance * (1 - chance) / chance.size
    return data.features.T * weights @ data.features + np.diag(np.exp(data.penalty))


LOGISTIC = Objective(penalized, penalized_in_numpy, hessian_in_numpy)


@minimize.def_examples
def _():
    features = jnp.array([[1.0, 0.5, -0.25], [0.5, -1.0, 1.5], [-1.5, 0.75, 0.5], [0.25, 1.0, 1.0], [-0.5, -0.5, 2.0]])
    data = Data(features, jnp.array([1.0, -1.0, -1.0, 1.0, 1.0]), jnp.array([-1.0, -2.0, -0.5]))
    return [Example((jnp.zeros(3), data), {"objective": LOGISTIC})]


# --------------------------------------------------------------------------------------------------------------- show
def made_up(k, n, seed=0):
    """Labels that depend on every third feature, for fitting and for validation."""
    rng = np.random.default_rng(seed)
    truth = np.where(np.arange(n) % 3, 0.0, rng.normal(size=n))
    for _ in range(2):
        features = rng.normal(size=(k, n))
        labels = np.where(rng.uniform(size=k) < expit(3 * features @ truth), 1.0, -1.0)
        yield Data(jnp.asarray(features), jnp.asarray(labels), jnp.full(n, -3.0))


def validation(solve, fitted, unseen):
    """The misfit of unseen data as a function of the penalties."""
    return lambda penalty: misfit(solve(jnp.zeros_like(penalty), fitted._replace(penalty=penalty)), unseen)


def ours(start, data):
    return minimize(start, data, objective=LOGISTIC)


def by_jaxopt(start, data):
    """The same by jaxopt's wrapper of SciPy, if it is installed."""
    from jaxopt import ScipyMinimize

    dense = lambda matvec, b: jnp.linalg.solve(jax.jacobian(matvec)(b), b)
    return ScipyMinimize(fun=penalized, method="BFGS", tol=1e-10, implicit_diff_solve=dense).run(start, data).params


def milliseconds(fn, *operands):
    return 1e3 * min(timeit.repeat(lambda: jax.block_until_ready(fn(*operands)), number=1, repeat=5))


def main(k=300, n=30):
    jax.config.update("jax_enable_x64", True)
    fitted, unseen = made_up(k, n)
    loss = validation(ours, fitted, unseen)
    step = jax.jit(lambda penalty: penalty - 50.0 * jax.grad(loss)(penalty))
    penalty = fitted.penalty
    print(f"{k} examples, {n} weights: a penalty for each, by the misfit of {k} unseen examples")
    for number in range(31):
        if number % 10 == 0:
            print(f"  step {number:2}: misfit {loss(penalty):.4f}")
        penalty = step(penalty)
    needed = jnp.arange(n) % 3 == 0
    print(
        f"  mean penalty: {penalty[needed].mean():.1f} where a feature is needed, {penalty[~needed].mean():.1f} where not"
    )
    print(f"its gradient: {milliseconds(jax.jit(jax.grad(loss)), penalty):.1f} ms")
    try:
        theirs = jax.grad(validation(by_jaxopt, fitted, unseen))
        print(f"  ScipyMinimize of jaxopt, which has no jit: {milliseconds(theirs, penalty):.1f} ms")
    except ImportError:
        print("  ScipyMinimize: jaxopt is not installed")
    print(minimize.explain())
    print(minimize.check())


if __name__ == "__main__":
    main()
