import jax.numpy as jnp

from jaxprim import Primitive

gaussian = Primitive("gaussian")


@gaussian.def_impl
def _(x, mean, width):
    return jnp.exp(-((x - mean) ** 2) / (2 * width**2))


@gaussian.def_vjp
def _(primals):
    x, mean, width = primals
    y = gaussian(x, mean, width)

    def pullback(y_bar):
        x_bar = -y_bar * y * (x - mean) / width**2
        width_bar = y_bar * y * (x - mean) ** 2 / width**3
        return x_bar, -jnp.sum(x_bar), jnp.mean(width_bar)

    return y, pullback


@gaussian.def_examples
def _():
    return [(jnp.array([0.5, -1.0, 2.0, 0.25]), 0.1, 1.5)]
