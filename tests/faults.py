"""Wrong primitives, and the question that must catch each. Every one is right but for what its name says."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.custom_partitioning import custom_partitioning

from jaxprim import Primitive, Zero


@dataclass(frozen=True)
class Fault:
    """One wrong primitive.

    Attributes:
        name: what is wrong with it.
        question: the question that must catch it.
        build: makes the primitive, or the function, example operands, and static params if there are any.
        reference: a right function, for the questions that ask with one.
    """

    name: str
    question: str
    build: Callable[[], tuple[Any, ...]]
    reference: Callable[..., Any] | None = None

    def __repr__(self) -> str:
        return self.name


FAULTS: list[Fault] = []


def fault(question: str, reference: Any = None) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    def add(build: Callable[[], Any]) -> Callable[[], Any]:
        FAULTS.append(Fault(build.__name__, question, build, reference))
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
def weak_type_of_an_array():
    made = Primitive("sine")
    made.def_impl(jnp.sin)
    made.def_abstract_eval(lambda x: jax.core.ShapedArray(x.shape, x.dtype, weak_type=True))
    return made, VECTOR


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


# ----------------------------------------------------------------------------------------------------------- elsewhere
@fault("elsewhere")
def slope_that_is_right_below_one():
    return unary(lambda x: jnp.where(x < 1, jnp.cos(x), 1.0)), (jnp.array([0.2, 0.5], jnp.float32),)


@fault("elsewhere")
def slope_beyond_the_grid():
    """Linear interpolation has no slope beyond its grid. The search in the grid is a loop."""
    grid, values, made = jnp.arange(4.0), jnp.array([1.0, 3.0, 2.0, 2.5]), Primitive("interpolate")
    made.def_impl(lambda x: jnp.interp(x, grid, values))
    made.def_partials(lambda y, x: (jnp.diff(values)[jnp.clip(jnp.searchsorted(grid, x) - 1, 0, 2)],))
    return made, (jnp.float32(1.3),)


@fault("zero-operands")
def value_over_operand():
    """The partials of a product by y / x: nan where an operand is zero."""
    made = Primitive("product")
    made.def_impl(lambda x, f: x * f)
    made.def_partials(lambda y, x, f: (y / x, y / f))
    return made, (numbers(4), numbers(4, seed=1))


@fault("zero-operands")
def no_derivative_where_the_value_is_zero():
    return unary(slope_vjp=lambda x: jnp.where(x == 0, 0.0, jnp.cos(x))), VECTOR


@fault("static-params")
def rule_for_one_value_of_a_param():
    made = Primitive("power")
    made.def_impl(lambda x, *, n: x**n)
    made.def_jvp(lambda primals, tangents, *, n: (made(*primals, n=n), 2 * primals[0] * tangents[0]))
    return made, VECTOR, {"n": 2}


@fault("static-params")
def param_that_is_no_part_of_a_cache_key():
    """Under jit the first value of a param serves all."""
    kept: list[Any] = []

    def function(x, *, scale):
        if not is_traced(x):
            kept.clear()
            return x * scale
        kept.append(scale)
        return x * kept[0]

    return function, VECTOR, {"scale": 2.0}


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
def kernel_through_float16():
    made = Primitive("sine")
    made.def_impl(jnp.sin)
    made.def_kernel(lambda x: jnp.sin(x.astype(jnp.float16)).astype(x.dtype), platform="cpu")
    return made, VECTOR


@fault("implementations")
def kernel_that_computes_something_else():
    made = unary(jnp.cos)
    made.def_kernel(lambda x: jnp.sin(x) * (1 + 1e-4), platform=jax.default_backend())
    return made, VECTOR


@fault("vmap")
def elementwise_by_word_alone():
    return unary(impl=lambda x: jnp.cumsum(x, axis=0), batching="elementwise"), (numbers(4),)


@fault("vmap")
def batch_rule_that_is_a_tenth_off_in_half_precision():
    """A tenth is within the rounding of a sum in bfloat16."""
    made = Primitive("matvec")
    made.def_impl(lambda a, x: a @ x)
    made.def_batching(lambda axis, args, dims: (1.1 * jax.vmap(jnp.matmul, dims)(*args), 0))
    return made, (numbers(3, 4).astype(jnp.bfloat16), numbers(4, seed=1).astype(jnp.bfloat16))


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


# ----------------------------------------------------------------------------------------------------------- repetition
def callback(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A host function as JAX users have it."""
    return lambda x: jax.pure_callback(function, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="sequential")


