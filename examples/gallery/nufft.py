"""The non-uniform fast Fourier transform of types 1 and 2, with FINUFFT, in 1 to 3 dimensions.

For points `x_j`, strengths `c_j` and a grid of integer frequencies `k`,

    nufft1   f_k = sum_j exp(i s k.x_j) c_j          from points to frequencies
    nufft2   c_j = sum_k exp(i s k.x_j) f_k          from frequencies to points

For fixed points both are linear, with one matrix: each is the other's transpose (JAX's, which does not conjugate: the sign
`s` is the same in both). A point stands in the exponent, so the derivative in it brings down `i s k`:

    f_dot = nufft1(x, c_dot) + sum_d  i s k_d nufft1(x, c x_dot_d)
    c_dot = nufft2(x, f_dot) + sum_d  x_dot_d nufft2(x, i s k_d f)

These are NUFFTs of the same points, so each rule is one call with several transforms, and derivatives of any order are
NUFFTs again. The VJP rules are these, transposed.

A batch that shares its points is one call with many transforms, for which FINUFFT sorts the points once.

Run it with `python examples/gallery/nufft.py` (`python examples/gallery/nufft.py picture.png` draws it), or check it with
`jaxprim check examples/gallery/nufft.py`.
"""

import sys
import timeit

import finufft
import jax
import jax.numpy as jnp
import numpy as np

from jaxprim import Example, Primitive, Zero

# `points` are [m, d] in radians, `strengths` [..., m], `spectrum` [..., n1, ..., nd]; the axes `...` are transforms of the
# same points. `modes` is (n1, ..., nd); frequencies go from -(n // 2) up. `eps` is the error that is asked for, relative.
# No sharding rule: `modes` says how many axes a spectrum has, and each of its numbers needs all points. On several devices,
# what splits are the axes of vmap.
nufft1 = Primitive("nufft1", batching="expand_dims")
nufft2 = Primitive("nufft2", batching="expand_dims")


# ------------------------------------------------------------------------------------------------------------- values
@nufft1.def_host
def _(points, strengths, *, modes, sign=1, eps=None):
    return transforms(1, points, strengths, modes, sign, eps)


@nufft2.def_host
def _(points, spectrum, *, modes, sign=1, eps=None):
    return transforms(2, points, spectrum, modes, sign, eps)


def transforms(kind, points, values, modes, sign, eps):
    """All transforms of a batch. "expand_dims" puts its axes in front of both operands, with size 1 where one is shared."""
    rank = points.ndim - 2
    batch = np.broadcast_shapes(points.shape[:rank], values.shape[:rank])
    values = np.broadcast_to(values, batch + values.shape[rank:])
    own = values.shape[rank : values.ndim - (1 if kind == 1 else len(modes))]
    out = np.empty((*batch, *own, *(modes if kind == 1 else points.shape[-2:-1])), values.dtype)
    for index in np.ndindex(points.shape[:rank]):
        shared = tuple(slice(None) if n == 1 else k for k, n in zip(index, points.shape[:rank], strict=True))
        out[shared] = of_same_points(kind, points[index], values[shared], modes, sign, eps)
    return out


def of_same_points(kind, points, values, modes, sign, eps):
    axes = 1 if kind == 1 else len(modes)
    ahead = values.shape[: values.ndim - axes]
    rows = np.ascontiguousarray(values).reshape(-1, *values.shape[len(ahead) :])
    eps = eps or (1e-6 if values.dtype == "complex64" else 1e-13)
    threads = {"nthreads": 1} if points.size + rows.size < 1e4 else {}  # to start more takes longer than that
    plan = finufft.Plan(kind, modes, n_trans=len(rows), eps=eps, isign=sign, dtype=values.dtype, **threads)
    plan.setpts(*np.ascontiguousarray(points.T))
    found = plan.execute(rows if len(rows) > 1 else rows[0])
    return found.reshape(*ahead, *(modes if kind == 1 else points.shape[:1]))


@nufft1.def_abstract_eval
def _(points, strengths, *, modes, sign=1, eps=None):
    check(points, strengths, modes, sign, strengths.shape[-1:], points.shape[:1])
    return jax.ShapeDtypeStruct((*strengths.shape[:-1], *modes), strengths.dtype)


@nufft2.def_abstract_eval
def _(points, spectrum, *, modes, sign=1, eps=None):
    ahead = spectrum.ndim - len(modes)
    check(points, spectrum, modes, sign, spectrum.shape[ahead:], modes)
    return jax.ShapeDtypeStruct((*spectrum.shape[:ahead], *points.shape[:1]), spectrum.dtype)


def check(points, values, modes, sign, got, expected):
    if sign not in (1, -1):
        raise ValueError(f"sign={sign} is neither 1 nor -1")
    if points.ndim != 2 or points.shape[1] != len(modes) or tuple(got) != tuple(expected):
        raise TypeError(f"points {points.shape} and values {values.shape} do not fit modes={modes}")
    if values.dtype != jnp.result_type(points.dtype, jnp.complex64):
        raise TypeError(f"points {points.dtype} want complex values of their precision, not {values.dtype}")


# -------------------------------------------------------------------------------------------------------------- rules
@nufft1.def_transpose(linear="strengths")
def _(f_bar, points, **params):
    return nufft2(points, f_bar, **params)


@nufft2.def_transpose(linear="spectrum")
def _(c_bar, points, **params):
    return nufft1(points, c_bar, **params)


