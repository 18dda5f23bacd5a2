"""Operations made inside a function, whose rules close over traced values in a way that cannot work."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim import BadCall, Primitive
from messages.case import case


@case(
    BadCall,
    """
    scaled: the value 'theta', which it closes over, is differentiated.
      got:      theta: float32[3], read by impl at FILE:LINE
      expected: an operand, for which the rule returns a derivative
      why:      the VJP rule knows the derivatives of the operands only
      rule:     vjp at FILE:LINE
      write:    scaled(x, theta)  # one more operand, of the impl and of its rules
    """,
)
def differentiated_closure():
    def wrong(theta):
        scaled = Primitive("scaled")

        @scaled.def_impl
        def impl(x):
            return theta * x

        @scaled.def_vjp
        def vjp(primals):
            return scaled(*primals), lambda y_bar: theta * y_bar

        return jnp.sum(scaled(jnp.ones_like(theta)))

    yield jax.grad(wrong)

    def right(theta):
        scaled = Primitive("scaled")

        @scaled.def_impl
        def impl(x, theta):
            return theta * x

        @scaled.def_vjp
        def vjp(primals):
            x, theta = primals
            return scaled(x, theta), lambda y_bar: (theta * y_bar, x * y_bar)

        x = jnp.ones_like(theta)
        return jnp.sum(scaled(x, theta))

    yield jax.grad(right), [1, 1, 1]


@case(
    BadCall,
    """
    scaled: the host function cannot be used with the traced value 'theta', which a rule closes over.
      got:      theta: float32[3], read by on_host at FILE:LINE
      expected: operands, static params and concrete arrays only
      why:      the host function gets the operands, and this is none
      rule:     on_host at FILE:LINE
      write:    scaled(x, theta)  # the value as one more operand
    """,
)
def host_function_closes_over_a_tracer():
    def wrong(theta):
        scaled = Primitive("scaled")
        scaled.def_abstract_eval(lambda x: x)

        @scaled.def_host
        def on_host(x):
            return x * np.asarray(theta)

        return scaled(theta)

    yield jax.jit(wrong)

    def right(theta):
        scaled = Primitive("scaled")
        scaled.def_abstract_eval(lambda x, theta: x)

        @scaled.def_host
        def on_host(x, theta):
            return x * theta

        x = theta
        return scaled(x, theta)

    yield right, [1, 4, 9]


@case(
    BadCall,
    """
    scaled: the batch rule closes over a traced value, and that is batched.
      got:      theta: float32[], read by batch at FILE:LINE
      expected: a batch of the operands only
      why:      the rule gets the batch dimensions of operands, and of no other value
      rule:     batch at FILE:LINE
      write:    scaled(x, theta)  # the value as one more operand
    """,
)
def batch_rule_closes_over_a_batch():
    def wrong(theta):
        scaled = Primitive("scaled")

        @scaled.def_impl
        def impl(x):
            return x * 2

        @scaled.def_batching
        def batch(axis, args, dims):
            return args[0] * theta, dims[0]

        return scaled(theta)

    yield jax.vmap(wrong)

    def right(theta):
        scaled = Primitive("scaled")

        @scaled.def_impl
        def impl(x, theta):
            return x * theta

        @scaled.def_batching
        def batch(axis, args, dims):
            return args[0] * args[1], 0

        x = theta
        return scaled(x, theta)

    yield jax.vmap(right), [1, 4, 9]
