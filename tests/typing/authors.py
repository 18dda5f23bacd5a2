"""What an author writes, for the type checker: a decorator returns the function it was given, with its type.

pyright reads this file in strict mode, from tests/test_typing.py; it never runs. Each call below uses what only the
function's own type knows. A call that must be refused stands under a `pyright: ignore` of the error, and an ignored
error that is not there is an error itself.
"""

from collections.abc import Callable
from typing import Any, assert_type

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray

from jaxprim import Explanation, Primitive, custom_vjp, primitive

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float32]]

x = jnp.ones(3)
factor = jnp.ones(())
scale = Primitive("scale")


@scale.def_impl
def impl(x: jax.Array, factor: jax.Array, *, power: int = 1) -> jax.Array:
    return x * factor**power


assert_type(impl(x, factor, power=2), jax.Array)
impl("text", factor)  # pyright: ignore[reportArgumentType]
impl(x, factor, exponent=2)  # pyright: ignore[reportCallIssue]


@scale.def_host
def host(x: Floats, factor: Floats, *, power: int = 1) -> Floats:
    return np.multiply(x, factor**power, dtype=np.float32)


assert_type(host(np.ones(3, np.float32), np.ones((), np.float32), power=2), Floats)
host(1.5, 2.5)  # pyright: ignore[reportArgumentType]


@scale.def_kernel(platform="cpu")
def kernel(x: jax.Array, factor: jax.Array, *, power: int = 1) -> jax.Array:
    return x * factor**power


assert_type(kernel(x, factor=factor, power=2), jax.Array)
kernel(x)  # pyright: ignore[reportCallIssue]


@scale.def_abstract_eval
def abstract_eval(x: ShapedArray, factor: ShapedArray, *, power: int = 1) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


assert_type(abstract_eval(ShapedArray((3,), np.float32), factor=ShapedArray((), np.float32)), jax.ShapeDtypeStruct)
abstract_eval(3)  # pyright: ignore[reportCallIssue]


@scale.def_jvp
def jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array], *, power: int = 1
) -> tuple[jax.Array, jax.Array]:
    (x, factor), (x_dot, factor_dot) = primals, tangents
    return x * factor, x_dot * factor + x * factor_dot


assert_type(jvp((x, factor), (x, factor), power=1), tuple[jax.Array, jax.Array])
jvp((x, factor))  # pyright: ignore[reportCallIssue]

Pullback = Callable[[jax.Array], tuple[jax.Array, jax.Array]]


@scale.def_vjp
def vjp(primals: tuple[jax.Array, jax.Array], *, power: int = 1) -> tuple[jax.Array, Pullback]:
    x, factor = primals

    def pullback(y_bar: jax.Array) -> tuple[jax.Array, jax.Array]:
        return y_bar * factor, jnp.sum(y_bar * x)

    return x * factor, pullback


assert_type(vjp((x, factor), power=1), tuple[jax.Array, Pullback])
vjp(x)  # pyright: ignore[reportArgumentType]


@scale.def_partials
def partials(y: jax.Array, x: jax.Array, factor: jax.Array, *, power: int = 1) -> tuple[jax.Array, jax.Array]:
    return factor, x


assert_type(partials(x, x, factor=factor), tuple[jax.Array, jax.Array])
partials(x, x, factor, x)  # pyright: ignore[reportCallIssue]


@scale.def_implicit(solve="gmres", tol=1e-6)
def residual(y: jax.Array, x: jax.Array, factor: jax.Array, *, power: int = 1) -> jax.Array:
    return y - x * factor


assert_type(residual(x, x, factor), jax.Array)
residual(x, x)  # pyright: ignore[reportCallIssue]
assert_type(scale.def_implicit(minimum=partials)(x, x, factor), tuple[jax.Array, jax.Array])
scale.def_implicit(residual, solver="cg")  # pyright: ignore[reportCallIssue]


@scale.def_transpose(linear=("x",))
def transpose(y_bar: jax.Array, factor: jax.Array, *, power: int = 1) -> jax.Array:
    return y_bar * factor


assert_type(transpose(x, factor=factor), jax.Array)
transpose(x, x=factor)  # pyright: ignore[reportCallIssue]


@scale.def_examples
def examples() -> list[tuple[jax.Array, jax.Array]]:
    return [(x, factor)]


assert_type(examples(), list[tuple[jax.Array, jax.Array]])
examples(3)  # pyright: ignore[reportCallIssue]


# A primitive that is made from a function is called as the function is.
@primitive
def double(x: jax.Array, *, times: int = 1) -> jax.Array:
    return 2**times * x


assert_type(double(x), jax.Array)
assert_type(double(x, times=2), jax.Array)
assert_type(double.bind(x=x), jax.Array)
assert_type(double.use("impl")(x, times=2), jax.Array)
double("text")  # pyright: ignore[reportArgumentType]
double(x, factor)  # pyright: ignore[reportCallIssue]
double(x, power=2)  # pyright: ignore[reportCallIssue]
double.bind()  # pyright: ignore[reportCallIssue]
double.use("impl")(x, power=2)  # pyright: ignore[reportCallIssue]
jax.vmap(double)("text")  # pyright: ignore[reportArgumentType]
assert_type(double.name, str)
assert_type(double.explain(), Explanation)


@primitive(batching="sequential", name="minmax")
def extrema(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.min(x), jnp.max(x)


assert_type(extrema(x), tuple[jax.Array, jax.Array])
extrema(x, x)  # pyright: ignore[reportCallIssue]
primitive(batching=1)  # pyright: ignore[reportArgumentType]
primitive("scale")  # pyright: ignore[reportArgumentType]


@custom_vjp
def clipped(x: jax.Array) -> jax.Array:
    return x


assert_type(clipped(x), jax.Array)
clipped("text")  # pyright: ignore[reportArgumentType]


# One that is made by its name alone takes anything.
assert_type(scale, Primitive[..., Any])
assert_type(scale, Primitive)
assert_type(scale(x, factor, power=2), Any)


# A `Primitive` in an annotation is any of them.
def names(*primitives: Primitive) -> list[str]:
    return [one.name for one in primitives]


assert_type(names(scale, double, extrema), list[str])
