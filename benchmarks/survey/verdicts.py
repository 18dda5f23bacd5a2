"""Which library is wrong where a question fails. The check was not used to decide this: see docs/checking/survey.md."""

from __future__ import annotations

VERDICTS = {
    "jax.scipy.special erfcx": "JAX is wrong: the second derivative raises for an array",
    "jax.scipy.special spence": "JAX is wrong: 0 at 1, and NaN in reverse mode for 1 < x <= 2",
    "jax.scipy.special bessel_jn, v=2": "JAX is wrong: NaN near 0",
    "jax.scipy.special boxcox": "JAX is wrong: the derivative with respect to lmbda is 0 at 0, and NaN at x = 0",
    "jax.scipy.special boxcox1p": "JAX is wrong: the derivative with respect to lmbda is 0 at 0",
    "jax.scipy.special hyp1f1": "JAX is wrong: the derivative with respect to a is 0 at a = 0",
    "jax.scipy.special hyp2f1": "JAX is wrong: the derivative with respect to a is 0 at a = 0",
    "jax.scipy.special poch": "JAX is wrong: NaN at z = 0",
    "jax.scipy.special sph_harm_y(2, 1, theta, phi)": "NaN at the pole theta = 0",
    "jax.scipy.stats gennorm.cdf": "JAX is wrong: NaN at 0",
    "jax.scipy.sparse.linalg bicgstab": "in float16, the iteration gives NaN, and derivatives are 0",
    "jax.numpy power": "NaN at (0, 0); JAX considers this acceptable",
    "jax.numpy linalg.norm": "NaN at 0; JAX considers this correct",
    "jax.numpy hypot": "NaN at (0, 0), like the norm",
    "jax.numpy std": "NaN where all numbers are equal, like the norm",
    "optax global_norm": "NaN at 0, like the norm",
    "optax sigmoid_focal_loss": "JAX is wrong, a known issue: logsumexp at b = 0, and the derivative with respect to labels of 0",
    "jaxopt ProximalGradient, lasso": "in float16, the derivative of the solution is off by 10 %",
    "jax.numpy.linalg svdvals": "not differentiable there: two singular values are 0",
    "jax.numpy.linalg eigh, exp": "a known limit of JAX: equal eigenvalues",
    "lineax BiCGStab": "lineax reports a breakdown of the iteration, even for derivatives along zero",
    "equinox filter_custom_vjp": "as documented: only the first argument has a gradient, the others get 0",
    "jaxopt projection_l2_ball": "jaxopt is wrong: NaN in reverse mode at 0",
    "jaxopt projection_transport": "jaxopt is wrong: derivatives are 0",
    "jaxopt projection_box_section": "a known limit of jaxopt: the derivative of a jitted bisection",
}
