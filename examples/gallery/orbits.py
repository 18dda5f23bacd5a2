"""Bodies that attract each other, by an adaptive integrator in C++ that differentiates itself.

With positions q, velocities v and masses m, in units where the constant of gravity is 1,

    q_i'' = sum_j m_j (q_j - q_i) (|q_j - q_i|^2 + s^2)^(-3/2)

Steps of the classical Runge-Kutta method are halved until two half steps agree with the whole one. The loop has no length
that is known before it runs, so JAX has no reverse mode for it. Here nobody wrote a rule: `differentiable=True` compiles
the template again, with dual numbers for JVPs and with a tape for VJPs, to any order.

Three facts say whether the derivatives are right, whatever computes them. With F the field of the equation and f its flow,

    J(x) F(x) = F(f(x))                   a short time sooner at the start is as much sooner at the end
    sum_i m_i v_i(end) = sum_i m_i v_i    so its gradient is m_i in the velocities, and 0 in the positions
    u . (J w) = (J^T u) . w               forward and reverse mode agree

Run it with `python examples/gallery/orbits.py`, or check it with `jaxprim check examples/gallery/orbits.py`.
"""

import timeit

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim import Example, Primitive, kernels

SOURCE = """
#include <algorithm>
#include <cmath>
#include <vector>

template <class T>
using Numbers = std::vector<T>;

// x has six numbers for each body: where it is, and how fast it moves.
template <class T>
void field(const Numbers<T>& x, const T* mass, double soft, int64_t n, Numbers<T>& out) {
  for (int64_t i = 0; i < n; ++i)
    for (int k = 0; k < 3; ++k) out[6 * i + k] = x[6 * i + 3 + k], out[6 * i + 3 + k] = 0;
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < i; ++j) {
      T d[3], square = soft * soft;
      for (int k = 0; k < 3; ++k) d[k] = x[6 * j + k] - x[6 * i + k], square += d[k] * d[k];
      const T pull = 1 / (square * std::sqrt(square));
      for (int k = 0; k < 3; ++k) {
        out[6 * i + 3 + k] += mass[j] * pull * d[k];
        out[6 * j + 3 + k] -= mass[i] * pull * d[k];
      }
    }
}

template <class T>
void step(const Numbers<T>& x, const T* mass, double soft, int64_t n, double h, Numbers<T>& out) {
  Numbers<T> slope(6 * n), at(6 * n);
  const double ahead[] = {0.5, 0.5, 1, 0}, weight[] = {1 / 6., 1 / 3., 1 / 3., 1 / 6.};
  at = out = x;
  for (int stage = 0; stage < 4; ++stage) {
    field(at, mass, soft, n, slope);
    for (int64_t i = 0; i < 6 * n; ++i) {
      out[i] += weight[stage] * h * slope[i];
      at[i] = x[i] + ahead[stage] * h * slope[i];
    }
  }
}

template <class T>
void orbits(const T* start, const T* mass, double end, double soft, double tolerance, int64_t n, T* x) {
  Numbers<T> now(start, start + 6 * n), whole(6 * n), half(6 * n), twice(6 * n);
  double t = 0, h = std::min(end, 0.1);
  while (t < end) {
    if (t + h > end) h = end - t;
    step(now, mass, soft, n, h, whole);
    step(now, mass, soft, n, h / 2, half);
    step(half, mass, soft, n, h / 2, twice);
    T error = 0;
    for (int64_t i = 0; i < 6 * n; ++i) error = std::max(error, T(std::abs(twice[i] - whole[i])));
    if (error > tolerance) {
      h /= 2;
      continue;
    }
    t += h;
    now = twice;
    if (error < tolerance / 64) h *= 2;
  }
  std::copy(now.begin(), now.end(), x);
}
"""

kernel = kernels.cpp(
    SOURCE,
    "orbits(start: T[..., n, 6], mass: T[n]; end: f64, soft: f64 = 0.01, tolerance: f64 = 1e-9) -> T[..., n, 6]",
    threads=None,
    differentiable=True,
)

# A batch of starts is split over devices and threads, and so are its derivatives: no sharding rule is needed. The bodies of
# one start attract each other, so they stay together.
orbits = Primitive("orbits")
orbits.def_impl(kernel)


@orbits.def_accuracy
def _(start, mass, *, end, soft=0.01, tolerance=1e-9):
    return 10 * tolerance


def two_bodies(dtype="float64"):
    """A planet of mass 0.1 around a sun of mass 1."""
    start = jnp.array([[0.0, 0, 0, 0, -0.1, 0], [1, 0, 0, 0, 1, 0.2]], dtype)
    return start, jnp.array([1.0, 0.1], dtype)


@orbits.def_examples
def _():
    start, mass = two_bodies(jnp.result_type(float))
    return [Example((start, mass), {"end": 1.0})]


def field(x, mass, soft=0.01):
    """F, in JAX."""
    d = x[None, :, :3] - x[:, None, :3]
    pull = (jnp.sum(d * d, -1) + soft**2) ** -1.5
    return jnp.concatenate([x[:, 3:], jnp.sum((mass[None] * pull)[..., None] * d, 1)], 1)


# ----------------------------------------------------------------------------- the same in JAX, for comparison
def in_jax(start, mass, *, end, tolerance=1e-9):
    def step(x, h):
        k1 = field(x, mass)
        k2 = field(x + h / 2 * k1, mass)
        k3 = field(x + h / 2 * k2, mass)
        return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + field(x + h * k3, mass))

    def body(state):
        t, h, x = state
        h = jnp.minimum(h, end - t)
        whole, twice = step(x, h), step(step(x, h / 2), h / 2)
        error = jnp.max(jnp.abs(twice - whole))
        ok = error <= tolerance
        longer = jnp.where(error < tolerance / 64, 2 * h, h)
        return jnp.where(ok, t + h, t), jnp.where(ok, longer, h / 2), jnp.where(ok, twice, x)

    first = jnp.zeros((), start.dtype), jnp.asarray(min(end, 0.1), start.dtype), start
    return jax.lax.while_loop(lambda state: state[0] < end, body, first)[2]


def main():
    jax.config.update("jax_enable_x64", True)
    start, mass = two_bodies()
    ours, theirs = (jax.jit(lambda x, m, fn=fn: fn(x, m, end=5.0)) for fn in (orbits, in_jax))
    print(f"C++ and JAX differ by {jnp.max(jnp.abs(ours(start, mass) - theirs(start, mass))):.1e}")
    speed = lambda fn: min(timeit.repeat(lambda: jax.block_until_ready(fn(start, mass)), number=1, repeat=20)) * 1e3
    push = lambda fn: jax.jit(lambda x, m: jax.jvp(lambda x: fn(x, m), (x,), (field(x, m),))[1])
    print(f"value    {speed(ours):.2f} ms, JAX {speed(theirs):.2f} ms")
    print(f"JVP      {speed(push(ours)):.2f} ms, JAX {speed(push(theirs)):.2f} ms")
    gradient = jax.jit(jax.grad(lambda x, m: ours(x, m)[1, 0]))
    print(f"gradient {speed(gradient):.2f} ms, JAX has none")
    print("how the start changes where the planet is:", np.round(np.asarray(gradient(start, mass))[1], 3))


if __name__ == "__main__":
    main()