def exponents(dtype, modes, sign):
    """`i s k_d` on the grid, for each dimension."""
    ranges = [np.arange(-(n // 2), (n + 1) // 2) for n in modes]
    return [jnp.asarray(1j * sign * k, dtype) for k in np.meshgrid(*ranges, indexing="ij")]


@nufft1.def_jvp
def _(primals, tangents, *, modes, sign, eps):
    (x, c), (x_dot, c_dot) = primals, tangents
    apply = lambda strengths: nufft1(x, strengths, modes=modes, sign=sign, eps=eps)
    if isinstance(x_dot, Zero):
        return apply(c), apply(c_dot)
    moved = apply(jnp.stack([*(c * x_dot[:, d] for d in range(x.shape[1])), jnp.asarray(c_dot)]))
    along = exponents(c.dtype, modes, sign)
    return apply(c), sum((k * part for k, part in zip(along, moved[:-1], strict=True)), moved[-1])


@nufft2.def_jvp
def _(primals, tangents, *, modes, sign, eps):
    (x, f), (x_dot, f_dot) = primals, tangents
    apply = lambda spectrum: nufft2(x, spectrum, modes=modes, sign=sign, eps=eps)
    if isinstance(x_dot, Zero):
        return apply(f), apply(f_dot)
    slopes = apply(jnp.stack([k * f for k in exponents(f.dtype, modes, sign)]))
    return apply(f), apply(f_dot) + sum(x_dot[:, d] * slope for d, slope in enumerate(slopes))


@nufft1.def_examples
def _():
    points = jnp.array([[0.5, -1.0], [2.0, 0.25], [-3.0, 1.5]])
    return [Example((points, jnp.array([1 + 0.5j, -2j, 0.25])), {"modes": (3, 4), "sign": -1})]


@nufft2.def_examples
def _():
    points = jnp.array([[0.5], [2.0], [-3.0]])
    return [Example((points, jnp.array([[1 + 0.5j, -2j, 0.25, 3], [2, 1j, 0, -1]])), {"modes": (4,)})]


# --------------------------------------------------------------------------------------------------------------- show
def direct(points, strengths, *, modes, sign=1):
    """Type 1 by its definition, with a matrix of all exponentials."""
    grids = jnp.meshgrid(*[jnp.arange(-(n // 2), (n + 1) // 2) for n in modes], indexing="ij")
    phase = sum(k[..., None] * points[:, d] for d, k in enumerate(grids))
    return jnp.exp(1j * sign * phase) @ strengths


def locate(data, points, strengths, steps=8):
    """Points and strengths whose low frequencies are the data: the Gauss-Newton method, damped by a little."""

    def residual(points, parts):
        missing = nufft1(points, jax.lax.complex(*parts), modes=data.shape) - data
        return jnp.concatenate([missing.real.ravel(), missing.imag.ravel()])

    @jax.jit
    def step(points, parts):
        r, jacobians = residual(points, parts), jax.jacfwd(residual, (0, 1))(points, parts)
        matrix = jnp.concatenate([j.reshape(r.size, -1) for j in jacobians], 1)
        change = jnp.linalg.solve(matrix.T @ matrix + 1e-9 * jnp.eye(matrix.shape[1]), matrix.T @ r)
        return (
            points - change[: points.size].reshape(points.shape),
            parts - change[points.size :].reshape(parts.shape),
            r,
        )

    parts = jnp.stack([strengths.real, strengths.imag])
    for k in range(steps):
        points, parts, r = step(points, parts)
        print(f"  step {k}: misfit {jnp.linalg.norm(r):.1e}")
    return points, jax.lax.complex(*parts)


def milliseconds(fn, *operands):
    jax.block_until_ready(fn(*operands))
    return 1e3 * min(timeit.repeat(lambda: jax.block_until_ready(fn(*operands)), number=3, repeat=3)) / 3


def main():
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(0)
    points = jnp.asarray(rng.uniform(-2.5, 2.5, (6, 2)))
    strengths = jnp.asarray(rng.uniform(0.5, 1.5, 6) * np.exp(2j * rng.uniform(size=6)))
    data = nufft1(points, strengths, modes=(8, 8))
    print("6 sources from 8 x 8 frequencies, starting 0.15 away: derivatives in strengths and points")
    start = points + rng.uniform(-0.15, 0.15, points.shape)
    found, _ = locate(data, start, jnp.ones_like(strengths))
    print(f"  largest error of a point: {jnp.max(jnp.abs(found - points)):.1e}")
    if len(sys.argv) > 1:
        draw(sys.argv[1], data, points, start, found)
    many, weights = jnp.asarray(rng.uniform(-3, 3, (2000, 2))), jnp.ones(2000, complex)
    for name, op in {"nufft1": nufft1, "a matrix": direct}.items():
        energy = lambda x, c, op=op: jnp.sum(jnp.abs(op(x, c, modes=(48, 48))) ** 2)
        time = milliseconds(jax.jit(jax.grad(energy, (0, 1))), many, weights)
        print(f"  gradient in 2000 points and strengths, 48 x 48 frequencies, {name}: {time:.0f} ms")
    for op in (nufft1, nufft2):
        print(op.explain())
        print(op.check())


def draw(path, data, points, start, found):
    from matplotlib import pyplot

    grid = np.linspace(-np.pi, np.pi, 120)
    everywhere = jnp.stack(jnp.meshgrid(grid, grid, indexing="ij"), -1).reshape(-1, 2)
    image = jnp.abs(nufft2(everywhere, data, modes=data.shape, sign=-1)).reshape(120, 120)
    _, axes = pyplot.subplots(figsize=(3.6, 3.6))
    axes.imshow(image.T, origin="lower", extent=(-np.pi, np.pi) * 2, cmap="Greys")
    axes.plot(*start.T, "x", label="start")
    axes.plot(*points.T, "o", markerfacecolor="none", markersize=11, label="true")
    axes.plot(*found.T, ".", label="found")
    axes.legend(fontsize=7)
    pyplot.savefig(path, dpi=80, bbox_inches="tight")


if __name__ == "__main__":
    main()
