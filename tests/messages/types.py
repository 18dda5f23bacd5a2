"""Implementations and abstract evals that do not fit each other."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxprim import BadCall, Primitive, RuleWrong
from messages.case import case

# What a global variable holds is not seen when an operation is applied.
OUTER = {}


@case(
    RuleWrong,
    """
    total: abstract eval and the implementation disagree on the type of the result.
      got:      float32[3] from abstract eval
      expected: float32[] from the implementation, impl at FILE:LINE
      rule:     types at FILE:LINE
      write:    return jax.ShapeDtypeStruct((), x.dtype)  # or leave it out: it is derived from the implementation
    """,
)
def abstract_eval_shape():
    total = Primitive("total")

    @total.def_impl
    def impl(x):
        return jnp.sum(x)

    @total.def_abstract_eval
    def types(x):
        return jax.ShapeDtypeStruct(x.shape, x.dtype)

    yield lambda x: total(x)

    @total.def_abstract_eval
    def corrected(x):
        return jax.ShapeDtypeStruct((), x.dtype)

    yield lambda x: total(x), 6


@case(
    RuleWrong,
    """
    rounded: abstract eval and the implementation disagree on the type of the result.
      got:      float32[3] from abstract eval
      expected: int32[3] from the implementation, impl at FILE:LINE
      rule:     types at FILE:LINE
      write:    return jax.ShapeDtypeStruct(x.shape, 'int32')  # or leave it out: it is derived from the implementation
    """,
)
def abstract_eval_dtype():
    rounded = Primitive("rounded")

    @rounded.def_impl
    def impl(x):
        return x.astype("int32")

    @rounded.def_abstract_eval
    def types(x):
        return jax.ShapeDtypeStruct(x.shape, x.dtype)

    yield lambda x: rounded(x)

    @rounded.def_abstract_eval
    def corrected(x):
        return jax.ShapeDtypeStruct(x.shape, "int32")

    yield lambda x: rounded(x), [1, 2, 3]


@case(
    RuleWrong,
    """
    both: abstract eval and the implementation disagree on the structure of the results.
      got:      one array, float32[3] from abstract eval
      expected: a tuple of 2 from the implementation, impl at FILE:LINE
      rule:     types at FILE:LINE
      write:    return jax.ShapeDtypeStruct(x.shape, x.dtype), jax.ShapeDtypeStruct((), x.dtype)  # or leave it out: it is derived from the implementation
    """,
)
def abstract_eval_structure():
    both = Primitive("both")

    @both.def_impl
    def impl(x):
        return 2 * x, jnp.sum(x)

    @both.def_abstract_eval
    def types(x):
        return jax.ShapeDtypeStruct(x.shape, x.dtype)

    yield lambda x: both(x)

    @both.def_abstract_eval
    def corrected(x):
        return jax.ShapeDtypeStruct(x.shape, x.dtype), jax.ShapeDtypeStruct((), x.dtype)

    yield lambda x: both(x), ([2, 4, 6], 6)


@case(
    RuleWrong,
    """
    square: its abstract eval must return the type of each result.
      got:      one array, float32[3]
      expected: jax.ShapeDtypeStruct(shape, dtype) or jax.core.ShapedArray(shape, dtype)
      rule:     types at FILE:LINE
      write:    return jax.ShapeDtypeStruct(x.shape, x.dtype)
    """,
)
def abstract_eval_returns_an_array():
    square = Primitive("square")

    @square.def_host
    def host(x):
        return x * x

    @square.def_abstract_eval
    def types(x):
        return jnp.zeros(x.shape, x.dtype)

    yield lambda x: square(x)

    @square.def_abstract_eval
    def corrected(x):
        return jax.ShapeDtypeStruct(x.shape, x.dtype)

    yield lambda x: square(x), [1, 4, 9]


@case(
    RuleWrong,
    """
    square: its abstract eval must return the type of each result.
      got:      an int
      expected: jax.ShapeDtypeStruct(shape, dtype) or jax.core.ShapedArray(shape, dtype)
      rule:     types at FILE:LINE
      write:    return jax.ShapeDtypeStruct(x.shape, x.dtype)
    """,
)
def abstract_eval_returns_a_shape():
    square = Primitive("square")

    @square.def_host
    def host(x):
        return x * x

    @square.def_abstract_eval
    def types(x):
        return x.shape

    yield lambda x: square(x)

    @square.def_abstract_eval
    def corrected(x):
        return jax.ShapeDtypeStruct(x.shape, x.dtype)

    yield lambda x: square(x), [1, 4, 9]


@case(
    RuleWrong,
    """
    square: its abstract eval must return the type of each result.
      got:      None
      expected: jax.ShapeDtypeStruct(shape, dtype) or jax.core.ShapedArray(shape, dtype)
      rule:     types at FILE:LINE
      write:    return jax.ShapeDtypeStruct(x.shape, x.dtype)
    """,
)
def abstract_eval_returns_nothing():
    square = Primitive("square")

    @square.def_host
    def host(x):
        return x * x

    @square.def_abstract_eval
    def types(x):
        jax.ShapeDtypeStruct(x.shape, x.dtype)

    yield lambda x: square(x)

    @square.def_abstract_eval
    def corrected(x):
        return jax.ShapeDtypeStruct(x.shape, x.dtype)

    yield lambda x: square(x), [1, 4, 9]


@case(
    RuleWrong,
    """
    scale: the abstract eval does not accept the arguments it is called with.
      got:      types(x)
      expected: (x, factor)
      rule:     types at FILE:LINE
      write:    def types(x, factor):
    """,
)
def abstract_eval_of_other_operands():
    scale = Primitive("scale")

    @scale.def_impl
    def impl(x, factor):
        return x * factor

    @scale.def_abstract_eval
    def types(x):
        return jax.ShapeDtypeStruct(x.shape, x.dtype)

    yield lambda x: scale(x, 2.0)

    @scale.def_abstract_eval
    def types(x, factor):
        return jax.ShapeDtypeStruct(x.shape, x.dtype)

    yield lambda x: scale(x, 2.0), [2, 4, 6]


@case(
    RuleWrong,
    """
    scale: the implementation returned something that is not an array.
      got:      an object
      expected: arrays, in any pytree
      rule:     impl at FILE:LINE
      write:    return jnp.asarray(result)
    """,
)
def impl_returns_no_array():
    scale = Primitive("scale")

    @scale.def_impl
    def impl(x):
        return object()

    yield lambda x: scale(x)

    @scale.def_impl
    def corrected(x):
        result = [1.0, 2.0, 3.0]
        return jnp.asarray(result)

    yield lambda x: scale(x), [1, 2, 3]


@case(
    RuleWrong,
    """
    scale: the implementation returned something that is not an array.
      got:      a function
      expected: arrays, in any pytree
      rule:     impl at FILE:LINE
      write:    return arrays  # without the functions
    """,
)
def impl_returns_a_function():
    scale = Primitive("scale")

    @scale.def_impl
    def impl(x):
        return {"value": 2 * x, "inverse": lambda y: y / 2}

    yield lambda x: scale(x)

    @scale.def_impl
    def corrected(x):
        arrays = 2 * x
        return arrays

    yield lambda x: scale(x), [2, 4, 6]


@case(
    RuleWrong,
    """
    scale: the implementation returned nothing.
      got:      None
      expected: arrays, in any pytree
      why:      operations are pure: without a result, an operation does nothing
      rule:     impl at FILE:LINE
      write:    return result
    """,
)
def impl_returns_nothing():
    scale = Primitive("scale")

    @scale.def_impl
    def impl(x):
        2 * x

    yield lambda x: scale(x)

    @scale.def_impl
    def corrected(x):
        result = 2 * x
        return result

    yield lambda x: scale(x), [2, 4, 6]


@case(
    RuleWrong,
    """
    scale: the implementation has side effects.
      got:      IO
      expected: a pure function (jax.debug.print is allowed)
      why:      operations are pure: JAX may drop, merge or repeat them
      rule:     impl at FILE:LINE
      write:    return result, value  # and use the value where the primitive is called
    """,
)
def impl_has_side_effects():
    log = []
    scale = Primitive("scale")

    @scale.def_impl
    def impl(x):
        jax.experimental.io_callback(log.append, None, x)
        return 2 * x

    yield lambda x: scale(x)

    @scale.def_impl
    def corrected(x):
        result, value = 2 * x, x
        return result, value

    yield lambda x: scale(x), ([2, 4, 6], [1, 2, 3])


@case(
    RuleWrong,
    """
    scale: the implementation has side effects.
      got:      a write to a mutable ref
      expected: a pure function (jax.debug.print is allowed)
      why:      operations are pure: JAX may drop, merge or repeat them
      rule:     impl at FILE:LINE
      write:    return result, value  # and use the value where the primitive is called
    """,
)
def impl_writes_a_ref():
    ref = jax.new_ref(jnp.zeros(3))
    scale = Primitive("scale")

    @scale.def_impl
    def impl(x):
        ref[...] = x
        return 2 * x

    yield lambda x: scale(x)

    @scale.def_impl
    def corrected(x):
        result, value = 2 * x, x
        return result, value

    yield lambda x: scale(x), ([2, 4, 6], [1, 2, 3])


@case(
    BadCall,
    """
    shift: the impl closes over a traced value.
      got:      float32[3] (traced)
      expected: operands, static params and concrete arrays only
      why:      rules are traced once and used in many traces
      rule:     impl at FILE:LINE
      write:    shift(z, value)  # the value as one more operand
    """,
)
def impl_closes_over_a_tracer():
    def wrong(x):
        shift = Primitive("shift")
        OUTER["x"] = x

        @shift.def_impl
        def impl(z):
            return z + OUTER["x"]

        return shift(2 * x)

    yield jax.jit(wrong)

    def right(x):
        shift = Primitive("shift")

        @shift.def_impl
        def impl(z, value):
            return z + value

        z, value = 2 * x, x
        return shift(z, value)

    yield jax.jit(right), [3, 6, 9]


@case(
    RuleWrong,
    """
    scale: the kernel returned the result with a different type than the operation's.
      got:      float16[3]
      expected: float32[3]
      rule:     kernel at FILE:LINE
      write:    y = y.astype(x.dtype)
    """,
)
def kernel_returns_another_type():
    scale = Primitive("scale")

    @scale.def_impl
    def impl(x):
        return 2 * x

    @scale.def_kernel(platform="cpu")
    def kernel(x):
        return (2 * x).astype("float16")

    yield lambda x: scale(x)

    @scale.def_kernel(platform="cpu")
    def corrected(x):
        y = (2 * x).astype("float16")
        y = y.astype(x.dtype)
        return y

    yield lambda x: scale(x), [2, 4, 6]


@case(
    RuleWrong,
    """
    scale: the kernel does not accept the arguments it is called with.
      got:      kernel(x)
      expected: (x, *, power)
      why:      every rule gets all operands and every static param
      rule:     kernel at FILE:LINE
      write:    def kernel(x, *, power):
    """,
)
def kernel_of_other_params():
    scale = Primitive("scale")

    @scale.def_impl
    def impl(x, *, power=1):
        return x**power

    @scale.def_kernel(platform="cpu")
    def kernel(x):
        return x

    yield lambda x: scale(x)

    @scale.def_kernel(platform="cpu")
    def kernel(x, *, power):
        return x**power

    yield lambda x: scale(x), [1, 2, 3]


@case(
    RuleWrong,
    """
    total: with batching='expand_dims', the batch axis leads in each operand, and the implementation returned the wrong type.
      got:      float32[]
      expected: float32[3]
      rule:     impl at FILE:LINE
      write:    total = Primitive('total', batching='vmap')
    """,
)
def kernel_takes_no_batch():
    """ "expand_dims" leaves leading axes to the kernel, which sums them away."""
    total = Primitive("total", batching="expand_dims")

    @total.def_impl
    def impl(x):
        return jnp.sum(x)

    yield jax.vmap(total)

    total = Primitive("total", batching="vmap")
    total.def_impl(impl)
    yield jax.vmap(total), [1, 2, 3]
