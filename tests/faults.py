"""Wrong primitives, and the question that must catch each. Every one is right but for what its name says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim import Primitive, Zero


@dataclass(frozen=True)
class Fault:
    """One wrong primitive.

    Attributes:
        name: what is wrong with it.
        question: the question that must catch it.
        build: makes the primitive and example operands.
    """

    name: str
    question: str
    build: Callable[[], tuple[Primitive, tuple[Any, ...]]]

    def __repr__(self) -> str:
        return self.name


FAULTS: list[Fault] = []


def fault(question: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    def add(build: Callable[[], Any]) -> Callable[[], Any]:
        FAULTS.append(Fault(build.__name__, question, build))
        return build

    return add


def numbers(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    values = rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape)
    if np.issubdtype(dtype, np.complexfloating):
        values = values + 1j * rng.uniform(0.5, 1.5, shape)
    return jnp.asarray(values, dtype)


def unary(
    slope_jvp: Callable[[Any], Any] | None = None,
    slope_vjp: Callable[[Any], Any] | None = None,
    impl: Callable[[Any], Any] = jnp.sin,
    **kwargs: Any,
) -> Primitive:
    """y = sin(x), with the slopes that the two rules use."""
    made = Primitive("wrong", **kwargs)
    made.def_impl(lambda x: impl(x))
    if slope_jvp is not None:
        made.def_jvp(lambda primals, tangents: (made(*primals), tangents[0] * slope_jvp(*primals)))
    if slope_vjp is not None:
        made.def_vjp(lambda primals: (made(*primals), lambda y_bar: (y_bar * slope_vjp(*primals),)))
    return made


def product(
    jvp: Callable[..., Any] | None = None,
    vjp: Callable[..., Any] | None = None,
    impl: Callable[..., Any] = lambda x, f: x * f,
) -> Primitive:
    """y = x f with scalar f: ``jvp(x, f, x_dot, f_dot)`` and ``vjp(x, f, y_bar)``."""
    made = Primitive("wrong")
    made.def_impl(lambda x, f: impl(x, f))
    if jvp is not None:
        made.def_jvp(lambda primals, tangents: (made(*primals), jvp(*primals, *tangents)))
    if vjp is not None:
        made.def_vjp(lambda primals: (made(*primals), lambda y_bar: vjp(*primals, y_bar)))
    return made


def right_jvp(x: Any, f: Any, x_dot: Any, f_dot: Any) -> Any:
    return x_dot * f + x * f_dot


def right_vjp(x: Any, f: Any, y_bar: Any) -> Any:
    return y_bar * f, jnp.sum(y_bar * x)


VECTOR = (numbers(5),)
PAIR = (numbers(3), 2.0)


# ---------------------------------------------------------------------------------------------------- first derivatives
@fault("jvp-differences")
def jvp_of_the_wrong_sign():
    return unary(lambda x: -jnp.cos(x)), VECTOR


@fault("jvp-differences")
def jvp_off_by_0_2_percent_in_float32():
    return unary(lambda x: 1.002 * jnp.cos(x)), VECTOR


@fault("jvp-differences")
def jvp_off_by_1e_4_in_float32():
    return unary(lambda x: 1.0001 * jnp.cos(x)), VECTOR


@fault("jvp-differences")
def jvp_off_by_a_factor_two_at_1000_elements():
    return unary(lambda x: 2 * jnp.cos(x)), (numbers(1000),)


@fault("jvp-differences")
def jvp_off_in_one_of_10000_elements():
    return unary(lambda x: jnp.cos(x).at[7777].mul(1.5)), (numbers(10_000),)


@fault("jvp-differences")
def jvp_off_where_x_is_large():
    return unary(lambda x: jnp.where(jnp.abs(x) > 1.2, 1.01, 1.0) * jnp.cos(x)), (numbers(30),)


@fault("jvp-differences")
def jvp_without_one_term():
    return product(lambda x, f, x_dot, f_dot: x_dot * f + 0 * f_dot), PAIR


@fault("jvp-differences")
def jvp_that_is_nan():
    return unary(lambda x: jnp.cos(x) * jnp.nan), VECTOR


@fault("jvp-differences")
def jvp_off_in_bfloat16():
    return unary(lambda x: 0.9 * jnp.cos(x)), (numbers(5).astype(jnp.bfloat16),)


@fault("jvp-differences")
def jvp_off_in_float16():
    return unary(lambda x: 1.01 * jnp.cos(x)), (numbers(5).astype(jnp.float16),)


@fault("jvp-differences")
def jvp_off_at_a_tiny_scale():
    return unary(lambda x: 0 * x + 2.5, impl=lambda x: 2 * x), (numbers(3) * 1e-30,)


@fault("jvp-differences")
def jvp_off_at_a_huge_scale():
    return unary(lambda x: 0 * x + 2.5, impl=lambda x: 2 * x), (numbers(3) * 1e30,)


@fault("jvp-differences")
def jvp_that_computes_in_float16():
    return unary(lambda x: jnp.cos(x.astype(jnp.float16)).astype(x.dtype)), VECTOR


@fault("jvp-differences")
def jvp_of_a_float32_kernel_off_by_0_2_percent():
    made = Primitive("wrong")

    def kernel(x):
        if x.dtype != np.float32:
            raise TypeError("float32 only")
        return np.sin(x)

    made.def_host(kernel)
    made.def_abstract_eval(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype))
    made.def_jvp(lambda primals, tangents: (made(*primals), 1.002 * tangents[0] * jnp.cos(*primals)))
    return made, VECTOR


@fault("jvp-differences")
def linear_by_declaration_alone():
    made = unary(impl=lambda x: x * x)
    made.def_transpose(lambda y_bar: y_bar, linear="x")
    return made, VECTOR


@fault("jvp-differences")
def partials_off_in_one_operand():
    made = Primitive("wrong")
    made.def_impl(lambda x, y: jnp.sin(x) * y)
    made.def_partials(lambda z, x, y: (jnp.cos(x) * y, jnp.cos(x)))
    return made, (numbers(4), numbers(4, seed=1))


@fault("jvp-differences")
def jvp_with_swapped_results():
    made = Primitive("wrong")
    made.def_impl(lambda x: {"sin": jnp.sin(x), "cos": jnp.cos(x)})

    def jvp(primals, tangents):
        (x,), (x_dot,) = primals, tangents
        return made(x), {"sin": -jnp.sin(x) * x_dot, "cos": jnp.cos(x) * x_dot}

    made.def_jvp(jvp)
    return made, VECTOR


@fault("jvp-differences")
def jvp_that_conjugates():
    made = unary(impl=lambda z: z * z)
    made.def_jvp(lambda primals, tangents: (made(*primals), 2 * jnp.conj(primals[0]) * tangents[0]))
    return made, (numbers(3, dtype=np.complex64),)


@fault("vjp-differences")
def vjp_off_by_0_2_percent_in_float32():
    return unary(None, lambda x: 1.002 * jnp.cos(x)), VECTOR


@fault("vjp-differences")
def vjp_off_by_a_factor_two_at_1000_elements():
    return unary(None, lambda x: 2 * jnp.cos(x)), (numbers(1000),)


@fault("vjp-differences")
def vjp_off_in_one_of_10000_elements():
    return unary(None, lambda x: jnp.cos(x).at[7777].mul(1.5)), (numbers(10_000),)


@fault("vjp-differences")
def vjp_conjugates_at_a_complex_point():
    return unary(None, lambda z: 2 * jnp.conj(z), impl=lambda z: z * z), (numbers(3, dtype=np.complex64),)


@fault("vjp-differences")
def vjp_conjugates_at_a_real_point():
    return unary(None, lambda z: 2 * jnp.conj(z), impl=lambda z: z * z), (numbers(3).astype(np.complex64),)


@fault("vjp-differences")
def vjp_with_the_matrix_not_transposed():
    made = Primitive("wrong")
    made.def_impl(lambda a, x: a @ x)
    made.def_vjp(lambda primals: (made(*primals), lambda y_bar: (jnp.outer(y_bar, primals[1]), primals[0] @ y_bar)))
    return made, (numbers(4, 4), numbers(4, seed=1))


@fault("vjp-differences")
def vjp_without_the_sum_over_a_broadcast_operand():
    return product(None, lambda x, f, y_bar: (y_bar * f, y_bar[0] * x[0])), PAIR


@fault("vjp-differences")
def vjp_of_the_wrong_shape():
    return product(None, lambda x, f, y_bar: (y_bar * f, y_bar * x)), PAIR


@fault("vjp-differences")
def vjp_with_the_mean_of_the_cotangent():
    made = unary()
    made.def_vjp(lambda primals: (made(*primals), lambda y_bar: (jnp.mean(y_bar) * jnp.cos(*primals),)))
    return made, VECTOR


@fault("vjp-differences")
def vjp_that_forgets_a_result():
    made = Primitive("wrong")
    made.def_impl(lambda x: (jnp.sin(x), jnp.cos(x)))
    made.def_vjp(lambda primals: (made(*primals), lambda bars: (bars[0] * jnp.cos(primals[0]),)))
    return made, VECTOR


@fault("vjp-differences")
def vjp_with_stale_primals():
    made = unary()
    first: list[Any] = []

    def vjp(primals):
        if not first:
            first.append(np.asarray(primals[0]) * 0 + 1)
        return made(*primals), lambda y_bar: (y_bar * jnp.cos(jnp.asarray(first[0], y_bar.dtype)),)

    made.def_vjp(vjp)
    return made, VECTOR


@fault("dot-product")
def jvp_off_by_two_beside_a_right_vjp():
    return unary(lambda x: 2 * jnp.cos(x), jnp.cos), (numbers(1000),)


@fault("dot-product")
def rules_that_disagree_by_1e_4():
    return unary(jnp.cos, lambda x: 1.0001 * jnp.cos(x)), VECTOR


@fault("dot-product")
def transpose_that_conjugates():
    made = Primitive("wrong")
    made.def_host(lambda x: np.fft.fft(x).astype(x.dtype))
    made.def_abstract_eval(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype))
    made.def_transpose(lambda y_bar: jnp.conj(made(jnp.conj(y_bar))), linear="x")
    return made, (numbers(4, dtype=np.complex64),)


# ------------------------------------------------------------------------------------------------------------ linearity
@fault("jvp-linear")
def affine_jvp():
    made = unary()
    made.def_jvp(lambda primals, tangents: (made(*primals), tangents[0] * jnp.cos(*primals) + 1e-3))
    return made, VECTOR


@fault("jvp-linear")
def jvp_of_the_size_of_the_tangent():
    made = unary()
    made.def_jvp(lambda primals, tangents: (made(*primals), jnp.abs(tangents[0] * jnp.cos(*primals))))
    return made, VECTOR


@fault("vjp-linear")
def affine_backward_of_1e_3():
    made = unary()
    made.def_vjp(lambda primals: (made(*primals), lambda y_bar: (y_bar * jnp.cos(*primals) + 1e-3,)))
    return made, VECTOR


@fault("vjp-linear")
def affine_backward_of_1e_4_at_a_large_gradient():
    made = unary(impl=lambda x: 1000 * x)
    made.def_vjp(lambda primals: (made(*primals), lambda y_bar: (1000 * y_bar + 1e-4,)))
    return made, VECTOR


@fault("vjp-linear")
def clipped_backward_that_is_not_declared():
    made = unary(impl=lambda x: 1 * x)
    made.def_vjp(lambda primals: (made(*primals), lambda y_bar: (jnp.clip(y_bar, -3, 3),)))
    return made, VECTOR


# --------------------------------------------------------------------------------------------------------------- values
@fault("abstract-eval")
def abstract_eval_of_the_wrong_shape():
    made = Primitive("wrong")
    made.def_host(lambda x: np.sum(x, axis=0))
    made.def_abstract_eval(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype))
    return made, (numbers(3, 4),)


@fault("abstract-eval")
def abstract_eval_of_the_wrong_dtype():
    made = unary()
    made.def_abstract_eval(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float16))
    return made, VECTOR


@fault("primal")
def jvp_with_another_primal_output():
    made = unary()
    made.def_jvp(lambda primals, tangents: (jnp.cos(*primals), tangents[0] * jnp.cos(*primals)))
    return made, VECTOR


@fault("primal")
def vjp_with_a_primal_output_off_by_1e_4():
    made = unary()
    made.def_vjp(lambda primals: (1.0001 * jnp.sin(*primals), lambda y_bar: (y_bar * jnp.cos(*primals),)))
    return made, VECTOR


@fault("jit")
def jvp_that_differs_under_jit():
    def slope(x):
        return jnp.cos(x) * (1.01 if isinstance(x, jax.core.Tracer) else 1.0)

    return unary(slope), VECTOR


# -------------------------------------------------------------------------------------------------------------- zeros
@fault("jvp-zeros")
def jvp_that_takes_a_zero_for_a_one():
    def jvp(x, f, x_dot, f_dot):
        return x_dot * f + x * (1.0 if isinstance(f_dot, Zero) else f_dot)

    return product(jvp), PAIR


@fault("vjp-zeros")
def vjp_that_is_wrong_for_one_operand_alone():
    made = product()

    def vjp(primals, perturbed):
        x, f = primals
        factor = 1.0 if all(perturbed) else 2.0
        return made(x, f), lambda y_bar: (factor * y_bar * f, jnp.sum(y_bar * x))

    made.def_vjp(vjp)
    return made, PAIR


@fault("vjp-zeros")
def vjp_that_is_wrong_for_an_unused_result():
    made = Primitive("wrong")
    made.def_impl(lambda x: (jnp.sin(x), jnp.cos(x)))

    def vjp(primals):
        (x,) = primals

        def pullback(bars):
            factor = 2.0 if isinstance(bars[1], Zero) else 1.0
            return (factor * (bars[0] * jnp.cos(x) - bars[1] * jnp.sin(x)),)

        return made(x), pullback

    made.def_vjp(vjp)
    return made, VECTOR


# --------------------------------------------------------------------------------------------------------------- vmap
@fault("vmap")
def batch_rule_for_the_first_axis_alone():
    made = unary(impl=lambda x: jnp.cumsum(x, axis=0))
    made.def_batching(lambda axis, args, dims: (jnp.cumsum(args[0], axis=1), dims[0]))
    return made, (numbers(3, 3),)


@fault("vmap")
def batch_rule_that_takes_every_operand_for_batched():
    made = Primitive("wrong")
    made.def_impl(lambda x, f: x * f)

    def batch(axis, args, dims):
        x, f = (jnp.moveaxis(a, d, 0) if d is not None else a[None] for a, d in zip(args, dims, strict=True))
        return x * f[:1], 0

    made.def_batching(batch)
    return made, (numbers(4), numbers(4, seed=1))


@fault("implementations")
def kernel_that_computes_something_else():
    made = unary(jnp.cos)
    made.def_kernel(lambda x: jnp.sin(x) * (1 + 1e-4), platform=jax.default_backend())
    return made, VECTOR


@fault("vmap")
def elementwise_by_word_alone():
    return unary(impl=lambda x: jnp.cumsum(x, axis=0), batching="elementwise"), (numbers(4),)


def _inner() -> Primitive:
    """A right operation, 2 x, whose batch rule gives 3 x."""
    inner = Primitive("inner")
    inner.def_impl(lambda x: 2 * x)
    inner.def_batching(lambda axis, args, dims: (3 * args[0], dims[0]))
    inner.def_transpose(lambda y_bar: 2 * y_bar, linear="x")
    return inner


@fault("vmap-jvp")
def jvp_that_is_wrong_when_batched():
    inner = _inner()
    made = unary(impl=lambda x: 2 * x)
    made.def_jvp(lambda primals, tangents: (made(*primals), inner(tangents[0])))
    return made, VECTOR


@fault("vmap-vjp")
def vjp_that_is_wrong_when_batched():
    inner = _inner()
    made = unary(impl=lambda x: 2 * x)
    made.def_vjp(lambda primals: (made(*primals), lambda y_bar: (inner(y_bar),)))
    return made, VECTOR
