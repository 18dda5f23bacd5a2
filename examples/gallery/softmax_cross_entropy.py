"""Softmax cross-entropy in C++, forward and backward: for one row of logits `z` and the label `c`,

    lse = log sum_k exp z_k            loss = lse - z_c

With `p_k = exp(z_k - lse)`, the softmax, `d lse = sum_k p_k dz_k`. So

    lse_dot = sum_k p_k z_dot_k        loss_dot = lse_dot - z_dot_c                     (JVP)
    z_bar_k = p_k (loss_bar + lse_bar) - [k = c] loss_bar                               (VJP)

Both results are returned: `lse` is the residual that makes the backward kernel one pass, and a common regularization is a
multiple of `lse^2`. The forward kernel is one pass too, in blocks of 256 logits: it keeps the largest logit so far, and
scales the sum down when a block has a larger one. The softmax is never stored, in neither direction.

With `fast_math`, `std::exp` works on vectors: g++ takes it from glibc's libmvec. What that gives up is not needed here: no
kernel asks whether a number is infinite or NaN, and both come out as they should.

`z` may have any leading axes, and so may `label`; the kernels spread them over XLA's threads. Each operation has an impl
in JAX beside its kernel, which serves other platforms, `check`, and second derivatives.

Run it with `python examples/gallery/softmax_cross_entropy.py`, or check it with
`jaxprim check examples/gallery/softmax_cross_entropy.py`.
"""

import timeit

import jax
import jax.numpy as jnp

from jaxprim import Primitive, kernels

SOURCE = """
#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

void check_label(int64_t label, int64_t k) {
  if (label < 0 || label >= k)
    throw std::out_of_range("label " + std::to_string(label) + " of " + std::to_string(k) + " classes");
}

template <class T>
void cross_entropy(const T* z, const int32_t* label, int64_t k, T* loss, T* lse) {
  check_label(*label, k);
  T largest = std::numeric_limits<T>::lowest(), sum = 0;  // finite: -inf - -inf would be NaN
  const auto add = [&](const T* first, const T* second, int64_t count) {
    T top = largest, one = 0, other = 0;  // two sums, so that neither waits for the other
    for (int64_t i = 0; i < count; ++i) top = std::max(top, std::max(first[i], second[i]));
    for (int64_t i = 0; i < count; ++i) one += std::exp(first[i] - top), other += std::exp(second[i] - top);
    sum = sum * std::exp(largest - top) + (first == second ? one : one + other);
    largest = top;
  };
  for (int64_t i = 0, half; i + 1 < k; i += 2 * half) {
    half = std::min<int64_t>(k - i, 256) / 2;
    add(z + i, z + i + half, half);
  }
  if (k % 2 != 0) add(z + k - 1, z + k - 1, 1);
  *lse = largest + std::log(sum);
  *loss = *lse - z[*label];
}

template <class T>
void cross_entropy_backward(const T* loss_bar, const T* lse_bar, const T* z, const int32_t* label, const T* lse, int64_t k, T* z_bar) {
  const T both = *loss_bar + *lse_bar;
  for (int64_t i = 0; i < k; ++i) z_bar[i] = both * std::exp(z[i] - *lse);
  z_bar[*label] -= *loss_bar;
}
"""

cross_entropy = Primitive("cross_entropy")
cross_entropy_backward = Primitive("cross_entropy_backward")


def at_label(z, label):
    return jnp.take_along_axis(z, label[..., None], -1)[..., 0]


# ------------------------------------------------------------------------------------------------------------- values
@cross_entropy.def_impl
def _(z, label):
    """The loss and the log-sum-exp of each row of `z`."""
    lse = jax.nn.logsumexp(z, -1)
    return lse - at_label(z, label), lse


@cross_entropy_backward.def_impl
def _(loss_bar, lse_bar, z, label, lse):
    softmax = jnp.exp(z - lse[..., None])
    hot = jax.nn.one_hot(label, z.shape[-1], dtype=z.dtype)
    return softmax * (loss_bar + lse_bar)[..., None] - hot * loss_bar[..., None]


# On several devices the kernels split along `...`, their batch axes, so the operations need no sharding rule.
def in_single(kernel):
    """The kernel, in float32 for operands in half precision, of which C++ would get the bits alone."""

    def call(x, *others, **attributes):
        if x.dtype.itemsize > 2:
            return kernel(x, *others, **attributes)
        operands = [y.astype(jnp.float32) if y.dtype == x.dtype else y for y in (x, *others)]
        return jax.tree.map(lambda out: out.astype(x.dtype), kernel(*operands, **attributes))

    return call


cross_entropy_kernel = kernels.cpp(
    SOURCE,
    "cross_entropy(z: T[..., k], label: i32[...]) -> (loss: T[...], lse: T[...])",
    threads=None,
    fast_math=True,
    native=True,
)
cross_entropy_backward_kernel = kernels.cpp(
    SOURCE,
    "cross_entropy_backward(loss_bar: T[...], lse_bar: T[...], z: T[..., k], label: i32[...], lse: T[...]) -> T[..., k]",
    threads=None,
    fast_math=True,
    native=True,
)
cross_entropy.def_kernel(in_single(cross_entropy_kernel), platform="cpu")
cross_entropy_backward.def_kernel(in_single(cross_entropy_backward_kernel), platform="cpu")


# -------------------------------------------------------------------------------------------------------------- rules
@cross_entropy.def_jvp
def _(primals, tangents):
    z, label = primals
    z_dot, _ = tangents
    loss, lse = cross_entropy(z, label)
    lse_dot = jnp.sum(jnp.exp(z - lse[..., None]) * z_dot, -1)
    return (loss, lse), (lse_dot - at_label(z_dot, label), lse_dot)


@cross_entropy.def_vjp
def _(primals):
    z, label = primals
    loss, lse = cross_entropy(z, label)

    def pullback(cotangents):
        loss_bar, lse_bar = map(jnp.asarray, cotangents)
        return cross_entropy_backward(loss_bar, lse_bar, z, label, lse), None

    return (loss, lse), pullback


@cross_entropy.def_examples
def _():
    z = jnp.array([[0.5, -1.0, 2.0], [3.0, 0.25, -0.125]])
    return [(z, jnp.array([2, 1]))]


@cross_entropy_backward.def_examples
def _():
    z = jnp.array([[0.5, -1.0, 2.0], [3.0, 0.25, -0.125]])
    return [(jnp.array([1.0, -2.0]), jnp.array([0.5, 0.25]), z, jnp.array([2, 1]), jax.nn.logsumexp(z, -1))]


# --------------------------------------------------------------------------------------------------------------- show
def milliseconds(fn, *operands):
    jax.block_until_ready(fn(*operands))
    return 1e3 * min(timeit.repeat(lambda: jax.block_until_ready(fn(*operands)), number=10, repeat=9)) / 10


def main(n=256, k=8192):
    z = 4 * jax.random.normal(jax.random.key(0), (n, k))
    label = jax.random.randint(jax.random.key(1), (n,), 0, k)
    print(f"value and gradient of the mean loss, {n} rows of {k} logits")
    for name, op in {"C++": cross_entropy, "jax.numpy": cross_entropy.use("impl")}.items():
        loss = lambda z, op=op: jnp.mean(op(z, label)[0])
        print(f"  {name:10} {milliseconds(jax.jit(jax.value_and_grad(loss)), z):6.2f} ms")
    print(cross_entropy.explain())
    print(cross_entropy.check())


if __name__ == "__main__":
    main()