def right_until(condition: Callable[[Any], bool], factor: float = 1.01) -> Callable[[Any], Any]:
    """The sine, but for a factor where a condition of the operand holds."""
    return lambda x: jnp.sin(x) * jnp.asarray(factor if condition(x) else 1.0, x.dtype)


def is_traced(x: Any) -> bool:
    return isinstance(x, jax.core.Tracer)


def tired() -> Callable[[Any], Any]:
    """The sine the first time that it is traced after an eager call, something else the next times."""
    traced: list[Any] = []

    def function(x):
        traced.append(x) if is_traced(x) else traced.clear()
        return jnp.sin(x) * jnp.asarray(1.01 if len(traced) > 1 else 1.0, x.dtype)

    return function


@fault("deterministic")
def a_counter_in_a_host_function():
    calls: list[int] = []

    def count(x):
        calls.append(1)
        return (np.sin(x) + 1e-3 * len(calls)).astype(x.dtype)

    return callback(count), VECTOR


@fault("deterministic")
def noise_of_1e_4():
    rng = np.random.default_rng(0)
    return callback(lambda x: (np.sin(x) * (1 + 1e-4 * rng.normal(size=x.shape))).astype(x.dtype)), VECTOR


@fault("pure")
def kernel_that_writes_its_operand():
    def kernel(x):
        y = jnp.sin(x)
        if not is_traced(x):
            jax.block_until_ready(y)
            ctypes.memset(x.unsafe_buffer_pointer(), 0, x.dtype.itemsize)
        return y

    return kernel, (numbers(5),)  # of its own, as it writes it


@fault("pure")
def the_last_operand_is_remembered():
    last: list[Any] = [0.0]

    def kernel(x):
        before, last[0] = last[0], float(np.ravel(x)[0])
        return (np.sin(x) + 1e-2 * (before != last[0])).astype(x.dtype)

    return callback(kernel), VECTOR


@fault("pure")
def wrong_when_bound_twice_in_one_jit():
    return tired(), VECTOR


# -------------------------------------------------------------------------------------------------- higher derivatives
def constant(x: Any) -> Any:
    return jax.lax.stop_gradient(x)


@fault("second-order")
def jvp_that_cannot_be_differentiated():
    return unary(lambda x: constant(jnp.cos(x))), VECTOR


@fault("second-order")
def vjp_that_cannot_be_differentiated():
    return unary(None, lambda x: constant(jnp.cos(x))), VECTOR


@fault("second-order")
def second_derivative_off_by_1e_4():
    def slope(x):
        return jnp.cos(x) + 1e-4 * (constant(jnp.sin(x)) - jnp.sin(x)).astype(x.dtype)

    return unary(slope), VECTOR


@fault("second-order")
def second_derivative_wrong_where_the_result_is_zero():
    def slope(x):
        return jnp.where(x == 0, constant(1 + 2 * x), 1 + 2 * x)

    return unary(slope, impl=lambda x: x + x * x), (jnp.array([0.0, 1.0], np.float32),)


@fault("mixes")
def rules_that_agree_to_first_order_alone():
    return unary(jnp.cos, lambda x: constant(jnp.cos(x))), VECTOR


@fault("symmetry")
def jvp_with_one_half_of_the_mixed_derivative():
    return product(lambda x, f, x_dot, f_dot: x_dot * f + constant(x) * f_dot), PAIR


@fault("third-order")
def third_derivative_of_the_wrong_sign():
    cosine = jax.custom_jvp(jnp.cos)
    cosine.defjvp(lambda primals, tangents: (cosine(*primals), -constant(jnp.sin(*primals)) * tangents[0]))
    return unary(lambda x: cosine(x)), VECTOR


# ------------------------------------------------------------------------------------------------- values and settings
@fault("reference", jnp.sin)
def implementation_off_by_1e_3():
    return unary(impl=lambda x: 1.001 * jnp.sin(x)), VECTOR


