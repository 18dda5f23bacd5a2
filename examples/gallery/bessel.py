"""Bessel functions `J`, `Y`, `I` and `K` of real order `v` and argument `x`, with SciPy's C functions.

JAX has those of integer order 0 and 1 alone. SciPy hands out the addresses of its C functions (`scipy.special.cython_special`);
a compiled program calls them without Python. In `x`, neighbouring orders give the exact derivative (DLMF 10.6.1, 10.29.1):

    J' = (J[v-1] - J[v+1]) / 2        I' =  (I[v-1] + I[v+1]) / 2
    Y' = (Y[v-1] - Y[v+1]) / 2        K' = -(K[v-1] + K[v+1]) / 2

These are the same functions again, so derivatives of any order exist. In the order `v` there is no such formula. For `K`
there is an integral, DLMF 10.32.9, that may be differentiated under its sign:

    K[v](x) = int_0^inf exp(-x cosh t) cosh(v t) dt    =>    dK/dv = int_0^inf exp(-x cosh t) t sinh(v t) dt

The trapezoidal rule sums it to rounding: an even, analytic integrand that decays doubly exponentially. The derivative of
the Matern covariance in its smoothness needs exactly that. The other three say that their order is not differentiable.

Run it with `python examples/gallery/bessel.py`, or check it with `jaxprim check examples/gallery/bessel.py`.
"""

import timeit

import jax
import jax.numpy as jnp
import scipy.special
from scipy.special import cython_special

from jaxprim import Primitive, kernels

# On several devices the kernel splits along all axes, since each number is for itself: no sharding rule is needed.


def bessel(name, slope):
    """One of the four, differentiable in `x`; `slope` makes the derivative of the functions of the orders v - 1, v + 1."""
    op, ufunc = Primitive(name), getattr(scipy.special, name)
    op.def_host(lambda v, x: ufunc(v, x))  # where there is no kernel, and what `check` compares it with
    op.def_kernel(in_double(name), platform="cpu")
    op.def_abstract_eval(lambda v, x: jax.ShapeDtypeStruct(jnp.broadcast_shapes(v.shape, x.shape), x.dtype))
    op.def_jvp(x=lambda x_dot, y, v, x: x_dot * slope(op(v - 1, x), op(v + 1, x)))
    op.def_examples(lambda: [(jnp.array([0.0, 0.5, 2.25]), jnp.array([0.5, 3.0, 10.0]))])
    return op


def in_double(name):
    """SciPy's function by its address. It takes doubles: float32 is converted there and back, also without x64 mode."""
    call = kernels.c_function(cython_special.__pyx_capi__[f"__pyx_fuse_1{name}"], f"{name}(v: f64, x: f64) -> f64")

    def kernel(v, x):
        with jax.enable_x64(True):
            return call(v.astype("float64"), x.astype("float64")).astype(x.dtype)

    return kernel


jv = bessel("jv", lambda below, above: (below - above) / 2)
yv = bessel("yv", lambda below, above: (below - above) / 2)
iv = bessel("iv", lambda below, above: (below + above) / 2)
kv = bessel("kv", lambda below, above: -(below + above) / 2)


def kv_by_order(v, x, nodes=160):
    """`dK/dv` for any order and any x > 0, in JAX, so that it may be differentiated in turn.

    Where `x cosh t` passes `|v| t` by 750 the integrand is below the smallest number.
    """
    v, x = v[..., None], x[..., None]
    end = jnp.log1p(2 * (750 + 30 * jnp.abs(v)) / x)
    step = end / nodes
    t = step * jnp.arange(1, nodes + 1, dtype=x.dtype)  # the integrand is 0 at t = 0
    rise, fall = jnp.exp(v * t - x * jnp.cosh(t)), jnp.exp(-v * t - x * jnp.cosh(t))
    return jnp.sum(t * (rise - fall) / 2 * step, -1)


kv.def_jvp(
    v=lambda v_dot, y, v, x: v_dot * kv_by_order(v, x),
    x=lambda x_dot, y, v, x: x_dot * -(kv(v - 1, x) + kv(v + 1, x)) / 2,
)


# --------------------------------------------------------------------------------------------------------------- show
def matern(distance, smoothness, length):
    """The covariance of a Gaussian process at distances > 0; its paths are differentiable `smoothness` times."""
    s = jnp.sqrt(2 * smoothness) * distance / length
    log_factor = (1 - smoothness) * jnp.log(2.0) - jax.lax.lgamma(smoothness) + smoothness * jnp.log(s)
    return jnp.exp(log_factor) * kv(jnp.broadcast_to(smoothness, s.shape), s)


def log_likelihood(parameters, points, values):
    """The likelihood of a Gaussian process with a Matern covariance."""
    smoothness, length = jnp.exp(parameters)
    distance = jnp.abs(points[:, None] - points) + jnp.eye(points.size)
    covariance = jnp.where(jnp.eye(points.size) == 1, 1 + 1e-6, matern(distance, smoothness, length))
    factor = jnp.linalg.cholesky(covariance)
    white = jax.scipy.linalg.solve_triangular(factor, values, lower=True)
    return -jnp.sum(white**2) / 2 - jnp.sum(jnp.log(jnp.diag(factor)))


def fit(points, values, steps=12):
    """Newton's method, damped, for the logarithms of smoothness and length: first and second derivatives of `kv`."""
    parameters = jnp.log(jnp.array([1.0, 0.5]))
    loss = jax.jit(lambda p: -log_likelihood(p, points, values))
    gradient, hessian = jax.jit(jax.grad(loss)), jax.jit(jax.hessian(loss))
    for _ in range(steps):
        values_, vectors = jnp.linalg.eigh(hessian(parameters))
        step = vectors @ ((vectors.T @ gradient(parameters)) / jnp.maximum(jnp.abs(values_), 1e-3))
        scale = 1.0
        while not loss(parameters - scale * step) <= loss(parameters) and scale > 1e-6:
            scale /= 2
        parameters = parameters - scale * step
    return jnp.exp(parameters), jnp.linalg.norm(gradient(parameters))


def milliseconds(fn, *operands):
    jax.block_until_ready(fn(*operands))
    return 1e3 * min(timeit.repeat(lambda: jax.block_until_ready(fn(*operands)), number=200, repeat=5)) / 200


def main():
    jax.config.update("jax_enable_x64", True)
    points = jnp.linspace(0.0, 4.0, 60)
    covariance = jnp.where(jnp.eye(60) == 1, 1.0, matern(jnp.abs(points[:, None] - points) + jnp.eye(60), 2.5, 0.6))
    values = jnp.linalg.cholesky(covariance + 1e-6 * jnp.eye(60)) @ jax.random.normal(jax.random.key(3), (60,))
    (smoothness, length), slope = fit(points, values)
    print("a Gaussian process of smoothness 2.5 and length 0.6, fitted to 60 of its values by Newton's method:")
    print(f"  smoothness {smoothness:.3f}, length {length:.3f}, gradient {slope:.1e}")
    x = jnp.linspace(0.1, 2.0, 4)
    for name, op in {"by its address": jv, "through Python": jv.use("host")}.items():
        time = milliseconds(jax.jit(lambda x, op=op: op(jnp.full_like(x, 0.5), x)), x)
        print(f"  jv of 4 numbers {name}: {1e3 * time:.0f} us")
    for op in (jv, kv):
        print(op.explain())
        print(op.check())


if __name__ == "__main__":
    main()
