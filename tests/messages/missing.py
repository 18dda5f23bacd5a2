"""Rules that are missing, at the moment they are needed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim import Primitive, RuleMissing
from messages.case import case


def host_square(name):
    """An operation that JAX cannot see into."""
    square = Primitive(name)

    @square.def_host
    def host(x):
        return x * x

    @square.def_abstract_eval
    def types(x):
        return jax.ShapeDtypeStruct(x.shape, x.dtype)

    return square


@case(
    RuleMissing,
    """
    square: it has no implementation.
      got:      no rules
      expected: one of def_impl, def_host, def_kernel, or def_abstract_eval with def_lowering
      defined:  FILE:LINE
      write:    @square.def_impl
    """,
)
def no_implementation():
    square = Primitive("square")
    yield lambda x: square(x)

    @square.def_impl
    def impl(x):
        return x * x

    yield lambda x: square(x), [1, 4, 9]


@case(
    RuleMissing,
    """
    square: its abstract eval is missing, so the type of its result is not known.
      got:      the rule host
      expected: an abstract eval, or an impl
      why:      it can be derived from an impl, which JAX can trace, unlike a host function
      rule:     host at FILE:LINE
      write:    @square.def_abstract_eval  # def _(x): return jax.ShapeDtypeStruct(x.shape, x.dtype)
    """,
)
def no_abstract_eval():
    square = Primitive("square")

    @square.def_host
    def host(x):
        return x * x

    yield lambda x: square(x)

    @square.def_abstract_eval
    def types(x):
        return jax.ShapeDtypeStruct(x.shape, x.dtype)

    yield lambda x: square(x), [1, 4, 9]


@case(
    RuleMissing,
    """
    square: forward-mode differentiation (jvp) needs a rule that is missing.
      got:      the rules host, abstract_eval
      expected: a JVP rule
      why:      it could be derived from transpose, vjp or impl; none of them is given, and a host function is opaque to JAX
      rule:     host at FILE:LINE
      write:    @square.def_jvp  # def rule(primals, tangents): return primals_out, tangents_out
    """,
)
def no_jvp():
    square = Primitive("square")

    @square.def_host
    def host(x):
        return x * x

    @square.def_abstract_eval
    def types(x):
        return jax.ShapeDtypeStruct(x.shape, x.dtype)

    yield lambda x: jax.jvp(square, (x,), (jnp.ones_like(x),))

    @square.def_jvp
    def jvp(primals, tangents):
        (x,), (x_dot,) = primals, tangents
        return square(x), 2 * x * x_dot

    yield lambda x: jax.jvp(square, (x,), (jnp.ones_like(x),)), ([1, 4, 9], [2, 4, 6])


@case(
    RuleMissing,
    """
    square: reverse-mode differentiation (vjp, grad) needs a rule that is missing.
      got:      the rules host, abstract_eval
      expected: a VJP rule
      why:      it could be derived from jvp, transpose or impl; none of them is given, and a host function is opaque to JAX
      rule:     host at FILE:LINE
      write:    @square.def_vjp  # def rule(primals): return primals_out, pullback
    """,
)
def no_vjp():
    square = Primitive("square")

    @square.def_host
    def host(x):
        return x * x

    @square.def_abstract_eval
    def types(x):
        return jax.ShapeDtypeStruct(x.shape, x.dtype)

    yield jax.grad(lambda x: jnp.sum(square(x)))

    @square.def_vjp
    def vjp(primals):
        (x,) = primals
        return square(x), lambda y_bar: 2 * x * y_bar

    yield jax.grad(lambda x: jnp.sum(square(x))), [2, 4, 6]


@case(
    RuleMissing,
    """
    square: its JVP rule is missing, and cannot be derived from the VJP rule.
      got:      the rules host, abstract_eval, vjp
      expected: a JVP rule
      why:      forward mode transposes the pullback, and JAX cannot transpose it (backward: it is transposed with respect to x, but has no transpose rule.)
      rule:     vjp at FILE:LINE
      write:    @square.def_jvp
    """,
)
def opaque_backward_and_no_jvp():
    square = host_square("square")
    backward = host_square("backward")

    @square.def_vjp
    def vjp(primals):
        (x,) = primals
        return square(x), lambda y_bar: backward(x + y_bar)

    yield lambda x: jax.jvp(square, (x,), (jnp.ones_like(x),))

    @square.def_jvp
    def jvp(primals, tangents):
        (x,), (x_dot,) = primals, tangents
        return square(x), 2 * x * x_dot

    yield lambda x: jax.jvp(square, (x,), (jnp.ones_like(x),)), ([1, 4, 9], [2, 4, 6])


@case(
    RuleMissing,
    """
    square: its VJP rule is missing, and cannot be derived from the JVP rule.
      got:      the rules host, abstract_eval, jvp
      expected: a VJP rule
      why:      reverse mode transposes the tangent, and JAX cannot transpose it (doubled: it is transposed with respect to x_dot, but has no transpose rule.)
      rule:     jvp at FILE:LINE
      write:    @square.def_vjp
    """,
)
def opaque_tangent_and_no_vjp():
    square = host_square("square")
    doubled = Primitive("doubled")

    @doubled.def_host
    def host(x, x_dot):
        return 2 * x * x_dot

    @doubled.def_abstract_eval
    def types(x, x_dot):
        return jax.ShapeDtypeStruct(x.shape, x.dtype)

    @square.def_jvp
    def jvp(primals, tangents):
        (x,), (x_dot,) = primals, tangents
        return square(x), doubled(x, x_dot)

    yield jax.grad(lambda x: jnp.sum(square(x)))

    @square.def_vjp
    def vjp(primals):
        (x,) = primals
        return square(x), lambda y_bar: doubled(x, y_bar)

    yield jax.grad(lambda x: jnp.sum(square(x))), [2, 4, 6]


@case(
    RuleMissing,
    """
    square: its VJP rule is missing, and cannot be derived from the JVP rule.
      got:      the rules host, abstract_eval, jvp
      expected: a VJP rule
      why:      reverse mode transposes the tangent, and JAX cannot transpose it (Pure callbacks do not support transpose. Please use `jax.custom_vjp` to use callbacks while taking gradients.)
      rule:     jvp at FILE:LINE
      write:    @square.def_vjp
    """,
)
def tangent_without_a_transpose():
    square = host_square("square")

    @square.def_jvp
    def jvp(primals, tangents):
        (x,), (x_dot,) = primals, tangents
        return square(x), jax.pure_callback(lambda x, t: 2 * x * t, x, x, x_dot)

    yield jax.grad(lambda x: jnp.sum(square(x)))

    @square.def_vjp
    def vjp(primals):
        (x,) = primals
        return square(x), lambda y_bar: 2 * x * y_bar

    yield jax.grad(lambda x: jnp.sum(square(x))), [2, 4, 6]


@case(
    RuleMissing,
    """
    square: its VJP rule is missing, and cannot be derived from the JVP rule.
      got:      the rules host, abstract_eval, jvp
      expected: a VJP rule
      why:      reverse mode transposes the tangent, and JAX cannot transpose it (Transpose rule (for reverse-mode differentiation) for 'sin' not implemented)
      rule:     jvp at FILE:LINE
      write:    @square.def_vjp
    """,
)
def nonlinear_tangent():
    square = host_square("square")

    @square.def_jvp
    def jvp(primals, tangents):
        (x,), (x_dot,) = primals, tangents
        return square(x), jnp.sin(2 * x * x_dot)

    yield jax.grad(lambda x: jnp.sum(square(x)))

    @square.def_vjp
    def vjp(primals):
        (x,) = primals
        return square(x), lambda y_bar: 2 * x * y_bar

    yield jax.grad(lambda x: jnp.sum(square(x))), [2, 4, 6]


@case(
    RuleMissing,
    """
    double: it is transposed with respect to x, but has no transpose rule.
      got:      the rules host, abstract_eval
      expected: a transpose rule, linear in x
      why:      linear_transpose was called, or a rule applied it to a tangent; JAX could transpose an impl instead, but there is none
      rule:     host at FILE:LINE
      write:    @double.def_transpose(linear=('x',))
    """,
)
def no_transpose():
    double = Primitive("double")

    @double.def_host
    def host(x):
        return 2 * x

    @double.def_abstract_eval
    def types(x):
        return jax.ShapeDtypeStruct(x.shape, x.dtype)

    yield lambda x: jax.linear_transpose(double, x)(x)

    @double.def_transpose(linear=("x",))
    def transpose(y_bar):
        return double(y_bar)

    yield lambda x: jax.linear_transpose(double, x)(x), ([2, 4, 6],)


@case(
    RuleMissing,
    """
    scale: it is transposed with respect to factor, but is declared linear in x only.
      got:      the rules host, abstract_eval, transpose
      expected: a transpose rule, linear in factor
      why:      linear_transpose was called, or a rule applied it to a tangent; JAX could transpose an impl instead, but there is none
      rule:     host at FILE:LINE
      write:    @scale.def_transpose(linear=('factor',))
    """,
)
def no_transpose_in_that_operand():
    scale = Primitive("scale")

    @scale.def_host
    def host(x, factor):
        return x * factor

    @scale.def_abstract_eval
    def types(x, factor):
        return jax.ShapeDtypeStruct(x.shape, x.dtype)

    @scale.def_transpose(linear="x")
    def transpose(y_bar, factor):
        return scale(y_bar, factor)

    yield lambda x: jax.linear_transpose(lambda factor: scale(x, factor), np.float32(2.0))(x)

    @scale.def_transpose(linear=("factor",))
    def corrected(y_bar, x):
        return jnp.sum(scale(x, 1.0) * y_bar)

    yield lambda x: jax.linear_transpose(lambda factor: scale(x, factor), np.float32(2.0))(x), (14,)


@case(
    RuleMissing,
    """
    scale: forward-mode differentiation (jvp) needs a rule that is missing.
      got:      the rules host, abstract_eval, transpose
      expected: a JVP rule
      why:      factor is perturbed, but the transpose rule only gives the derivative in x
      rule:     host at FILE:LINE
      write:    @scale.def_jvp  # def rule(primals, tangents): return primals_out, tangents_out
    """,
)
def not_linear_in_that_operand():
    """Declared linear in x; differentiated with respect to factor."""
    scale = Primitive("scale")

    @scale.def_host
    def host(x, factor):
        return x * factor

    @scale.def_abstract_eval
    def types(x, factor):
        return jax.ShapeDtypeStruct(x.shape, x.dtype)

    @scale.def_transpose(linear="x")
    def transpose(y_bar, factor):
        return scale(y_bar, factor)

    yield lambda x: jax.grad(lambda factor: jnp.sum(scale(x, factor)))(2.0)

    @scale.def_jvp
    def jvp(primals, tangents):
        (x, factor), (x_dot, factor_dot) = primals, tangents
        return scale(x, factor), x_dot * factor + x * factor_dot

    yield lambda x: jax.grad(lambda factor: jnp.sum(scale(x, factor)))(2.0), 6


@case(
    RuleMissing,
    """
    square: not registered for cpu; registered: cuda.
      got:      the rule kernel[cuda]
      expected: a kernel for 'cpu', or an impl as fallback
      rule:     kernel at FILE:LINE
      write:    @square.def_impl
    """,
)
def no_implementation_for_platform():
    square = Primitive("square")

    @square.def_kernel(platform="cuda")
    def kernel(x):
        return x * x

    yield lambda x: square(x)

    @square.def_impl
    def impl(x):
        return x * x

    yield lambda x: square(x), [1, 4, 9]


@case(
    RuleMissing,
    """
    square: not registered for cpu; registered: none.
      got:      the rule abstract_eval
      expected: a kernel for 'cpu', or an impl as fallback
      rule:     types at FILE:LINE
      write:    @square.def_impl
    """,
)
def abstract_eval_alone():
    square = Primitive("square")

    @square.def_abstract_eval
    def types(x):
        return jax.ShapeDtypeStruct(x.shape, x.dtype)

    yield lambda x: square(x)

    @square.def_impl
    def impl(x):
        return x * x

    yield lambda x: square(x), [1, 4, 9]


@case(
    RuleMissing,
    """
    scale: it is not differentiable with respect to operand 'factor'.
      got:      rules for x
      expected: a rule for factor, or factor=None if its derivative is zero
      why:      def_jvp was given one rule per operand
      rule:     by_x at FILE:LINE
      write:    scale.def_jvp(x=by_x, factor=rule)
    """,
)
def no_jvp_for_operand():
    scale = Primitive("scale")

    @scale.def_impl
    def impl(x, factor):
        return x * factor

    def by_x(x_dot, y, x, factor):
        return x_dot * factor

    scale.def_jvp(x=by_x)
    yield lambda x: jax.jvp(lambda factor: scale(x, factor), (2.0,), (1.0,))

    def rule(factor_dot, y, x, factor):
        return x * factor_dot

    scale.def_jvp(x=by_x, factor=rule)
    yield lambda x: jax.jvp(lambda factor: scale(x, factor), (2.0,), (1.0,)), ([2, 4, 6], [1, 2, 3])


@case(
    RuleMissing,
    """
    scale: it is not differentiable with respect to operand 'factor'.
      got:      rules for x
      expected: a rule for factor, or factor=None if its derivative is zero
      why:      def_vjp was given one rule per operand
      rule:     by_x at FILE:LINE
      write:    scale.def_vjp(x=by_x, factor=rule)
    """,
)
def no_vjp_for_operand():
    scale = Primitive("scale")

    @scale.def_impl
    def impl(x, factor):
        return x * factor

    def by_x(y_bar, y, x, factor):
        return y_bar * factor

    scale.def_vjp(x=by_x)
    yield lambda x: jax.grad(lambda factor: jnp.sum(scale(x, factor)))(2.0)

    def rule(y_bar, y, x, factor):
        return jnp.sum(y_bar * x)

    scale.def_vjp(x=by_x, factor=rule)
    yield lambda x: jax.grad(lambda factor: jnp.sum(scale(x, factor)))(2.0), 6


@case(
    RuleMissing,
    """
    slope: forward-mode differentiation (jvp) needs a rule that is missing.
      got:      the rules host, abstract_eval
      expected: a JVP rule
      why:      it could be derived from transpose, vjp or impl; none of them is given, and a host function is opaque to JAX
      rule:     host at FILE:LINE
      write:    @slope.def_jvp  # def rule(primals, tangents): return primals_out, tangents_out
    """,
)
def second_derivative_of_an_opaque_rule():
    """The VJP rule calls a host function on what it differentiates by next."""
    square = host_square("square")
    slope = Primitive("slope")

    @slope.def_host
    def host(x):
        return 2 * x

    @slope.def_abstract_eval
    def types(x):
        return jax.ShapeDtypeStruct(x.shape, x.dtype)

    @square.def_vjp
    def vjp(primals):
        (x,) = primals
        return square(x), lambda y_bar: slope(x) * y_bar

    first = jax.grad(lambda x: jnp.sum(square(x)))
    yield jax.grad(lambda x: jnp.sum(first(x)))

    @slope.def_jvp
    def slope_jvp(primals, tangents):
        return slope(*primals), 2 * tangents[0]

    yield jax.grad(lambda x: jnp.sum(first(x))), [2, 2, 2]
