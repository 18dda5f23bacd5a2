"""Heat in a plate, with a stencil in Numba and its hand-written adjoint, under `scan` with `checkpoint`.

A cell of temperature `u` and conductivity `k` exchanges heat with its neighbours; nothing leaves the plate:

    diffuse(u, k)_i = sum over neighbours j of  (k_i + k_j) / 2  (u_j - u_i)

Weighted with a third field `y` and summed over cells, each face between `i` and `j` counts once:

    <y, diffuse(u, k)> = - sum over faces of  (k_i + k_j) / 2  (u_j - u_i) (y_j - y_i)

This is linear in `u`, `k` and `y`, and symmetric in `u` and `y`. All derivatives can be read from it. In `u` the stencil is
its own adjoint. In `k` the adjoint is another stencil,

    exchange(u, y)_i = - sum over neighbours j of  (u_j - u_i) (y_j - y_i) / 2,      <k, exchange(u, y)> = <y, diffuse(u, k)>

and the adjoints of that one are `diffuse` again. So two kernels are closed under derivatives of any order:

    diffuse:    JVP  diffuse(u_dot, k) + diffuse(u, k_dot)      VJP  u_bar = diffuse(y, k),  k_bar = exchange(u, y)
    exchange:   JVP  exchange(u_dot, y) + exchange(u, y_dot)    VJP  u_bar = diffuse(y, e),  y_bar = diffuse(u, e)

Run it with `python examples/gallery/heat.py` (`python examples/gallery/heat.py picture.png` draws it), or check it with
`jaxprim check examples/gallery/heat.py`.
"""

import functools
import sys
import timeit

import jax
import jax.numpy as jnp
import numba

from jaxprim import Primitive, kernels

diffuse = Primitive("diffuse")
exchange = Primitive("exchange")


# ------------------------------------------------------------------------------------------------------------- values
@numba.njit
def diffuse_loop(u, k, out):
    n, m = u.shape
    for i in range(n):
        for j in range(m):
            total = u.dtype.type(0)
            if i > 0:
                total += (k[i, j] + k[i - 1, j]) * (u[i - 1, j] - u[i, j])
            if i < n - 1:
                total += (k[i, j] + k[i + 1, j]) * (u[i + 1, j] - u[i, j])
            if j > 0:
                total += (k[i, j] + k[i, j - 1]) * (u[i, j - 1] - u[i, j])
            if j < m - 1:
                total += (k[i, j] + k[i, j + 1]) * (u[i, j + 1] - u[i, j])
            out[i, j] = total / 2


@numba.njit
def exchange_loop(u, y, out):
    n, m = u.shape
    for i in range(n):
        for j in range(m):
            total = u.dtype.type(0)
            if i > 0:
                total -= (u[i - 1, j] - u[i, j]) * (y[i - 1, j] - y[i, j])
            if i < n - 1:
                total -= (u[i + 1, j] - u[i, j]) * (y[i + 1, j] - y[i, j])
            if j > 0:
                total -= (u[i, j - 1] - u[i, j]) * (y[i, j - 1] - y[i, j])
            if j < m - 1:
                total -= (u[i, j + 1] - u[i, j]) * (y[i, j + 1] - y[i, j])
            out[i, j] = total / 2


diffuse.def_kernel(kernels.numba(diffuse_loop, "(u: T[n, m], k: T[n, m]) -> T[n, m]"), platform="cpu")
exchange.def_kernel(kernels.numba(exchange_loop, "(u: T[n, m], y: T[n, m]) -> T[n, m]"), platform="cpu")


def across(op, field, axis):
    """An operation on the two cells of each face."""
    n = field.shape[axis]
    return op(jax.lax.slice_in_dim(field, 1, n, axis=axis), jax.lax.slice_in_dim(field, 0, n - 1, axis=axis))


def beside(field, axis, before):
    """What each cell gets from the face on one side of it."""
    return jnp.pad(field, [((1, 0) if before else (0, 1)) if a == axis else (0, 0) for a in (0, 1)])


@diffuse.def_impl
def _(u, k):
    """The same in JAX, for other platforms and for `check`."""
    flows = [across(jnp.add, k, a) / 2 * across(jnp.subtract, u, a) for a in (0, 1)]
    return sum(beside(flow, a, False) - beside(flow, a, True) for a, flow in enumerate(flows))


@exchange.def_impl
def _(u, y):
    products = [across(jnp.subtract, u, a) * across(jnp.subtract, y, a) / 2 for a in (0, 1)]
    return -sum(beside(product, a, False) + beside(product, a, True) for a, product in enumerate(products))


# -------------------------------------------------------------------------------------------------------------- rules
@diffuse.def_jvp
def _(primals, tangents):
    (u, k), (u_dot, k_dot) = primals, tangents
    return diffuse(u, k), diffuse(u_dot, k) + diffuse(u, k_dot)


@diffuse.def_vjp
def _(primals):
    u, k = primals
    return diffuse(u, k), lambda y: (diffuse(y, k), exchange(u, y))


@exchange.def_jvp
def _(primals, tangents):
    (u, y), (u_dot, y_dot) = primals, tangents
    return exchange(u, y), exchange(u_dot, y) + exchange(u, y_dot)


