"""JVP rules that return what does not fit."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxprim import BadCall, Primitive, RuleWrong
from messages.case import case

# What a global variable holds is not seen when an operation is applied.
OUTER = {}


def square_of(name="square"):
    square = Primitive(name)

    @square.def_impl
    def impl(x):
        return x * x

    return square


def push(op):
    return lambda x: jax.jvp(op, (x,), (jnp.ones_like(x),))


@case(
    RuleWrong,
    """
    square: the JVP rule must return (primals_out, tangents_out).
      got:      one array, float32[3]
      expected: a tuple of 2
      rule:     jvp at FILE:LINE
      write:    return primals_out, tangents_out
    """,
)
def jvp_not_a_pair():
    square = square_of()

    @square.def_jvp
    def jvp(primals, tangents):
        (x,), (x_dot,) = primals, tangents
        return 2 * x * x_dot

    yield push(square)

    @square.def_jvp
    def corrected(primals, tangents):
        (x,), (x_dot,) = primals, tangents
        primals_out, tangents_out = square(x), 2 * x * x_dot
        return primals_out, tangents_out

    yield push(square), ([1, 4, 9], [2, 4, 6])


@case(
    RuleWrong,
    """
    square: the JVP rule returned the result with a different type than the operation's.
      got:      float16[3]
      expected: float32[3]
      rule:     jvp at FILE:LINE
      write:    y = y.astype(x.dtype)
    """,
)
def jvp_primal_dtype():
    square = square_of()

    @square.def_jvp
    def jvp(primals, tangents):
        (x,), (x_dot,) = primals, tangents
        return square(x).astype("float16"), 2 * x * x_dot

    yield push(square)

    @square.def_jvp
    def corrected(primals, tangents):
        (x,), (x_dot,) = primals, tangents
        y = square(x).astype("float16")
        y = y.astype(x.dtype)
        return y, 2 * x * x_dot

    yield push(square), ([1, 4, 9], [2, 4, 6])


@case(
    RuleWrong,
    """
    spread: the JVP rule returned the result with a different type than the operation's.
      got:      float32[]
      expected: float32[3]
      rule:     jvp at FILE:LINE
      write:    y = jnp.broadcast_to(y, x.shape)
    """,
)
def jvp_primal_shape():
    spread = Primitive("spread")

    @spread.def_impl
    def impl(x):
        return jnp.broadcast_to(jnp.sum(x), x.shape)

    @spread.def_jvp
    def jvp(primals, tangents):
        return jnp.sum(*primals), spread(*tangents)

    yield push(spread)

    @spread.def_jvp
    def corrected(primals, tangents):
        (x,) = primals
        y = jnp.sum(x)
        y = jnp.broadcast_to(y, x.shape)
        return y, spread(*tangents)

    yield push(spread), ([6, 6, 6], [3, 3, 3])


@case(
    RuleWrong,
    """
    both: the JVP rule returned primal outputs with a different structure than the operation's results.
      got:      one array, float32[3]
      expected: a tuple of 2
      rule:     jvp at FILE:LINE
      write:    return (y_0, y_1), tangents_out
    """,
)
def jvp_primal_structure():
    both = Primitive("both")

    @both.def_impl
    def impl(x):
        return 2 * x, 3 * x

    @both.def_jvp
    def jvp(primals, tangents):
        (x,), (x_dot,) = primals, tangents
        return 2 * x, (2 * x_dot, 3 * x_dot)

    yield push(both)

    @both.def_jvp
    def corrected(primals, tangents):
        (x,), (x_dot,) = primals, tangents
        y_0, y_1 = 2 * x, 3 * x
        tangents_out = (2 * x_dot, 3 * x_dot)
        return (y_0, y_1), tangents_out

    yield push(both), (([2, 4, 6], [3, 6, 9]), ([2, 2, 2], [3, 3, 3]))


@case(
    RuleWrong,
    """
    square: the JVP rule returned a wrong tangent for the result.
      got:      float16[3]
      expected: float32[3]
      rule:     jvp at FILE:LINE
      write:    y_dot = y_dot.astype(y.dtype)
    """,
)
def jvp_tangent_dtype():
    square = square_of()

    @square.def_jvp
    def jvp(primals, tangents):
        (x,), (x_dot,) = primals, tangents
        return square(x), (2 * x * x_dot).astype(jnp.float16)

    yield push(square)

    @square.def_jvp
    def corrected(primals, tangents):
        (x,), (x_dot,) = primals, tangents
        y, y_dot = square(x), (2 * x * x_dot).astype(jnp.float16)
        y_dot = y_dot.astype(y.dtype)
        return y, y_dot

    yield push(square), ([1, 4, 9], [2, 4, 6])


@case(
    RuleWrong,
    """
    square: the JVP rule returned a wrong tangent for the result.
      got:      complex64[3]
      expected: float32[3]
      rule:     jvp at FILE:LINE
      write:    y_dot = y_dot.real
    """,
)
def jvp_complex_tangent():
    square = square_of()

    @square.def_jvp
    def jvp(primals, tangents):
        (x,), (x_dot,) = primals, tangents
        return square(x), jax.lax.complex(2 * x * x_dot, x)

    yield push(square)

    @square.def_jvp
    def corrected(primals, tangents):
        (x,), (x_dot,) = primals, tangents
        y_dot = jax.lax.complex(2 * x * x_dot, x)
        y_dot = y_dot.real
        return square(x), y_dot

    yield push(square), ([1, 4, 9], [2, 4, 6])


@case(
    RuleWrong,
    """
    square: the JVP rule returned a wrong tangent for the result.
      got:      int32[3]
      expected: float32[3]
      rule:     jvp at FILE:LINE
      write:    y_dot = y_dot.astype(y.dtype)
    """,
)
def jvp_integer_tangent():
    square = square_of()

    @square.def_jvp
    def jvp(primals, tangents):
        (x,), (x_dot,) = primals, tangents
        return square(x), (2 * x * x_dot).astype("int32")

    yield push(square)

    @square.def_jvp
    def corrected(primals, tangents):
        (x,), (x_dot,) = primals, tangents
        y, y_dot = square(x), (2 * x * x_dot).astype("int32")
        y_dot = y_dot.astype(y.dtype)
        return y, y_dot

    yield push(square), ([1, 4, 9], [2, 4, 6])


@case(
    RuleWrong,
    """
    total: the JVP rule returned a wrong tangent for the result.
      got:      float32[3]
      expected: float32[]
      rule:     jvp at FILE:LINE
      write:    y_dot = jnp.sum(y_dot)
    """,
)
def jvp_tangent_shape():
    total = Primitive("total")

    @total.def_impl
    def impl(x):
        return jnp.sum(x)

    @total.def_jvp
    def jvp(primals, tangents):
        (x,), (x_dot,) = primals, tangents
        return total(x), x_dot

    yield push(total)

    @total.def_jvp
    def corrected(primals, tangents):
        (x,), (x_dot,) = primals, tangents
        y_dot = x_dot
        y_dot = jnp.sum(y_dot)
        return total(x), y_dot

    yield push(total), (6, 3)


@case(
    RuleWrong,
    """
    scale: the JVP rule returned a wrong tangent for the result.
      got:      float32[]
      expected: float32[3]
      rule:     jvp at FILE:LINE
      write:    y_dot = jnp.broadcast_to(y_dot, y.shape)
    """,
)
def jvp_tangent_not_broadcast():
    scale = Primitive("scale")

    @scale.def_impl
    def impl(x, factor):
        return x * factor

    @scale.def_jvp
    def jvp(primals, tangents):
        (x, factor), (x_dot, factor_dot) = primals, tangents
        return scale(x, factor), factor_dot

    yield lambda x: jax.jvp(lambda factor: scale(jnp.ones_like(x), factor), (2.0,), (1.0,))

    @scale.def_jvp
    def corrected(primals, tangents):
        (x, factor), (x_dot, factor_dot) = primals, tangents
        y, y_dot = scale(x, factor), factor_dot
        y_dot = jnp.broadcast_to(y_dot, y.shape)
        return y, y_dot

    yield lambda x: jax.jvp(lambda factor: scale(jnp.ones_like(x), factor), (2.0,), (1.0,)), ([2, 2, 2], [1, 1, 1])


@case(
    RuleWrong,
    """
    split: the JVP rule returned tangents with a different structure than the results.
      got:      a tuple of 2
      expected: a dict with keys ['high', 'low']
      why:      None stands for a zero
      rule:     jvp at FILE:LINE
      write:    return primals_out, {'high': y_high_dot, 'low': y_low_dot}
    """,
)
def jvp_tangent_structure():
    split = Primitive("split")

    @split.def_impl
    def impl(x):
        return {"low": x - 1, "high": x + 1}

    @split.def_jvp
    def jvp(primals, tangents):
        (x,), (x_dot,) = primals, tangents
        return split(x), (x_dot, x_dot)

    yield push(split)

    @split.def_jvp
    def corrected(primals, tangents):
        (x,), (x_dot,) = primals, tangents
        primals_out, y_high_dot, y_low_dot = split(x), x_dot, x_dot
        return primals_out, {"high": y_high_dot, "low": y_low_dot}

    yield push(split), ({"low": [0, 1, 2], "high": [2, 3, 4]}, {"low": [1, 1, 1], "high": [1, 1, 1]})


@case(
    RuleWrong,
    """
    split: the JVP rule returned a wrong tangent for result['high'].
      got:      float32[1]
      expected: float32[3]
      rule:     jvp at FILE:LINE
      write:    y_high_dot = jnp.broadcast_to(y_high_dot, y_high.shape)
    """,
)
def jvp_tangent_in_a_leaf():
    split = Primitive("split")

    @split.def_impl
    def impl(x):
        return {"low": x - 1, "high": x + 1}

    @split.def_jvp
    def jvp(primals, tangents):
        (x,), (x_dot,) = primals, tangents
        return split(x), {"low": x_dot, "high": x_dot[:1]}

    yield push(split)

    @split.def_jvp
    def corrected(primals, tangents):
        (x,), (x_dot,) = primals, tangents
        y_high, y_high_dot = x + 1, x_dot[:1]
        y_high_dot = jnp.broadcast_to(y_high_dot, y_high.shape)
        return split(x), {"low": x_dot, "high": y_high_dot}

    yield push(split), ({"low": [0, 1, 2], "high": [2, 3, 4]}, {"low": [1, 1, 1], "high": [1, 1, 1]})


@case(
    RuleWrong,
    """
    square: the JVP rule returned a wrong tangent for the result.
      got:      a str
      expected: float32[3]
      rule:     jvp at FILE:LINE
      write:    y_dot = jnp.zeros(y.shape, y.dtype)
    """,
)
def jvp_tangent_no_array():
    square = square_of()

    @square.def_jvp
    def jvp(primals, tangents):
        return square(*primals), "zero"

    yield push(square)

    @square.def_jvp
    def corrected(primals, tangents):
        y = square(*primals)
        y_dot = jnp.zeros(y.shape, y.dtype)
        return y, y_dot

    yield push(square), ([1, 4, 9], [0, 0, 0])


@case(
    RuleWrong,
    """
    rounded: the JVP rule returned a tangent for result[1], which has none.
      got:      float32[3]
      expected: None
      why:      integers, booleans and PRNG keys have no tangents
      rule:     jvp at FILE:LINE
      write:    return primals_out, (y_0_dot, None)
    """,
)
def jvp_tangent_of_an_integer_result():
    rounded = Primitive("rounded")

    @rounded.def_impl
    def impl(x):
        return x, x.astype("int32")

    @rounded.def_jvp
    def jvp(primals, tangents):
        (x,), (x_dot,) = primals, tangents
        return rounded(x), (x_dot, x_dot)

    yield lambda x: jax.jvp(lambda x: rounded(x)[0], (x,), (x,))

    @rounded.def_jvp
    def corrected(primals, tangents):
        (x,), (x_dot,) = primals, tangents
        primals_out, y_0_dot = rounded(x), x_dot
        return primals_out, (y_0_dot, None)

    yield lambda x: jax.jvp(lambda x: rounded(x)[0], (x,), (x,)), ([1, 2, 3], [1, 2, 3])


@case(
    BadCall,
    """
    square: the JVP rule closes over a traced value.
      got:      float32[3] (traced)
      expected: operands, static params and concrete arrays only
      why:      rules are traced once and used in many traces
      rule:     jvp at FILE:LINE
      write:    square(x, value)  # the value as one more operand
    """,
)
def jvp_closes_over_a_tracer():
    def wrong(x):
        square = square_of()
        OUTER["x"] = x

        @square.def_jvp
        def jvp(primals, tangents):
            (z,), (z_dot,) = primals, tangents
            return square(z), 2 * OUTER["x"] * z_dot

        return jax.jit(jax.jvp, static_argnums=0)(square, (x,), (x,))

    yield jax.jit(wrong)

    def right(x):
        square = Primitive("square")

        @square.def_impl
        def impl(x, value):
            return x * x

        @square.def_jvp
        def jvp(primals, tangents):
            (x, value), (x_dot, _) = primals, tangents
            return square(x, value), 2 * value * x_dot

        value = x
        return jax.jvp(lambda x: square(x, value), (x,), (x,))

    yield right, ([1, 4, 9], [2, 8, 18])


@case(
    RuleWrong,
    """
    power: the JVP rule does not accept the arguments it is called with.
      got:      jvp(primals, tangents)
      expected: (primals, tangents, *, exponent)
      why:      every rule gets all operands and every static param
      rule:     jvp at FILE:LINE
      write:    def jvp(primals, tangents, *, exponent):
    """,
)
def jvp_without_a_static_param():
    power = Primitive("power")

    @power.def_impl
    def impl(x, *, exponent=2):
        return x**exponent

    @power.def_jvp
    def jvp(primals, tangents):
        (x,), (x_dot,) = primals, tangents
        return power(x), 2 * x * x_dot

    yield push(power)

    @power.def_jvp
    def jvp(primals, tangents, *, exponent):
        (x,), (x_dot,) = primals, tangents
        return power(x, exponent=exponent), exponent * x ** (exponent - 1) * x_dot

    yield push(power), ([1, 4, 9], [2, 4, 6])


@case(
    RuleWrong,
    """
    product: def_partials must return one partial derivative per operand.
      got:      1
      expected: 2, for x, factor
      why:      None stands for a zero partial derivative
      rule:     partials at FILE:LINE
      write:    return dy_dx, dy_dfactor
    """,
)
def partials_of_wrong_number():
    product = Primitive("product")

    @product.def_impl
    def impl(x, factor):
        return x * factor

    @product.def_partials
    def partials(y, x, factor):
        return factor

    yield lambda x: jax.jvp(product, (x, x), (x, x))

    @product.def_partials
    def corrected(y, x, factor):
        dy_dx, dy_dfactor = factor, x
        return dy_dx, dy_dfactor

    yield lambda x: jax.jvp(product, (x, x), (x, x)), ([1, 4, 9], [2, 8, 18])


@case(
    RuleWrong,
    """
    product: def_partials only works for elementwise operations on arrays, with one result.
      got:      float32[2] for factor
      expected: float32[3]
      rule:     partials at FILE:LINE
      write:    @product.def_jvp
    """,
)
def partials_of_another_size():
    product = Primitive("product")

    @product.def_impl
    def impl(x, factor):
        return x * factor

    @product.def_partials
    def partials(y, x, factor):
        return factor, x[1:]

    yield lambda x: jax.jvp(product, (x, x), (x, x))

    @product.def_jvp
    def jvp(primals, tangents):
        (x, factor), (x_dot, factor_dot) = primals, tangents
        return product(x, factor), x_dot * factor + x * factor_dot

    yield lambda x: jax.jvp(product, (x, x), (x, x)), ([1, 4, 9], [2, 8, 18])


@case(
    RuleWrong,
    """
    product: the JVP rule of operand 'x' returned a wrong tangent for the result.
      got:      float32[]
      expected: float32[3]
      rule:     by_x at FILE:LINE
      write:    y_dot = jnp.broadcast_to(y_dot, y.shape)
    """,
)
def jvp_for_one_operand_wrong():
    product = Primitive("product")

    @product.def_impl
    def impl(x, factor):
        return x * factor

    def by_x(x_dot, y, x, factor):
        return jnp.sum(x_dot * factor)

    product.def_jvp(x=by_x, factor=lambda factor_dot, y, x, factor: x * factor_dot)
    yield lambda x: jax.jvp(lambda x: product(x, 2.0), (x,), (x,))

    def corrected(x_dot, y, x, factor):
        y_dot = jnp.sum(x_dot * factor)
        y_dot = jnp.broadcast_to(y_dot, y.shape)
        return y_dot

    product.def_jvp(x=corrected, factor=lambda factor_dot, y, x, factor: x * factor_dot)
    yield lambda x: jax.jvp(lambda x: product(x, 2.0), (x,), (x,)), ([2, 4, 6], [12, 12, 12])
