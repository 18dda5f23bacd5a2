"""Right operations on complex numbers, Fourier transforms among them.

JAX does not conjugate: the cotangent of a holomorphic ``f`` is ``f'(x) * ct``. `p` are the primals, `t` their tangents,
`y` the result and `ct` its cotangent.
"""

from __future__ import annotations

import jax.numpy as jnp

from benchmarks.checker.operation import Op, complex_normal, normal

COMPLEX = [
    Op(
        "complex_product",
        lambda x, y: x * y,
        lambda p, t: t[0] * p[1] + p[0] * t[1],
        lambda p, y, ct: (ct * p[1], ct * p[0]),
        complex_normal((4,), (4,)),
        note="holomorphic",
    ),
    Op(
        "complex_exp",
        lambda x: jnp.exp(x),
        lambda p, t: jnp.exp(p[0]) * t[0],
        lambda p, y, ct: (y * ct,),
        complex_normal((4,)),
        note="holomorphic",
    ),
    Op(
        "conjugate",
        lambda x: jnp.conj(x),
        lambda p, t: jnp.conj(t[0] + jnp.zeros_like(p[0])),
        lambda p, y, ct: (jnp.conj(ct),),
        complex_normal((4,)),
        note="not holomorphic",
    ),
    Op(
        "abs_squared",
        lambda z: z.real**2 + z.imag**2,
        lambda p, t: 2 * jnp.real(jnp.conj(p[0]) * t[0]),
        lambda p, y, ct: (2 * jnp.conj(p[0]) * ct,),
        complex_normal((4,)),
        note="complex to real",
    ),
    Op(
        "real_times_complex",
        lambda x, z: x * z,
        lambda p, t: t[0] * p[1] + p[0] * t[1],
        lambda p, y, ct: (jnp.real(ct * p[1]), ct * p[0]),
        lambda rng: (rng.normal(size=4), *complex_normal((4,))(rng)),
        note="a real operand has a real cotangent",
    ),
    Op(
        "phase",
        lambda x: jnp.exp(1j * x),
        lambda p, t: 1j * jnp.exp(1j * p[0]) * t[0],
        lambda p, y, ct: (jnp.real(1j * y * ct),),
        normal((4,)),
        note="real to complex",
    ),
    Op(
        "complex_matvec",
        lambda a, x: a @ x,
        lambda p, t: t[0] @ p[1] + p[0] @ t[1],
        lambda p, y, ct: (ct[:, None] * p[1][None, :], ct @ p[0]),
        complex_normal((3, 3), (3,)),
    ),
    Op(
        "fft",
        lambda x: jnp.fft.fft(x),
        lambda p, t: jnp.fft.fft(t[0] + jnp.zeros_like(p[0])),
        lambda p, y, ct: (jnp.fft.fft(ct),),
        complex_normal((8,)),
        note="its matrix is symmetric",
    ),
    Op(
        "ifft",
        lambda x: jnp.fft.ifft(x),
        lambda p, t: jnp.fft.ifft(t[0] + jnp.zeros_like(p[0])),
        lambda p, y, ct: (jnp.fft.ifft(ct),),
        complex_normal((8,)),
    ),
    Op(
        "real_fft",
        lambda x: jnp.fft.fft(x),
        lambda p, t: jnp.fft.fft(t[0] + jnp.zeros_like(p[0])),
        lambda p, y, ct: (jnp.real(jnp.fft.fft(ct)),),
        normal((8,)),
        note="real to complex",
    ),
    Op(
        "complex_float64",
        lambda z: z * z,
        lambda p, t: 2 * p[0] * t[0],
        lambda p, y, ct: (2 * p[0] * ct,),
        complex_normal((4,)),
        dtype="float64",
        note="complex128",
    ),
]


def ops() -> list[Op]:
    return COMPLEX