@exchange.def_vjp
def _(primals):
    u, y = primals
    return exchange(u, y), lambda e: (diffuse(y, e), diffuse(u, e))


# ------------------------------------------------------------------------------------------------------ several devices
def with_neighbours(field, axis):
    """The part of a device with the cells beside it. At the edge of the plate these are its own: nothing flows to them."""
    for place, name in enumerate("nm"):
        first, last = (jax.lax.slice_in_dim(field, i, i + 1, axis=place) for i in (0, field.shape[place] - 1))
        before, after = axis.shift(last, name, 1), axis.shift(first, name, -1)
        before = jnp.where(axis.index(name) == 0, first, before)
        after = jnp.where(axis.index(name) == axis.parts(name) - 1, last, after)
        field = jnp.concatenate([before, field, after], place)
    return field


for op in (diffuse, exchange):
    op.def_sharding("n m, n m -> n m")
    op.def_partition(
        lambda u, other, axis, op=op: op(with_neighbours(u, axis), with_neighbours(other, axis))[1:-1, 1:-1]
    )


# ----------------------------------------------------------------------------------------------------------- examples
@diffuse.def_examples
def _():
    return [(jnp.array([[0.5, -1.0, 2.0], [3.0, 0.25, -0.125]]), jnp.array([[1.0, 2.0, 0.5], [0.25, 3.0, 1.5]]))]


@exchange.def_examples
def _():
    return [(jnp.array([[0.5, -1.0, 2.0], [3.0, 0.25, -0.125]]), jnp.array([[1.0, 2.0, 0.5], [0.25, 3.0, 1.5]]))]


# --------------------------------------------------------------------------------------------------------------- show
@functools.partial(jax.jit, static_argnames=("blocks", "steps", "policy"))
def heat(u, k, *, blocks, steps, dt=0.2, policy=None):
    """The temperature after `blocks * steps` steps. The stencil is stable while `dt` times a conductivity is below 1 / 4.

    Backwards, the temperatures of one block are computed again from its first: so many are kept as there are blocks and
    steps in a block, not their product. With a `policy` of `jax.checkpoint`, what that says is kept too.
    """

    def step(u, _):
        return u + dt * diffuse(u, k), None

    @functools.partial(jax.checkpoint, policy=policy)
    def block(u, _):
        return jax.lax.scan(step, u, None, length=steps)

    return jax.lax.scan(block, u, None, length=blocks)[0]


def plate(n):
    """Heat in a spot at the left, and a wall that hardly conducts, with a gap."""
    u = jnp.zeros((n, n)).at[n // 2 - n // 20 : n // 2 + n // 20, n // 8 : n // 8 + n // 10].set(100.0)
    k = jnp.ones((n, n)).at[:, n // 2 : n // 2 + n // 12].set(0.01)
    return u, k.at[n // 8 : n // 3, n // 2 : n // 2 + n // 12].set(1.0)


def milliseconds(fn, *operands):
    jax.block_until_ready(fn(*operands))
    return 1e3 * min(timeit.repeat(lambda: jax.block_until_ready(fn(*operands)), number=1, repeat=3))


def main(n=96, blocks=50, steps=50):
    u, k = plate(n)
    end = heat(u, k, blocks=blocks, steps=steps)
    sensor = (n // 2, n - n // 8)
    print(f"{blocks * steps} steps on {n} x {n} cells; heat before and after: {u.sum():.6g}, {end.sum():.6g}")
    everything = jax.checkpoint_policies.everything_saveable
    for name, policy in {"checkpoint for each block": None, "all temperatures kept": everything}.items():
        run = functools.partial(heat, blocks=blocks, steps=steps, policy=policy)
        gradient = jax.jit(jax.grad(lambda k, run=run: run(u, k)[sensor]))
        memory = gradient.lower(k).compile().memory_analysis().temp_size_in_bytes
        print(f"  gradient, {name}: {milliseconds(gradient, k):.0f} ms, {memory / 1e6:.1f} MB")
    warmth = lambda k: heat(u, k, blocks=blocks, steps=steps)[sensor]
    sensitivity = jax.grad(warmth)(k)
    there = jnp.unravel_index(jnp.argmax(sensitivity), k.shape)
    print(f"  the sensor gets warmest by more conductivity at row {there[0]}, column {there[1]} (the gap in the wall)")
    if len(sys.argv) > 1:
        draw(sys.argv[1], end, sensitivity, sensor)
    for op in (diffuse, exchange):
        print(op.explain())
        print(op.check())


def draw(path, end, sensitivity, sensor):
    from matplotlib import pyplot

    _, (left, right) = pyplot.subplots(1, 2, figsize=(6, 3))
    left.imshow(end, cmap="inferno", vmax=float(jnp.max(end)))
    left.set_title("temperature", fontsize=9)
    limit = float(jnp.quantile(jnp.abs(sensitivity), 0.995))
    right.imshow(sensitivity, cmap="RdBu_r", vmin=-limit, vmax=limit)
    right.set_title("of the sensor, by conductivity", fontsize=9)
    for axes in (left, right):
        axes.plot(sensor[1], sensor[0], "k+")
        axes.set_axis_off()
    pyplot.savefig(path, dpi=70, bbox_inches="tight")


if __name__ == "__main__":
    main()
