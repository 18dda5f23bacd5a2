"""Operands without axes, several results, trees, and complex numbers."""

from __future__ import annotations

import jax.numpy as jnp

from benchmarks.users.operation import draws, fault, op, positive

op(
    "scale",
    lambda x, factor: x * factor,
    lambda: [(draws((2, 3))[0], jnp.float32(-1.7))],
    jvp={"x": lambda x_dot, y, x, factor: x_dot * factor, "factor": lambda f_dot, y, x, factor: x * f_dot},
    vjp={"x": lambda y_bar, y, x, factor: y_bar * factor, "factor": lambda y_bar, y, x, factor: jnp.sum(y_bar * x)},
)
op(
    "gaussian_log_density",
    lambda x, mean, sigma: -(((x - mean) / sigma) ** 2) / 2 - jnp.log(sigma),
    lambda: [(draws((5,))[0], jnp.float32(0.3), jnp.float32(1.4))],
    partials=lambda y, x, mean, sigma: (
        -(x - mean) / sigma**2,
        (x - mean) / sigma**2,
        ((x - mean) ** 2 / sigma**2 - 1) / sigma,
    ),
)
op(
    "discriminant",
    lambda a, b, c: b * b - 4 * a * c,
    lambda: [(1.3, -2.5, 0.4)],
    partials=lambda y, a, b, c: (-4 * c, 2 * b, -4 * a),
)
op(
    "saturation",
    lambda x, half: x / (half + x),
    lambda: [(draws((4,), low=0.2)[0], 0.8)],
    partials=lambda y, x, half: (half / (half + x) ** 2, -x / (half + x) ** 2),
)
op(
    "largest",
    lambda x: (jnp.max(x), jnp.argmax(x)),
    lambda: [(draws((6,))[0],)],
    jvp={"x": lambda x_dot, y, x: (x_dot[y[1]], None)},
    vjp={"x": lambda y_bar, y, x: jnp.zeros_like(x).at[y[1]].add(y_bar[0])},
)
op(
    "polar",
    lambda x, y: (jnp.hypot(x, y), jnp.arctan2(y, x)),
    lambda: [tuple(draws((4,), (4,)))],
    vjp={
        "x": lambda bars, out, x, y: bars[0] * x / out[0] - bars[1] * y / out[0] ** 2,
        "y": lambda bars, out, x, y: bars[0] * y / out[0] + bars[1] * x / out[0] ** 2,
    },
)
op(
    "dense",
    lambda layer, x: layer["w"] @ x + layer["b"],
    lambda: [({"w": draws((3, 4))[0], "b": draws((3,))[0]}, draws((4,))[0])],
    jvp={"layer": lambda d, y, layer, x: d["w"] @ x + d["b"], "x": lambda x_dot, y, layer, x: layer["w"] @ x_dot},
    vjp={
        "layer": lambda y_bar, y, layer, x: {"w": jnp.outer(y_bar, x), "b": y_bar},
        "x": lambda y_bar, y, layer, x: layer["w"].T @ y_bar,
    },
)
op(
    "matmul",
    lambda a, b: a @ b,
    lambda: [tuple(draws((3, 4), (4, 2)))],
    jvp={"a": lambda a_dot, y, a, b: a_dot @ b, "b": lambda b_dot, y, a, b: a @ b_dot},
    vjp={"a": lambda y_bar, y, a, b: y_bar @ b.T, "b": lambda y_bar, y, a, b: a.T @ y_bar},
)
op(
    "symmetric_part",
    lambda a: (a + a.T) / 2,
    lambda: [(positive(3),)],
    jvp={"a": lambda a_dot, y, a: (a_dot + a_dot.T) / 2},
    vjp={"a": lambda y_bar, y, a: (y_bar + y_bar.T) / 2},
)
op(
    "quadratic_form",
    lambda a, x: x @ a @ x,
    lambda: [(positive(3), draws((3,))[0])],
    vjp={"a": lambda y_bar, y, a, x: y_bar * jnp.outer(x, x), "x": lambda y_bar, y, a, x: y_bar * (a @ x + a.T @ x)},
)
z8 = lambda *s: draws(*s)[0] + 1j * jnp.flip(draws(*s)[0])
op("rotate", lambda z, w: z * w, lambda: [(z8((4,)), z8((4,)) + 1)], partials=lambda y, z, w: (w, z))
op(
    "power_spectrum",
    lambda z: jnp.real(z * jnp.conj(z)),
    lambda: [(z8((5,)),)],
    jvp={"z": lambda z_dot, y, z: 2 * jnp.real(jnp.conj(z) * z_dot)},
    vjp={"z": lambda y_bar, y, z: 2 * y_bar * jnp.conj(z)},
)
op("fourier", lambda z: jnp.fft.fft(z), lambda: [(z8((8,)),)], transpose=(lambda y_bar: jnp.fft.fft(y_bar), ("z",)))

# -- faults: one rule each

fault("scale", "vjp", "factor", lambda y_bar, y, x, factor: jnp.mean(y_bar * x), "a mean where a sum belongs")
fault("scale", "jvp", "factor", lambda f_dot, y, x, factor: jnp.ones_like(x) * f_dot, "x is missing")
fault(
    "gaussian_log_density",
    "partials",
    None,
    lambda y, x, mean, sigma: (-(x - mean) / sigma**2, (x - mean) / sigma**2, (x - mean) ** 2 / sigma**3 - sigma),
    "sigma for 1 / sigma",
)
fault("discriminant", "partials", None, lambda y, a, b, c: (-4 * a, 2 * b, -4 * c), "a and c are exchanged")
fault(
    "saturation",
    "partials",
    None,
    lambda y, x, half: (half / (half + x) ** 2, -x / (half + x)),
    "the square is missing",
)
fault("largest", "vjp", "x", lambda y_bar, y, x: y_bar[0] * x / y[0], "spreads over all elements")
fault(
    "polar",
    "vjp",
    "y",
    lambda bars, out, x, y: bars[0] * y / out[0] - bars[1] * x / out[0] ** 2,
    "the sign of the second result",
)
fault("dense", "vjp", "layer", lambda y_bar, y, layer, x: {"w": jnp.outer(y_bar, x), "b": 0 * y_bar}, "no bias")
fault("dense", "jvp", "layer", lambda d, y, layer, x: d["w"] @ x, "no bias")
fault("matmul", "vjp", "b", lambda y_bar, y, a, b: a.T @ y_bar / a.shape[0], "a mean where a sum belongs")
fault("symmetric_part", "jvp", "a", lambda a_dot, y, a: a_dot, "right along symmetric tangents only")
fault("quadratic_form", "vjp", "x", lambda y_bar, y, a, x: 2 * y_bar * (a @ x), "right for a symmetric matrix only")
fault("rotate", "partials", None, lambda y, z, w: (jnp.conj(w), z), "a conjugate too many")
fault("power_spectrum", "vjp", "z", lambda y_bar, y, z: 2 * y_bar * z, "the conjugate is missing")
fault(
    "fourier",
    "transpose",
    None,
    lambda y_bar: jnp.conj(jnp.fft.fft(jnp.conj(y_bar))),
    "the adjoint, not the transpose",
)
