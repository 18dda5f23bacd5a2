"""Who is wrong where a question fails, found by other means than the check: see docs/checking/survey.md."""

from __future__ import annotations

VERDICTS = {
    "jax.scipy.special erfcx": "JAX is wrong: a second derivative of an array raises",
    "jax.scipy.special spence": "JAX is wrong: 0 at 1, and nan in reverse mode for 1 < x <= 2",
    "jax.scipy.special bessel_jn, v=2": "JAX is wrong: nan near 0",
    "jax.scipy.special boxcox": "JAX is wrong: derivatives in lmbda are 0 at 0, and nan at x = 0",
    "jax.scipy.special boxcox1p": "JAX is wrong: the derivative in lmbda is 0 at 0",
    "jax.scipy.special hyp1f1": "JAX is wrong: the derivative in a is 0 at a = 0",
    "jax.scipy.special hyp2f1": "JAX is wrong: the derivative in a is 0 at a = 0",
    "jax.scipy.special poch": "JAX is wrong: nan at z = 0",
    "jax.scipy.special sph_harm_y(2, 1, theta, phi)": "nan at the pole theta = 0",
    "jax.scipy.stats gennorm.cdf": "JAX is wrong: nan at 0",
    "jax.scipy.sparse.linalg bicgstab": "in float16 the iteration gives nan, and derivatives of 0",
    "jax.numpy power": "nan at (0, 0), where JAX has no other answer",
    "jax.numpy linalg.norm": "nan at 0, which JAX holds for right",
    "jax.numpy hypot": "nan at (0, 0), as of the norm",
    "jax.numpy std": "nan where all numbers are equal, as of the norm",
    "optax global_norm": "nan at 0, as of the norm",
    "optax sigmoid_focal_loss": "JAX is wrong, and it is known: logsumexp at b = 0; so is the derivative in labels of 0",
    "jaxopt ProximalGradient, lasso": "in float16 the derivative of the solution is off by a tenth",
    "jax.numpy.linalg svdvals": "no derivative there: two singular values are 0",
    "jax.numpy.linalg eigh, exp": "a limit of JAX that is known: equal eigenvalues",
    "lineax BiCGStab": "lineax says that the iteration breaks down, also for derivatives along zero",
    "equinox filter_custom_vjp": "as documented: arguments but the first have a gradient of 0",
    "jaxopt projection_l2_ball": "jaxopt is wrong: nan in reverse mode at 0",
    "jaxopt projection_transport": "jaxopt is wrong: derivatives are 0",
    "jaxopt projection_box_section": "a limit of jaxopt that is known: a derivative of a jitted bisection",
}
