"""Two linear operations that are each other's transpose: a real signal to half its spectrum, and back.

    half_spectrum   y_k = sum_m exp(-2 pi i k m / n) x_m,      k = 0 ... n/2      (NumPy's rfft)
    half_sum        x_m = Re sum_k exp(-2 pi i k m / n) y_k,   m = 0 ... n - 1

Both are host functions, opaque to JAX. That one is the transpose of the other is all that JAX must be told: forward mode
applies an operation to the tangent, reverse mode applies the other one to the cotangent, and that at any order.

JAX's transposes do not conjugate. The sign in both exponents is therefore the same. With the sign flipped (which gives
the adjoint, and apart from a factor the inverse `irfft`) the gradient would be wrong, and `check` would say so.

Run it with `python examples/fourier_pair.py`, or check it with `jaxprim check examples/fourier_pair.py`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim import Example, Primitive

# Both act on the last axis, so a batch is one call with another axis in front. `n`, the length of the signal, is a static
# param of both: the length of half a spectrum does not say whether it was even or odd.
half_spectrum = Primitive("half_spectrum", batching="expand_dims")
half_sum = Primitive("half_sum", batching="expand_dims")


@half_spectrum.def_host
def _(x, *, n):
    return np.fft.rfft(x, n)


@half_spectrum.def_abstract_eval
def _(x, *, n):
    if x.shape[-1] != n:
        raise TypeError(f"a signal of length {x.shape[-1]} with n={n}")
    return jax.ShapeDtypeStruct((*x.shape[:-1], n // 2 + 1), jnp.result_type(x.dtype, jnp.complex64))


@half_sum.def_host
def _(y, *, n):
    return np.fft.fft(y, n).real  # y is padded with zeros to length n


@half_sum.def_abstract_eval
def _(y, *, n):
    if y.shape[-1] != n // 2 + 1:
        raise TypeError(f"half a spectrum of length {y.shape[-1]} with n={n}")
    return jax.ShapeDtypeStruct((*y.shape[:-1], n), jnp.finfo(y.dtype).dtype)


half_spectrum.def_transpose(half_sum, linear="x")
half_sum.def_transpose(half_spectrum, linear="y")


@half_spectrum.def_examples
def _():
    x = jnp.array([0.5, -1.0, 2.0, 3.0, -0.25, 1.5])
    return [Example((x,), {"n": 6}), Example((x[:5],), {"n": 5})]


@half_sum.def_examples
def _():
    y = jnp.array([1.0 + 0.5j, -2.0 + 1.0j, 0.25 - 3.0j])
    return [Example((y,), {"n": 4}), Example((y,), {"n": 5})]


if __name__ == "__main__":
    x = jnp.array([0.5, -1.0, 2.0, 3.0])

    def power(x):
        return jnp.sum(jnp.abs(half_spectrum(x, n=4)) ** 2)

    print("half spectrum:", half_spectrum(x, n=4))
    print("gradient of its power:", jax.grad(power)(x))
    print(half_spectrum.explain())
    print(half_spectrum.check())
    print(half_sum.check())
