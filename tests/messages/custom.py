"""`custom_vjp` and `custom_jvp` that JAX would take, or refuse too."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

import jaxprim
from jaxprim import BadCall, RuleMissing, RuleWrong, custom_jvp, custom_vjp
from messages.case import case


def with_rule(f):
    f.defvjp(lambda x: (f(x), x), lambda x, ct: (2 * ct * x,))
    return f


@case(
    RuleMissing,
    """
    square: it has no derivative rule.
      got:      a custom_vjp without defvjp
      expected: a rule before the first call
      rule:     square at FILE:LINE
      write:    square.defvjp(fwd, bwd)
    """,
)
def custom_without_a_rule():
    @custom_vjp
    def square(x):
        return x * x

    yield square

    def fwd(x):
        return square(x), x

    def bwd(x, ct):
        return (2 * ct * x,)

    square.defvjp(fwd, bwd)
    yield square, [1, 4, 9]


@case(
    BadCall,
    """
    scaled: the value 'theta', which it closes over, is differentiated.
      got:      theta: float32[], read by scaled at FILE:LINE
      expected: an argument, for which the rule returns a derivative
      why:      the rule knows the derivatives of the arguments only, as with jax.custom_jvp
      rule:     rule at FILE:LINE
      write:    scaled(x, theta)  # one more argument of the function and of its rule
    """,
)
def custom_differentiated_closure():
    def loss(theta, x):
        @custom_jvp
        def scaled(x):
            return theta * x

        @scaled.defjvp
        def rule(primals, tangents):
            return scaled(*primals), theta * tangents[0]

        return jnp.sum(scaled(x))

    yield lambda x: jax.grad(loss)(2.0, x)

    @custom_jvp
    def scaled(x, theta):
        return theta * x

    scaled.defjvps(lambda x_dot, y, x, theta: theta * x_dot, lambda theta_dot, y, x, theta: theta_dot * x)
    yield lambda x: jax.grad(lambda theta: jnp.sum(scaled(x, theta)))(2.0), 6


@case(
    BadCall,
    """
    scaled: a non-differentiable argument is differentiated.
      got:      a derivative in theta
      expected: a derivative in x
      why:      the rule returns no cotangent for it
      rule:     fwd at FILE:LINE
      write:    jax.lax.stop_gradient(theta)  # or without nondiff_argnums: an argument with a derivative
    """,
)
def custom_differentiated_nondiff():
    @partial(custom_vjp, nondiff_argnums=(0,))
    def scaled(theta, x):
        return theta * x

    def fwd(theta, x):
        return scaled(theta, x), None

    scaled.defvjp(fwd, lambda theta, _, ct: (theta * ct,))

    yield lambda x: jax.grad(lambda theta: jnp.sum(scaled(theta, x)))(2.0)

    yield lambda x: jax.grad(lambda theta: jnp.sum(scaled(jax.lax.stop_gradient(theta), x)))(2.0), 0


@case(
    BadCall,
    """
    scaled: the closed-over value 'y' belongs to a transformation that has ended.
      got:      y: float32[], read by bwd at FILE:LINE
      expected: a value of a transformation that is still running
      why:      what differentiates here stands outside of the transformation in which the rule was made
      rule:     bwd at FILE:LINE
      write:    scaled(x, y)  # one more argument of the function and of its rule
    """,
)
def custom_closure_that_has_ended():
    def loss(x, y):
        @custom_vjp
        def scaled(x):
            return jnp.sin(x)

        def bwd(_, ct):
            return (ct * jnp.cos(y),)

        scaled.defvjp(lambda x: (scaled(x), None), bwd)
        return scaled(x)

    yield lambda x: jax.grad(lambda x: jax.jit(jax.vmap(loss))(x, x).sum())(x)

    @custom_vjp
    def scaled(x, y):
        return jnp.sin(x)

    scaled.defvjp(lambda x, y: (scaled(x, y), y), lambda y, ct: (ct * jnp.cos(y), None))
    yield lambda x: jax.grad(lambda x: jax.jit(jax.vmap(scaled))(x, x).sum())(0 * x), [1, 1, 1]


@case(
    RuleWrong,
    """
    absolute: the impl needs the value of an operand, but the operand is traced.
      got:      operands x
      expected: arguments used only as data, wherever JAX transforms the function
      why:      only an eager call sees values; a value that is no array can be a non-differentiable argument
      rule:     absolute at FILE:LINE
      write:    y = jax.lax.cond(predicate, f, g, x)  # or jnp.where(predicate, y1, y2)
    """,
)
def custom_that_branches():
    @custom_vjp
    def absolute(x):
        return x if x[0] > 0 else -x

    absolute.defvjp(lambda x: (absolute(x), jnp.sign(x)), lambda sign, ct: (ct * sign,))

    yield lambda x: jax.grad(lambda x: jnp.sum(absolute(x)))(x)

    def f(x):
        return x

    def g(x):
        return -x

    @custom_vjp
    def absolute(x):
        predicate = x[0] > 0
        y = jax.lax.cond(predicate, f, g, x)
        return y

    absolute.defvjp(lambda x: (absolute(x), jnp.sign(x)), lambda sign, ct: (ct * sign,))
    yield lambda x: jax.grad(lambda x: jnp.sum(absolute(x)))(x), [1, 1, 1]


@case(
    RuleWrong,
    """
    power: the impl needs the value of an operand, but the operand is traced.
      got:      operands x, n
      expected: arguments used only as data, wherever JAX transforms the function
      why:      only an eager call sees values; a value that is no array can be a non-differentiable argument
      rule:     power at FILE:LINE
      write:    @partial(jaxprim.custom_jvp, nondiff_argnames=('n',))
    """,
)
def custom_that_reads_a_number():
    def power(x, n=2):
        return x * x if n == 2 else x**n

    wrong = custom_jvp(power)
    wrong.defjvp(lambda primals, tangents: (wrong(*primals), 2 * primals[0] * tangents[0]))
    yield lambda x: jax.grad(lambda x: jnp.sum(wrong(x)))(x)

    @partial(jaxprim.custom_jvp, nondiff_argnames=("n",))
    def right(x, n=2):
        return x * x if n == 2 else x**n

    right.defjvp(lambda n, primals, tangents: (right(*primals, n), 2 * primals[0] * tangents[0]))
    yield lambda x: jax.grad(lambda x: jnp.sum(right(x)))(x), [2, 4, 6]


@case(
    BadCall,
    """
    total: operand 'mode' is not an array.
      got:      a str
      expected: an array or a number, in any pytree
      rule:     total at FILE:LINE
      write:    @partial(jaxprim.custom_jvp, nondiff_argnames=('mode',))
    """,
)
def custom_with_a_string():
    def total(x, mode):
        return jnp.sum(x) if mode == "sum" else jnp.mean(x)

    wrong = custom_jvp(total)
    wrong.defjvp(lambda primals, tangents: (wrong(*primals), jnp.sum(tangents[0])))
    yield lambda x: jax.grad(wrong)(x, "sum")

    @partial(jaxprim.custom_jvp, nondiff_argnames=("mode",))
    def right(x, mode):
        return total(x, mode)

    right.defjvp(lambda mode, primals, tangents: (right(*primals, mode), jnp.sum(tangents[0])))
    yield lambda x: jax.grad(right)(x, "sum"), [1, 1, 1]


@case(
    BadCall,
    """
    square: the arguments do not fit the function.
      got:      1 by position, exponent=
      expected: square(x)
      why:      got an unexpected keyword argument 'exponent'; custom_vjp passes all arguments by position
      rule:     square at FILE:LINE
      write:    square(x)
    """,
)
def custom_with_a_wrong_keyword():
    @with_rule
    @custom_vjp
    def square(x, *, exponent=2):
        return x**exponent

    yield lambda x: square(x, exponent=3)
    yield lambda x: square(x), [1, 4, 9]


@case(
    BadCall,
    """
    scale: nondiff_argnames names an argument that the function does not take.
      got:      nondiff_argnames=('factor',)
      expected: one of 'x', 'k'
      why:      an argument that is passed by keyword only is not possible
      rule:     scale at FILE:LINE
      write:    @partial(jaxprim.custom_vjp, nondiff_argnames=('x',))
    """,
)
def custom_with_an_unknown_nondiff():
    def scale(x, k):
        return x * k

    yield lambda x: custom_vjp(scale, nondiff_argnames=("factor",))

    @partial(jaxprim.custom_vjp, nondiff_argnames=("x",))
    def scale(x, k):
        return x * k

    scale.defvjp(lambda x, k: (scale(x, k), None), lambda x, _, ct: (jnp.sum(ct * x),))
    yield lambda x: jax.grad(lambda k: jnp.sum(scale(x, k)))(2.0), 6


@case(
    BadCall,
    """
    scale: defjvps takes one rule per argument, and no non-differentiable arguments.
      got:      1 of them
      expected: rules for x, factor
      rule:     scale at FILE:LINE
      write:    scale.defjvps(x_rule, factor_rule)
    """,
)
def custom_with_too_few_rules():
    @custom_jvp
    def scale(x, factor):
        return x * factor

    def x_rule(x_dot, y, x, factor):
        return x_dot * factor

    yield lambda x: scale.defjvps(x_rule)

    factor_rule = None
    scale.defjvps(x_rule, factor_rule)
    yield lambda x: scale(x, 2.0), [2, 4, 6]


@case(
    BadCall,
    """
    square: defvjp_with_logs is not supported.
      got:      defvjp_with_logs(...)
      expected: defvjp(fwd, bwd)
      why:      a pullback returns cotangents only
      rule:     square at FILE:LINE
      write:    jax.debug.print  # in bwd
    """,
)
def custom_with_logs():
    @custom_vjp
    def square(x):
        return x * x

    yield lambda x: square.defvjp_with_logs(lambda x: (square(x), x), lambda x, ct: ((2 * ct * x,), {"ct": ct}))

    def bwd(x, ct):
        jax.debug.print("{ct}", ct=ct)
        return (2 * ct * x,)

    square.defvjp(lambda x: (square(x), x), bwd)
    yield square, [1, 4, 9]


@case(
    BadCall,
    """
    custom_vjp needs a function.
      got:      an int
      expected: a function
      defined:  FILE:LINE
      write:    @jaxprim.custom_vjp  # on the function
    """,
)
def custom_without_a_function():
    yield lambda x: custom_vjp(3)

    @jaxprim.custom_vjp
    def square(x):
        return x * x

    yield with_rule(square), [1, 4, 9]


@case(
    RuleWrong,
    """
    scale: the backward function of the VJP rule does not accept the arguments it is called with.
      got:      bwd(residuals, ct)
      expected: (k, residuals, cotangents)
      why:      the non-differentiable arguments come first
      rule:     bwd at FILE:LINE
      write:    def bwd(k, residuals, cotangents):
    """,
)
def custom_backward_without_nondiff():
    @partial(custom_vjp, nondiff_argnums=(1,))
    def scale(x, k):
        return x * k

    def bwd(residuals, ct):
        return (ct * 2,)

    scale.defvjp(lambda x, k: (scale(x, k), None), bwd)
    yield lambda x: jax.grad(lambda x: jnp.sum(scale(x, 2)))(x)

    def bwd(k, residuals, cotangents):
        return (cotangents * k,)

    scale.defvjp(lambda x, k: (scale(x, k), None), bwd)
    yield lambda x: jax.grad(lambda x: jnp.sum(scale(x, 2)))(x), [2, 2, 2]