@fault("reference", np.linalg.solve)
def solver_with_the_operands_exchanged():
    return lambda a, b: jnp.linalg.solve(jnp.swapaxes(a, -1, -2), b), (numbers(3, 3), numbers(3, seed=1))


@fault("disable-jit")
def wrong_with_jit_disabled():
    return right_until(lambda x: jax.config.jax_disable_jit), VECTOR


@fault("x64")
def wrong_with_64_bit_types():
    return right_until(lambda x: jax.config.jax_enable_x64), VECTOR


@fault("dtypes")
def bfloat16_takes_another_path():
    return right_until(lambda x: x.dtype == jnp.bfloat16, 1.2), VECTOR


@fault("dtypes")
def jvp_rule_of_another_function_in_float16():
    return unary(slope_jvp=lambda x: jnp.cos(x) * (1.2 if x.dtype == jnp.float16 else 1.0)), VECTOR


@fault("shapes")
def vjp_that_makes_an_array_of_a_number():
    made = unary()
    made.def_vjp(lambda primals: (made(*primals), lambda y_bar: (jnp.atleast_1d(y_bar * jnp.cos(*primals)),)))
    return made, VECTOR


@fault("accuracy", jnp.sin)
def a_series_with_too_few_terms():
    return lambda x: x - x**3 / 6 + x**5 / 120 - x**7 / 5040, VECTOR


@fault("accuracy", jnp.sin)
def a_nan_that_is_lost():
    return lambda x: jnp.nan_to_num(jnp.sin(x)), VECTOR


# ---------------------------------------------------------------------------------------------------- modes and types
@fault("linearize")
def jvp_that_is_wrong_for_a_tangent_that_is_not_known():
    sine = jax.custom_jvp(jnp.sin)

    def jvp(primals, tangents):
        (x,), (x_dot,) = primals, tangents
        return sine(x), x_dot * jnp.cos(x) * (1.01 if is_traced(x_dot) and not is_traced(x) else 1.0)

    sine.defjvp(jvp)
    return sine, VECTOR


@fault("holomorphic")
def jvp_of_the_conjugate_of_the_tangent():
    square = jax.custom_jvp(lambda z: z * z)
    square.defjvp(lambda primals, tangents: (square(*primals), 2 * primals[0] * jnp.conj(tangents[0])))
    return square, (numbers(3, dtype=np.complex64),)


@fault("tangent-types")
def complex_cotangent_of_a_real_operand():
    scale = jax.custom_vjp(lambda x, z: x * z)
    scale.defvjp(lambda x, z: (x * z, (x, z)), lambda r, ct: (ct * r[1], ct * r[0]))
    return scale, (numbers(3), numbers(3, dtype=np.complex64))


# ------------------------------------------------------------------------------------------------------- control flow
@fault("control-flow")
def wrong_from_the_second_place_in_a_program():
    return tired(), VECTOR


@fault("checkpoint")
def jvp_that_is_wrong_when_it_is_recomputed():
    sine = jax.custom_jvp(jnp.sin)
    sine.defjvp(lambda p, t: (sine(*p), t[0] * jnp.cos(*p) * (1.01 if is_traced(p[0]) else 1.0)))
    return sine, VECTOR


# ------------------------------------------------------------------------------------------------------------ batches
@fault("vmap-patterns")
def batch_rule_that_takes_a_middle_axis_for_the_first():
    made = Primitive("matvec")
    made.def_impl(lambda a, x: a @ x)

    def rule(axis, args, dims):
        out = jax.vmap(jnp.matmul, dims)(*args)
        return (1.5 * out if dims[0] == 1 else out), 0

    made.def_batching(rule)
    return made, (numbers(3, 4), numbers(4, seed=1))


@fault("vmap-sizes")
def batch_rule_that_drops_an_axis_of_size_one():
    made = unary()
    made.def_batching(lambda axis, args, dims: (jnp.sin(args[0]) * (2.0 if axis.size == 1 else 1.0), dims[0]))
    return made, VECTOR


