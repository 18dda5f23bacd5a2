"""Batch rules that return what does not fit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import jaxprim
from jaxprim import Primitive, RuleMissing, RuleWrong
from messages.case import case


def total_of(name="total"):
    total = Primitive(name)

    @total.def_impl
    def impl(x):
        return jnp.sum(x)

    return total


def batched(op):
    return lambda x: jax.vmap(op, in_axes=1)(jnp.stack([x, 2 * x], axis=1))


@case(
    RuleWrong,
    """
    total: the batch rule must return (outputs, dims).
      got:      one array, float32[2]
      expected: a tuple of 2
      rule:     rule at FILE:LINE
      write:    return outputs, 0
    """,
)
def batching_not_a_pair():
    total = total_of()

    @total.def_batching
    def rule(axis, args, dims):
        (x,), (dim,) = args, dims
        return jnp.sum(jnp.moveaxis(x, dim, 0), axis=1)

    yield batched(total)

    @total.def_batching
    def corrected(axis, args, dims):
        (x,), (dim,) = args, dims
        outputs = jnp.sum(jnp.moveaxis(x, dim, 0), axis=1)
        return outputs, 0

    yield batched(total), [6, 12]


@case(
    RuleWrong,
    """
    double: the batch rule returned the result without the batch dimension it declares.
      got:      float32[3,2], with the batch at dimension 0
      expected: float32[3] for each element
      rule:     rule at FILE:LINE
      write:    return outputs, 0  # with the batch moved to the front
    """,
)
def batching_claims_another_dim():
    double = Primitive("double")

    @double.def_impl
    def impl(x):
        return 2 * x

    @double.def_batching
    def rule(axis, args, dims):
        return 2 * args[0], 0

    yield batched(double)

    @double.def_batching
    def corrected(axis, args, dims):
        outputs = jnp.moveaxis(2 * args[0], dims[0], 0)
        return outputs, 0

    yield batched(double), [[2, 4, 6], [4, 8, 12]]


@case(
    RuleWrong,
    """
    double: the batch rule returned the result without the batch dimension it declares.
      got:      float32[3,2], with the batch at dimension None
      expected: float32[3] for each element
      rule:     rule at FILE:LINE
      write:    return outputs, 0  # with the batch moved to the front
    """,
)
def batching_claims_none():
    double = Primitive("double")

    @double.def_impl
    def impl(x):
        return 2 * x

    @double.def_batching
    def rule(axis, args, dims):
        return 2 * args[0], None

    yield batched(double)

    @double.def_batching
    def corrected(axis, args, dims):
        outputs = jnp.moveaxis(2 * args[0], dims[0], 0)
        return outputs, 0

    yield batched(double), [[2, 4, 6], [4, 8, 12]]


@case(
    RuleWrong,
    """
    both: the batch rule must return the batch dimension of each result.
      got:      (0,)
      expected: an integer, or None for an unbatched result; one for all results, or one for each
      rule:     rule at FILE:LINE
      write:    return outputs, 0
    """,
)
def batching_dims_of_another_structure():
    both = Primitive("both")

    @both.def_impl
    def impl(x):
        return 2 * x, jnp.sum(x)

    @both.def_batching
    def rule(axis, args, dims):
        x = jnp.moveaxis(args[0], dims[0], 0)
        return (2 * x, jnp.sum(x, axis=1)), (0,)

    yield batched(both)

    @both.def_batching
    def corrected(axis, args, dims):
        x = jnp.moveaxis(args[0], dims[0], 0)
        outputs = (2 * x, jnp.sum(x, axis=1))
        return outputs, 0

    yield batched(both), ([[2, 4, 6], [4, 8, 12]], [6, 12])


@case(
    RuleWrong,
    """
    total: the batch rule must return the batch dimension of each result.
      got:      '0'
      expected: an integer, or None for an unbatched result; one for all results, or one for each
      rule:     rule at FILE:LINE
      write:    return outputs, 0
    """,
)
def batching_dim_is_no_integer():
    total = total_of()

    @total.def_batching
    def rule(axis, args, dims):
        return jnp.sum(jnp.moveaxis(args[0], dims[0], 0), axis=1), "0"

    yield batched(total)

    @total.def_batching
    def corrected(axis, args, dims):
        outputs = jnp.sum(jnp.moveaxis(args[0], dims[0], 0), axis=1)
        return outputs, 0

    yield batched(total), [6, 12]


@case(
    RuleWrong,
    """
    both: the batch rule returned primal outputs with a different structure than the operation's results.
      got:      one array, float32[2,3]
      expected: a tuple of 2
      rule:     rule at FILE:LINE
      write:    return (y_0, y_1), dims
    """,
)
def batching_outputs_of_another_structure():
    both = Primitive("both")

    @both.def_impl
    def impl(x):
        return 2 * x, jnp.sum(x)

    @both.def_batching
    def rule(axis, args, dims):
        x = jnp.moveaxis(args[0], dims[0], 0)
        return 2 * x, 0

    yield batched(both)

    @both.def_batching
    def corrected(axis, args, dims):
        x = jnp.moveaxis(args[0], dims[0], 0)
        y_0, y_1, dims = 2 * x, jnp.sum(x, axis=1), 0
        return (y_0, y_1), dims

    yield batched(both), ([[2, 4, 6], [4, 8, 12]], [6, 12])


@case(
    RuleWrong,
    """
    total: the batch rule returned the result with a different type than the operation's.
      got:      float16[2]
      expected: float32[2]
      rule:     rule at FILE:LINE
      write:    y = y.astype(args[0].dtype)
    """,
)
def batching_output_dtype():
    total = total_of()

    @total.def_batching
    def rule(axis, args, dims):
        return jnp.sum(jnp.moveaxis(args[0], dims[0], 0), axis=1).astype("float16"), 0

    yield batched(total)

    @total.def_batching
    def corrected(axis, args, dims):
        y = jnp.sum(jnp.moveaxis(args[0], dims[0], 0), axis=1).astype("float16")
        y = y.astype(args[0].dtype)
        return y, 0

    yield batched(total), [6, 12]


@case(
    RuleWrong,
    """
    total: the batch rule does not accept the arguments it is called with.
      got:      rule(axis, args, dims)
      expected: (axis, args, dims, *, power)
      why:      every rule gets all operands and every static param
      rule:     rule at FILE:LINE
      write:    def rule(axis, args, dims, *, power):
    """,
)
def batching_without_a_static_param():
    total = Primitive("total")

    @total.def_impl
    def impl(x, *, power=1):
        return jnp.sum(x**power)

    @total.def_batching
    def rule(axis, args, dims):
        return jnp.sum(jnp.moveaxis(args[0], dims[0], 0), axis=1), 0

    yield batched(total)

    @total.def_batching
    def rule(axis, args, dims, *, power):
        return jnp.sum(jnp.moveaxis(args[0], dims[0], 0) ** power, axis=1), 0

    yield batched(total), [6, 12]


@case(
    RuleWrong,
    """
    outer: with batching='elementwise', the batch axis leads in each operand, and the implementation returned the wrong type.
      got:      float32[1,1,3]
      expected: float32[1,3,3]
      rule:     impl at FILE:LINE
      write:    outer = Primitive('outer', batching='vmap')
    """,
)
def elementwise_over_axes_that_do_not_broadcast():
    """Not elementwise at all: the word is wrong."""
    outer = Primitive("outer", batching="elementwise")

    @outer.def_impl
    def impl(x, y):
        return x[:, None] * y[None, :]

    yield lambda x: jax.vmap(outer)(x[None], x[None])

    outer = Primitive("outer", batching="vmap")
    outer.def_impl(impl)
    yield lambda x: jax.vmap(outer)(x[None], x[None]), [[[1, 2, 3], [2, 4, 6], [3, 6, 9]]]


@case(
    RuleMissing,
    """
    total: batching='vmap' needs an implementation that JAX can trace.
      got:      the rules host, abstract_eval
      expected: an impl, or a kernel and no host function, or another batching word
      why:      'sequential' makes one call per element, 'expand_dims' one call with the batch axes in front of the operands
      rule:     host at FILE:LINE
      write:    total = Primitive('total', batching='sequential')
    """,
)
def vmap_of_a_host_function():
    def rules(total):
        @total.def_host
        def host(x):
            return np.sum(x)

        total.def_abstract_eval(lambda x: jax.ShapeDtypeStruct((), x.dtype))
        return total

    yield batched(rules(Primitive("total", batching="vmap")))

    total = Primitive("total", batching="sequential")
    yield batched(rules(total)), [6, 12]


@case(
    RuleMissing,
    """
    double: batching='vmap' needs an implementation that JAX can trace.
      got:      the rules abstract_eval, lowering
      expected: an impl, or a kernel and no host function, or another batching word
      why:      'sequential' makes one call per element, 'expand_dims' one call with the batch axes in front of the operands
      rule:     types at FILE:LINE
      write:    double = Primitive('double', batching='sequential')
    """,
)
def vmap_of_a_raw_lowering():
    def rules(double):
        @double.def_abstract_eval
        def types(x):
            return jax.ShapeDtypeStruct(x.shape, x.dtype)

        double.def_lowering(jaxprim.mlir.lower_fun(lambda x: [x + x], multiple_results=True))
        return double

    yield batched(rules(Primitive("double", batching="vmap")))

    double = Primitive("double", batching="sequential")
    yield batched(rules(double)), [[2, 4, 6], [4, 8, 12]]
