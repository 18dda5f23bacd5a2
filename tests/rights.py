"""Right operations that are hard on a checker: no question may fail on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim import Primitive

f32 = jnp.float32


@dataclass(frozen=True)
class Right:
    """A right function or primitive, and operands where its numbers are awkward."""

    name: str
    fn: Callable[..., Any]
    operands: tuple[Any, ...]

    def __repr__(self) -> str:
        return self.name


def numbers(*shape: int, dtype: Any = np.float32) -> Any:
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=shape), dtype)


def hilbert(size: int) -> Any:
    i = np.arange(size)
    return jnp.asarray(1 / (i[:, None] + i + 1), f32)


def hard_sine() -> Primitive:
    """A float32 kernel that refuses any other dtype."""
    made = Primitive("hard_sine")

    def kernel(x):
        if x.dtype != np.float32:
            raise TypeError("float32 only")
        return np.sin(x)

    made.def_host(kernel)
    made.def_abstract_eval(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype))
    made.def_jvp(lambda primals, tangents: (made(*primals), tangents[0] * jnp.cos(*primals)))
    made.def_vjp(lambda primals: (made(*primals), lambda y_bar: (y_bar * jnp.cos(*primals),)))
    return made


def garbled_in_float64() -> Primitive:
    """A kernel that reads a float64 buffer as if it held float32: there it neither raises nor gives the right values."""
    made = Primitive("garbled")
    made.def_host(lambda x: x * 2 if x.dtype == np.float32 else np.resize(x.view(np.float32), x.shape).astype(x.dtype))
    made.def_abstract_eval(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype))
    made.def_jvp(lambda primals, tangents: (made(*primals), 2 * tangents[0]))
    return made


def rule_for_float32_alone() -> Primitive:
    """The implementation takes any dtype, the JVP rule makes float32 whatever it gets."""
    made = Primitive("float32_rule")
    made.def_impl(lambda x: x * x)
    made.def_jvp(lambda primals, tangents: (made(*primals), jnp.asarray(2 * primals[0] * tangents[0], f32)))
    return made


def reverse_only() -> Primitive:
    """An opaque backward half, so that no JVP can be derived."""
    made = Primitive("reverse_only")
    made.def_host(lambda x: np.sin(x))
    made.def_abstract_eval(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype))
    back = Primitive("back")
    back.def_host(lambda x, y_bar: y_bar * np.cos(x))
    back.def_abstract_eval(lambda x, y_bar: jax.ShapeDtypeStruct(x.shape, x.dtype))
    made.def_vjp(lambda primals: (made(*primals), lambda y_bar: (back(primals[0], y_bar),)))
    return made


def host_without_rules() -> Primitive:
    made = Primitive("host_without_rules")
    made.def_host(lambda x: np.sin(x))
    made.def_abstract_eval(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype))
    return made


def straight_through() -> Primitive:
    made = Primitive("straight_through")
    made.def_impl(lambda x: jnp.round(x))
    made.def_vjp(surrogate="straight-through: the gradient passes as if nothing was rounded")(
        lambda primals: (made(*primals), lambda y_bar: (jnp.clip(y_bar, -0.6, 0.6),))
    )
    return made


def one_operand_of_two() -> Primitive:
    """Differentiable in x alone: the rule per operand says so when it is asked for n."""
    made = Primitive("one_operand")
    made.def_impl(lambda x, n: x**2 * jnp.round(n))
    made.def_jvp(x=lambda x_dot, y, x, n: 2 * x * x_dot * jnp.round(n))
    made.def_vjp(x=lambda y_bar, y, x, n: 2 * x * y_bar * jnp.round(n))
    return made


def linear_pair() -> Primitive:
    there, back = Primitive("there"), Primitive("back")
    for made in (there, back):
        made.def_host(lambda x: np.fft.fft(x).astype(x.dtype))
        made.def_abstract_eval(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype))
    there.def_transpose(back, linear="x")
    back.def_transpose(there, linear="x")
    return there


def with_key() -> Primitive:
    made = Primitive("with_key")
    made.def_impl(lambda key, x: (jax.random.bernoulli(key, 0.5, x.shape).astype(x.dtype) * x, jax.random.split(key)))

    def jvp(primals, tangents):
        y, keys = made(*primals)
        mask = jax.random.bernoulli(primals[0], 0.5, primals[1].shape).astype(primals[1].dtype)
        return (y, keys), (mask * tangents[1], None)

    made.def_jvp(jvp)
    return made


def pytree() -> Primitive:
    made = Primitive("pytree")
    made.def_impl(lambda p, t: {"a": p["w"] * t[0], "n": (t[1] + 1, None), "b": p["b"] + 2 * t[0]})
    made.def_jvp(
        lambda primals, tangents: (
            made(*primals),
            {
                "a": tangents[0]["w"] * primals[1][0] + primals[0]["w"] * tangents[1][0],
                "n": (None, None),
                "b": tangents[0]["b"] + 2 * tangents[1][0],
            },
        )
    )
    return made


def forward_only(x: Any) -> Any:
    return jax.lax.while_loop(lambda state: state[1] < 3, lambda state: (state[0] * 1.1, state[1] + 1), (x, 0))[0]


def squares() -> Primitive:
    made = Primitive("squares")
    made.def_impl(lambda x: x * x)
    made.def_jvp(lambda primals, tangents: (made(*primals), 2 * primals[0] * tangents[0]))
    made.def_vjp(lambda primals: (made(*primals), lambda y_bar: (2 * primals[0] * y_bar,)))
    return made


def length() -> Primitive:
    """The square of an element of 300 overflows in float16, its root would not."""
    made = Primitive("length")
    made.def_impl(lambda x: jnp.sqrt(jnp.sum(x * x)))
    made.def_vjp(lambda primals: (made(*primals), lambda y_bar: (y_bar * primals[0] / made(*primals),)))
    return made


def split_pullback() -> Primitive:
    """The pullback of y = x^2 w. One result has the axis of the batch, and the other one is summed over it."""
    made = Primitive("split_pullback")
    made.def_impl(lambda x, w, y_bar: (2 * x * w[None] * y_bar, jnp.sum(x * x * y_bar, 0)))
    made.def_sharding("b n, n, b n -> b n, n", reduced="b")
    return made


def badly_conditioned(condition: float) -> Any:
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(4, 4)))[0] for _ in range(2))
    return left * np.logspace(0, -np.log10(condition), 4) @ right


def power() -> Primitive:
    """At x = 0 the derivative along a is 0 x inf by this formula, and the function ends there."""
    made = Primitive("power")
    made.def_impl(lambda x, a: x**a)
    made.def_partials(lambda y, x, a: (a * x ** (a - 1), y * jnp.log(x)))
    return made


# Numbers of NumPy, which JAX takes in double precision where that is on.
DOUBLES = (np.array([0.3, 1.7, -0.6]), np.array([1.5, 0.7, 4.2]))

RIGHTS = [
    Right("float16", jnp.sin, (numbers(7).astype(jnp.float16),)),
    Right("bfloat16", jnp.sin, (numbers(7).astype(jnp.bfloat16),)),
    Right("matmul in bfloat16", jnp.matmul, (numbers(5, 8, dtype=jnp.bfloat16), numbers(8, 3, dtype=jnp.bfloat16))),
    Right("tiny and huge", lambda x: x * 3, (jnp.array([1e-30, 1.0, 1e30], f32),)),
    Right("overflow", lambda x: x * x * 2, (jnp.array([200.0, 300.0], jnp.float16),)),
    Right("underflow", lambda x: x * x * 2, (jnp.array([1e-30, 1e-20], f32),)),
    Right("saturated tanh", jnp.tanh, (jnp.array([10.0, -20.0, 0.1, 40.0, 0.0], f32),)),
    Right("one factor in float32", lambda x, y: jnp.sin(x.astype(f32)).astype(x.dtype) * y, (numbers(3), numbers(3))),
    Right("one factor in float32, in float64", lambda x, y: jnp.sin(x.astype(f32)).astype(x.dtype) * y, DOUBLES),
    Right("loses six digits", lambda x, p: jnp.expm1(p * x) / p, (DOUBLES[1], 1e-6 * DOUBLES[0])),
    Right("not a number at zero", jnp.fmod, (jnp.array([1.0, 2.5], f32), jnp.array([0.0, 0.7], f32))),
    Right("kink beside a large element", jax.nn.selu, (jnp.array([0.0, 30.0], f32),)),
    Right("zero with slope zero", lambda x: x * x, (jnp.zeros(3, f32),)),
    Right("kink at the point", jax.nn.relu, (jnp.array([-1.0, 0.0, 2.0, 0.0], f32),)),
    Right("kink of abs", jnp.abs, (jnp.array([0.0, 1.0], f32),)),
    Right("ties", jnp.maximum, (jnp.array([0.0, 1.0, 2.0], f32), jnp.array([0.0, 1.0, 3.0], f32))),
    Right("end of the domain", jnp.sqrt, (jnp.array([0.0, 1.0, 4.0], f32),)),
    Right("jumps", jnp.floor, (jnp.array([0.3, 1.0, 2.5], f32),)),
    Right("cancellation", lambda x: (1 - jnp.cos(x)) / x**2, (jnp.array([1e-2, 0.5, 1.0], f32),)),
    Right("ill-conditioned", jnp.linalg.inv, (hilbert(6),)),
    Right("steep", lambda x: jnp.sin(1e3 * x), (jnp.array([1.0, 2.0], f32),)),
    Right("sharp softmax", jax.nn.softmax, (numbers(7) * 30,)),
    Right("computes in float32", lambda x: jnp.sin(x.astype(f32)).astype(x.dtype), (numbers(7),)),
    Right("computes in bfloat16", lambda x: jnp.cumsum(x.astype(jnp.bfloat16)).astype(f32), (numbers(7),)),
    Right("complex", jnp.exp, (numbers(3, dtype=np.complex64) * (1 + 0.5j),)),
    Right("not holomorphic", lambda z: jnp.abs(z) ** 2, (numbers(3, dtype=np.complex64) * (1 + 0.5j),)),
    Right("complex at a real point", lambda z: z * z, (numbers(3, dtype=np.complex64),)),
    Right("real times complex", lambda x, z: x * z, (numbers(3), numbers(3, dtype=np.complex64) * 1j)),
    Right("real to complex", jnp.fft.rfft, (numbers(8),)),
    Right("integer operand", lambda x, i: x[i], (numbers(7), jnp.array([0, 3, 3]))),
    Right("integers alone", lambda i: i + 1, (jnp.array([1, 2]),)),
    Right("boolean result", lambda x: (x > 0, x * 2), (numbers(5),)),
    Right("zero-size", jnp.sin, (jnp.zeros((0, 3), f32),)),
    Right("sum of nothing", jnp.sum, (jnp.zeros((0,), f32),)),
    Right("a Python number", jnp.sin, (1.0,)),
    Right("100000 elements", jnp.sum, (numbers(100_000),)),
    Right("forward only", forward_only, (numbers(4),)),
    Right("hard-coded float32 kernel", hard_sine(), (numbers(5),)),
    Right("garbled in float64", garbled_in_float64(), (numbers(5),)),
    Right("rule for float32 alone", rule_for_float32_alone(), (numbers(5),)),
    Right("reverse only", reverse_only(), (numbers(5),)),
    Right("host without rules", host_without_rules(), (numbers(5),)),
    Right("straight-through", straight_through(), (numbers(5),)),
    Right("one operand of two", one_operand_of_two(), (numbers(3), jnp.array([2.3, 3.4, 1.2], f32))),
    Right("linear pair", linear_pair(), (numbers(4, dtype=np.complex64) * (1 + 2j),)),
    Right("keys", with_key(), (jax.random.key(0), numbers(6))),
    Right("squares that underflow", squares(), (1e-120 * DOUBLES[0],)),
    Right("squares near the end of float16", squares(), (jnp.array([100.0, 150.0, -255.0], jnp.float16),)),
    Right("exponentials near the end of float16", jnp.exp, (jnp.array([10.0, 11.0, 9.0], jnp.float16),)),
    Right("slope beyond the range", lambda x: 1 / x, (jnp.array([1e-25, 3e-20], f32),)),
    Right("overflows in float16 alone", length(), (300 + numbers(5),)),
    Right("condition of 1e10", jnp.linalg.solve, (badly_conditioned(1e10), np.array([0.3, 1.7, -0.6, 1.1]))),
    Right("ends at an invented zero", power(), (jnp.array([1.0, 2.0, 3.0], f32), jnp.array(2.5, f32))),
    Right("pytrees", pytree(), ({"w": numbers(3), "b": jnp.float32(2)}, (numbers(3) * 2, 3))),
    Right("split pullback", split_pullback(), (numbers(4, 3), numbers(3), numbers(4, 3))),
]