@fault("vmap-nested")
def batch_rule_of_a_batch_rule():
    inner = _inner()
    made = unary(impl=lambda x: 2 * x)
    made.def_batching(lambda axis, args, dims: (inner(args[0]), dims[0]))
    return made, VECTOR


@fault("vmap-patterns")
def batch_rule_for_one_operand_at_the_end():
    made = Primitive("wrong")
    made.def_impl(lambda x, f: x * f)

    def batch(axis, args, dims):
        x, f = args
        if dims == (None, 1):
            return x[:, None] * f * 2, 1
        x, f = (jnp.moveaxis(a, d, 0) if d is not None else a[None] for a, d in zip(args, dims, strict=True))
        return x * f, 0

    made.def_batching(batch)
    return made, (numbers(4), numbers(4, seed=1))


# -------------------------------------------------------------------------------------------------------------- scale
def ruled(impl: Callable[..., Any], rule: str, **axes: str) -> Primitive:
    """An operation with a sharding rule."""
    made = Primitive("wrong")
    made.def_impl(lambda *operands: impl(*operands))
    made.def_sharding(rule, **axes)
    return made


@fault("split")
def running_sum_whose_axis_may_be_split():
    return ruled(lambda x: jnp.cumsum(x, 0), "n -> n"), (numbers(4),)


@fault("split")
def maximum_declared_as_a_sum():
    return ruled(lambda x: jnp.max(x, 0), "... b n -> n", reduced="... b"), (numbers(2, 3),)


@fault("split")
def mean_over_an_axis_that_may_be_split():
    return ruled(lambda x: x - jnp.mean(x, 0), "b n -> b n"), (numbers(4, 3),)


@fault("split")
def numbers_that_depend_on_an_even_position():
    return ruled(lambda x: x.at[::2].multiply(2.0), "n -> n"), (numbers(8),)


@fault("split")
def one_result_of_two_is_no_sum():
    return ruled(lambda x, g: (x * g, jnp.max(x * g, 0)), "b n, b n -> b n, n", reduced="b"), (numbers(4, 3),) * 2


@fault("sharded-jit")
def partition_rule_of_another_function():
    @partial(custom_partitioning)
    def sine(x):
        return jnp.sin(x)

    def partition(mesh, operands, result):
        sharding = operands[0].sharding
        return mesh, lambda x: 1.01 * jnp.sin(x), sharding, (sharding,)

    sine.def_partition(
        partition,
        infer_sharding_from_operands=lambda mesh, operands, result: operands[0].sharding,
        sharding_rule="i -> i",
    )
    return sine, (numbers(4),)


@fault("communication")
def host_function_that_a_pullback_calls_as_it_is():
    made = ruled(jnp.sin, "b n -> b n")
    slope = lambda x: jax.pure_callback(np.cos, jax.ShapeDtypeStruct(x.shape, x.dtype), x)
    made.def_vjp(lambda primals: (made(*primals), lambda y_bar: (y_bar * slope(*primals),)))
    return made, (numbers(4, 3),)


@fault("communication")
def pullback_that_sums_more_than_a_cotangent():
    made = ruled(lambda x, w: x * w[None], "b n, n -> b n")
    # A product of matrices, summed over all rows, for its diagonal.
    made.def_vjp(lambda primals: (made(*primals), lambda g: (g * primals[1][None], jnp.diagonal(primals[0].T @ g))))
    return made, (numbers(4, 3), numbers(3))


@fault("communication")
def jvp_that_sums_more_than_a_tangent():
    made = ruled(lambda x: jnp.sum(x * x, 0), "b n -> n", reduced="b")
    made.def_jvp(lambda primals, tangents: (made(*primals), 2 * jnp.diagonal(primals[0].T @ tangents[0])))
    return made, (numbers(4, 3),)


@fault("communication")
def pullback_whose_kernel_runs_on_the_whole_on_each_device():
    """Nothing is gathered: the cotangent is on each device."""
    made = ruled(lambda x: jnp.sum(x, 0), "b n -> n", reduced="b")

    def whole(g):
        q, r = jnp.linalg.qr(jnp.broadcast_to(g, (4, 3)))
        return q @ r

    made.def_jvp(lambda primals, tangents: (made(*primals), made(*tangents)))
    made.def_vjp(lambda primals: (made(*primals), lambda g: (whole(g),)))
    return made, (numbers(4, 3),)


