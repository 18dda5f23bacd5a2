"""Function operands that are none, that are called with something else, or that do more than compute."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim import BadCall, Primitive, RuleWrong
from messages.case import case


def twice_of(call=lambda f, x: f(f(x))):
    """f(f(x)), elementwise."""
    twice = Primitive("twice")

    @twice.def_impl
    def impl(f, x):
        return call(f, x)

    return twice


def declared(f, x):
    return (x,)


def made(call=lambda f, x: f(f(x))):
    twice = twice_of(call)
    twice.def_function("f", declared)
    return twice


DOUBLE = [4, 8, 12]


@case(
    BadCall,
    """
    twice: operand 'f' is not a function.
      got:      a float
      expected: a function of JAX code
      rule:     declared at FILE:LINE
      write:    twice(lambda x: ..., ...)
    """,
)
def no_function():
    twice = made()
    yield lambda x: twice(2.0, x)
    yield lambda x: twice(lambda x: 2 * x, x), DOUBLE


@case(
    BadCall,
    """
    twice: operand 'f' does not accept the arguments it is called with.
      got:      scale(x, factor)
      expected: a function of (float32[3])
      rule:     scale at FILE:LINE
      write:    lambda x0: ...
    """,
)
def another_arity():
    twice = made()

    def scale(x, factor):
        return x * factor

    yield lambda x: twice(scale, x)
    yield lambda x: twice(lambda x0: scale(x0, 2), x), DOUBLE


@case(
    RuleWrong,
    """
    twice: operand 'f' is called with other arguments than declared.
      got:      (float32[])
      expected: (float32[3])
      why:      a function is traced when the operation is applied, at the arguments that were declared
      rule:     declared at FILE:LINE
      write:    return (jax.ShapeDtypeStruct((), 'float32'),)  # or a list of such tuples, if it is called in several ways
    """,
)
def called_with_another_shape():
    twice = made(lambda f, x: f(f(x[0])) * x / x[0])
    yield lambda x: twice(lambda x: 2 * x, x)

    @twice.def_function("f")
    def _(f, x):
        return (jax.ShapeDtypeStruct((), 'float32'),)  # fmt: skip

    yield lambda x: twice(lambda x: 2 * x, x), DOUBLE


@case(
    RuleWrong,
    """
    twice: operand 'f' has side effects.
      got:      IO
      expected: a pure function (jax.debug.print is allowed)
      why:      operations are pure: JAX may drop, merge or repeat them
      rule:     noted at FILE:LINE
      write:    return result  # from arrays that it is given, or closes over
    """,
)
def with_side_effects():
    twice = made()

    def noted(x):
        return jax.experimental.io_callback(lambda x: 2 * x, x, x)

    yield lambda x: twice(noted, x)

    def pure(x):
        result = 2 * x
        return result

    yield lambda x: twice(pure, x), DOUBLE


@case(
    RuleWrong,
    """
    twice: operand 'f' returned something that is not an array.
      got:      a str
      expected: arrays, in any pytree
      rule:     named at FILE:LINE
      write:    return jnp.asarray(result)
    """,
)
def returns_no_array():
    twice = made()

    def named(x):
        return "2 x"

    yield lambda x: twice(named, x)

    def numbers(x):
        result = 2 * x
        return jnp.asarray(result)

    yield lambda x: twice(numbers, x), DOUBLE


@case(
    RuleWrong,
    """
    twice: operand 'f' needs the value of an argument, but the argument is traced.
      got:      a function that branches on a value, or makes a shape of it
      expected: arguments used only as data
      why:      the operation is compiled once for all values
      rule:     branching at FILE:LINE
      write:    y = jax.lax.cond(predicate, f, g, x)  # or jnp.where(predicate, y1, y2)
    """,
)
def branches_on_a_value():
    twice = made()

    def branching(x):
        return 2 * x if x[0] > 0 else x

    yield lambda x: twice(branching, x)

    def f(x):
        return 2 * x

    def g(x):
        return x

    def conditional(x):
        predicate = x[0] > 0
        y = jax.lax.cond(predicate, f, g, x)
        return y

    yield lambda x: twice(conditional, x), DOUBLE


@case(
    RuleWrong,
    """
    twice: the declaration of a function operand must return the arguments of 'f'.
      got:      one array, float32[3]
      expected: a tuple of arrays or types, or a list of such tuples if it is called in several ways
      rule:     bare at FILE:LINE
      write:    return (x,)
    """,
)
def declared_without_a_tuple():
    twice = twice_of()

    @twice.def_function("f")
    def bare(f, x):
        return x

    yield lambda x: twice(lambda x: 2 * x, x)

    @twice.def_function("f")
    def _(f, x):
        return (x,)

    yield lambda x: twice(lambda x: 2 * x, x), DOUBLE


@case(
    BadCall,
    """
    twice: def_function names no operand.
      got:      'g'
      expected: one of f, x
      rule:     declared at FILE:LINE
      write:    @twice.def_function('f')
    """,
)
def names_no_operand():
    twice = twice_of()
    twice.def_function("g", declared)
    yield lambda x: twice(lambda x: 2 * x, x)
    twice = twice_of()

    @twice.def_function('f')  # fmt: skip
    def _(f, x):
        return (x,)

    yield lambda x: twice(lambda x: 2 * x, x), DOUBLE


@case(
    BadCall,
    """
    twice: def_function needs the name of an operand.
      got:      an int
      expected: a string
      defined:  FILE:LINE
      write:    @twice.def_function('f')
    """,
)
def without_a_name():
    twice = twice_of()
    yield lambda x: twice.def_function(0)

    @twice.def_function('f')  # fmt: skip
    def _(f, x):
        return (x,)

    yield lambda x: twice(lambda x: 2 * x, x), DOUBLE


@case(
    BadCall,
    """
    twice: the host function cannot call the function operand 'f'.
      got:      a host function, and def_function('f')
      expected: an impl, which JAX traces
      why:      'f' is JAX code, which a host function cannot run
      rule:     on_host at FILE:LINE
      write:    @twice.def_impl
    """,
)
def of_a_host_function():
    twice = Primitive("twice")

    def on_host(f, x):
        return np.asarray(f(f(x)))

    twice.def_host(on_host)
    yield lambda x: twice.def_function("f", declared)
    twice = Primitive("twice")
    twice.def_function("f", declared)

    @twice.def_impl
    def _(f, x):
        return f(f(x))

    yield lambda x: twice(lambda x: 2 * x, x), DOUBLE


@case(
    RuleWrong,
    """
    twice: operand 'f' closes over another type than it was traced with.
      got:      a Zero, float32[]
      expected: float32[]
      why:      tangents and cotangents of a function are no functions
      rule:     declared at FILE:LINE
      write:    jax.jvp(lambda f, x: f(x), (f, x), (f_dot, x_dot))  # f_dot is for JAX, and is not called
    """,
)
def calls_a_tangent():
    def rule(primals, tangents):
        (f, x), (f_dot, _) = primals, tangents
        return twice(f, x), f_dot(x)

    twice = made()
    twice.def_jvp(rule)
    scale = jnp.float32(2)
    yield lambda x: jax.jvp(lambda x: twice(lambda y: scale * y, x), (x,), (x,))[1]

    @twice.def_jvp
    def _(primals, tangents):
        (f, x), (f_dot, x_dot) = primals, tangents
        f_dot = jax.tree.map(jnp.zeros_like, f)
        x_dot = x_dot + jnp.zeros_like(x)
        _, inner = jax.jvp(lambda f, x: f(x), (f, x), (f_dot, x_dot))
        return twice(f, x), jax.jvp(lambda f, x: f(x), (f, f(x)), (f_dot, inner))[1]

    yield lambda x: jax.jvp(lambda x: twice(lambda y: scale * y, x), (x,), (x,))[1], DOUBLE


@case(
    RuleWrong,
    """
    twice: the VJP rule returned cotangents with a different structure than the operands.
      got:      one array, float32[3], at [0]
      expected: a Function
      why:      None stands for a zero
      rule:     rule at FILE:LINE
      write:    return f_bar, x_bar
    """,
)
def an_array_for_the_cotangent():
    def rule(primals):
        return twice(*primals), lambda y_bar: (y_bar, y_bar)

    twice = made()
    twice.def_vjp(rule)
    scale = jnp.float32(2)
    yield jax.grad(lambda x: jnp.sum(twice(lambda y: scale * y, x)))

    @twice.def_vjp
    def _(primals):
        def pullback(y_bar):
            f_bar, x_bar = jax.vjp(lambda f, x: f(f(x)), *primals)[1](y_bar)
            return f_bar, x_bar

        return twice(*primals), pullback

    yield jax.grad(lambda x: jnp.sum(twice(lambda y: scale * y, x))), [4, 4, 4]
