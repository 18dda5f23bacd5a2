"""An initial value problem whose vector field is a function operand, such as a network, with an adjoint that forgets steps.

    y' = f(t, y),   y(t0) = y0         y(t1) by `steps` equal steps of a Runge-Kutta rule of order 3

Its derivatives are those of the steps, so both modes are each other's transpose to rounding:

- forward, they ride along (JAX differentiates the implementation);
- backward, a solution is needed in reverse. `y` is kept at about sqrt(steps) times, what lies between two of them is
  computed again (a checkpoint for each segment), and so are the stages of a step. So memory grows with the root of the
  number of steps.

What `f` reads, such as the weights of a network, are leaves of the operand `f`. A VJP rule is one line: `jax.vjp` of the
segments, with respect to `f` too.

`ode.py` is the other way: SciPy's solvers, which choose their steps and may be implicit.

Run it with `python examples/gallery/neural_ode.py`, or check it with `jaxprim check examples/gallery/neural_ode.py`.
"""

import math
import timeit

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim import Example, Primitive

# (f, y0, t0, t1) -> y(t1), like y0, any pytree. The implementation is JAX code, which XLA splits over devices as it is: there
# is no sharding rule.
evolve = Primitive("evolve")


def step(f, t, h, y):
    """One step of length `h` (Bogacki and Shampine, 1989)."""
    plus = lambda *terms: jax.tree.map(
        lambda x, *ks: x + sum(h * c * k for (c, _), k in zip(terms, ks, strict=True)), y, *(k for _, k in terms)
    )
    k1 = f(t, y)
    k2 = f(t + h / 2, plus((1 / 2, k1)))
    k3 = f(t + 3 * h / 4, plus((3 / 4, k2)))
    return plus((2 / 9, k1), (1 / 3, k2), (4 / 9, k3))


@evolve.def_function("f")
def _(f, y0, t0, t1, **_):
    return t0, y0


@evolve.def_impl
def _(f, y0, t0, t1, *, steps):
    h = (t1 - t0) / steps
    return jax.lax.fori_loop(0, steps, lambda k, y: step(f, t0 + k * h, h, y), y0)


@evolve.def_vjp
def _(primals, *, steps):
    each = next(k for k in range(math.isqrt(steps), 0, -1) if steps % k == 0)

    def in_segments(f, y0, t0, t1):
        h = (t1 - t0) / steps
        one = jax.checkpoint(lambda y, k: (step(f, t0 + k * h, h, y), None))
        segment = jax.checkpoint(lambda y, first: (jax.lax.scan(one, y, first + jnp.arange(each))[0], None))
        return jax.lax.scan(segment, y0, jnp.arange(0, steps, each))[0]

    return jax.vjp(in_segments, *primals)


@evolve.def_examples
def _():
    a = jnp.array([[-0.5, 1.0], [-1.0, 0.25]])
    f = lambda t, y: jnp.tanh(a @ y) + jnp.sin(t)
    return [Example((f, jnp.array([1.0, 0.5]), 0.0, 1.5), {"steps": 12})]


# --------------------------------------------------------------------------------------------------------------- show
def network(weights):
    """A vector field with weights that it closes over."""
    w, b, v = weights
    return lambda t, y: v @ jnp.tanh(w @ y + b * t)


def made_up(n, hidden, seed=0):
    rng = np.random.default_rng(seed)
    w, b, v = rng.normal(size=(hidden, n)), rng.normal(size=hidden), rng.normal(size=(n, hidden)) / hidden
    return tuple(map(jnp.asarray, (w, b, v))), jnp.asarray(rng.normal(size=n))


def by_diffrax(f, y0, t0, t1, *, steps, adjoint="RecursiveCheckpointAdjoint"):
    """The same by diffrax, if it is installed."""
    import diffrax

    found = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, _: f(t, y)),
        diffrax.Bosh3(),
        t0,
        t1,
        (t1 - t0) / steps,
        y0,
        adjoint=getattr(diffrax, adjoint)(),
        max_steps=steps + 1,
    )
    return jax.tree.map(lambda leaf: leaf[0], found.ys)


def milliseconds(fn, *operands):
    jax.block_until_ready(fn(*operands))
    return 1e3 * min(timeit.repeat(lambda: jax.block_until_ready(fn(*operands)), number=1, repeat=5))


def main(n=10, hidden=40, steps=400):
    jax.config.update("jax_enable_x64", True)
    weights, y0 = made_up(n, hidden)
    print(
        f"{n} unknowns, {hidden} hidden units, {steps} steps: gradient in the weights, which the vector field closes over"
    )
    ways = {"ours": evolve, "diffrax": by_diffrax}
    for name, solve in ways.items():
        loss = lambda weights, solve=solve: jnp.sum(solve(network(weights), y0, 0.0, 2.0, steps=steps) ** 2)
        try:
            compiled = jax.jit(jax.grad(loss)).lower(weights).compile()
        except ImportError as error:
            print(f"  {name}: {error}")
            continue
        kib = compiled.memory_analysis().temp_size_in_bytes / 1024
        print(f"  {name:10} {milliseconds(compiled, weights):8.2f} ms, {kib:8.0f} KiB")
    print(evolve.explain())
    print(evolve.check())


if __name__ == "__main__":
    main()