@fault("explicit-mesh")
def wrong_where_types_have_a_sharding():
    return right_until(lambda x: "@" in str(jax.typeof(x))), (numbers(4),)


@fault("shard-map")
def wrong_on_one_of_several_devices():
    return right_until(lambda x: "{V:" in str(jax.typeof(x))), VECTOR


@fault("export")
def wrong_in_a_program_that_is_written():
    return right_until(is_traced), VECTOR


# ----------------------------------------------------------------------------------------------------- implicit operations
def linear_system(matrix: Any, solved: Any = None, **options: Any) -> Primitive:
    """y with A y = b, by LAPACK, and how its derivative solves linear systems."""
    made = Primitive("wrong")
    made.def_impl(lambda b: jnp.linalg.solve(jnp.asarray(matrix if solved is None else solved, b.dtype), b))
    made.def_implicit(lambda y, b: jnp.asarray(matrix, y.dtype) @ y - b, **options)
    return made


NOT_SYMMETRIC = np.array([[3.0, 1.0, 0.0], [0.0, 2.0, 0.5], [1.0, 0.0, 4.0]])
HERMITIAN = np.array([[3.0, 1j], [-1j, 2.0]])


def by_lapack(matvec: Any, b: Any) -> Any:
    is_complex = jnp.iscomplexobj(b)
    return jnp.linalg.solve(jax.jacfwd(matvec, holomorphic=is_complex)(b), b)


@fault("equation")
def equation_of_another_operation():
    return linear_system(NOT_SYMMETRIC, 1.001 * NOT_SYMMETRIC), (numbers(3),)


@fault("equation")
def solver_that_stops_early():
    """Three steps of Newton's method for y^3 + y = x."""
    made = Primitive("wrong")

    @made.def_impl
    def _(x):
        y = x
        for _ in range(3):
            y = y - (y**3 + y - x) / (3 * y**2 + 1)
        return y

    made.def_implicit(lambda y, x: y**3 + y - x, solve="diagonal")
    return made, (jnp.array([0.5, 2.0, -3.0]),)


@fault("equation")
def minimum_with_a_sign_lost():
    made = Primitive("wrong")
    made.def_impl(lambda b: b / 2)
    made.def_implicit(minimum=lambda y, b: jnp.sum(y * y + b * y))
    return made, VECTOR


@fault("linear-solve")
def equation_that_is_not_diagonal():
    return linear_system(NOT_SYMMETRIC, solve="diagonal"), (numbers(3),)


@fault("linear-solve")
def system_that_is_not_symmetric():
    return linear_system(NOT_SYMMETRIC, solve="cg"), (numbers(3),)


@fault("linear-solve")
def transposed_solve_that_does_not_transpose():
    matrix = jnp.asarray(NOT_SYMMETRIC, jnp.float32)
    solve = lambda matvec, b: jnp.linalg.solve(matrix, b)
    return linear_system(NOT_SYMMETRIC, solve=solve, transpose_solve=solve), (numbers(3),)


@fault("linear-solve")
def hermitian_system_taken_for_symmetric():
    solve = lambda matvec, b: jnp.linalg.solve(jnp.asarray(HERMITIAN, b.dtype), b)
    return linear_system(HERMITIAN, solve=solve, transpose_solve=solve), (numbers(2, dtype=np.complex64),)


@fault("linear-solve")
def residual_that_is_not_holomorphic():
    """conj(y) |y| = z |z| has y = conj(z)."""
    made = Primitive("wrong")
    made.def_impl(jnp.conj)
    residual = lambda y, z: jnp.conj(y) * jnp.abs(y) - z * jnp.abs(z)
    made.def_implicit(residual, solve=by_lapack, transpose_solve=by_lapack)
    return made, (numbers(2, dtype=np.complex64),)


@fault("linear-solve")
def singular_jacobian():
    """y^2 = x at x = 0."""
    made = Primitive("wrong")
    made.def_impl(jnp.sqrt)
    made.def_implicit(lambda y, x: y * y - x)
    return made, (jnp.array([1.0, 0.0]),)
