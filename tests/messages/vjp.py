"""VJP rules that return what does not fit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

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


def scale_of(name="scale"):
    scale = Primitive(name)

    @scale.def_impl
    def impl(x, factor):
        return x * factor

    return scale


def gradient(op):
    return jax.grad(lambda x: jnp.sum(op(x)))


def gradients(op):
    return lambda x: jax.grad(lambda x, factor: jnp.sum(op(x, factor)), (0, 1))(x, 2.0)


@case(
    RuleWrong,
    """
    square: the VJP rule must return (output, pullback) or (output, residuals, pullback).
      got:      a function
      expected: a tuple of 2 or 3 whose last entry is a function
      rule:     vjp at FILE:LINE
      write:    return output, pullback
    """,
)
def vjp_not_a_pair():
    square = square_of()

    @square.def_vjp
    def vjp(primals):
        (x,) = primals
        return lambda y_bar: 2 * x * y_bar

    yield gradient(square)

    @square.def_vjp
    def corrected(primals):
        (x,) = primals
        output, pullback = square(x), lambda y_bar: 2 * x * y_bar
        return output, pullback

    yield gradient(square), [2, 4, 6]


@case(
    RuleWrong,
    """
    square: the VJP rule must return (output, pullback) or (output, residuals, pullback).
      got:      a tuple of 2: float32[3]; float32[3]
      expected: a tuple of 2 or 3 whose last entry is a function
      rule:     vjp at FILE:LINE
      write:    return output, pullback
    """,
)
def vjp_returns_a_gradient():
    square = square_of()

    @square.def_vjp
    def vjp(primals):
        (x,) = primals
        return square(x), 2 * x

    yield gradient(square)

    @square.def_vjp
    def corrected(primals):
        (x,) = primals
        output, pullback = square(x), lambda y_bar: 2 * x * y_bar
        return output, pullback

    yield gradient(square), [2, 4, 6]


@case(
    RuleWrong,
    """
    both: the VJP rule returned its results as separate entries.
      got:      a tuple of 3: float32[3]; float32[3]; a function
      expected: a tuple of 2: the output and the pullback; the output has the structure of the operation's results
      rule:     vjp at FILE:LINE
      write:    return (y_0, y_1), pullback
    """,
)
def vjp_flattened_results():
    both = Primitive("both")

    @both.def_impl
    def impl(x):
        return 2 * x, 3 * x

    @both.def_vjp
    def vjp(primals):
        (x,) = primals
        return 2 * x, 3 * x, lambda bars: 2 * bars[0] + 3 * bars[1]

    yield gradient(lambda x: both(x)[0])

    @both.def_vjp
    def corrected(primals):
        (x,) = primals
        y_0, y_1, pullback = 2 * x, 3 * x, lambda bars: 2 * bars[0] + 3 * bars[1]
        return (y_0, y_1), pullback

    yield gradient(lambda x: both(x)[0]), [2, 2, 2]


@case(
    RuleWrong,
    """
    three: the VJP rule returned its results as separate entries.
      got:      a tuple of 4: float32[3]; float32[3]; float32[3]; a function
      expected: a tuple of 2: the output and the pullback; the output has the structure of the operation's results
      rule:     vjp at FILE:LINE
      write:    return (y_0, y_1, y_2), pullback
    """,
)
def vjp_three_flattened_results():
    three = Primitive("three")

    @three.def_impl
    def impl(x):
        return x, 2 * x, 3 * x

    @three.def_vjp
    def vjp(primals):
        (x,) = primals
        return x, 2 * x, 3 * x, lambda bars: bars[0] + 2 * bars[1] + 3 * bars[2]

    yield gradient(lambda x: three(x)[2])

    @three.def_vjp
    def corrected(primals):
        (x,) = primals
        y_0, y_1, y_2, pullback = x, 2 * x, 3 * x, lambda bars: bars[0] + 2 * bars[1] + 3 * bars[2]
        return (y_0, y_1, y_2), pullback

    yield gradient(lambda x: three(x)[2]), [3, 3, 3]


@case(
    RuleWrong,
    """
    square: the pullback of the VJP rule must take (cotangents) or (residuals, cotangents).
      got:      pullback(*bars)
      expected: one or two required positional arguments, no *args
      why:      the cotangents of several results arrive as one tuple
      rule:     vjp at FILE:LINE
      write:    def pullback(y_bar):
    """,
)
def pullback_takes_any_arguments():
    square = square_of()

    @square.def_vjp
    def vjp(primals):
        (x,) = primals

        def pullback(*bars):
            return 2 * x * bars[0]

        return square(x), pullback

    yield gradient(square)

    @square.def_vjp
    def corrected(primals):
        (x,) = primals

        def pullback(y_bar):
            return 2 * x * y_bar

        return square(x), pullback

    yield gradient(square), [2, 4, 6]


@case(
    RuleWrong,
    """
    both: the pullback of the VJP rule must take (cotangents) or (residuals, cotangents).
      got:      pullback(residuals, y1_bar, y2_bar)
      expected: one or two required positional arguments, no *args
      why:      the cotangents of several results arrive as one tuple
      rule:     vjp at FILE:LINE
      write:    def pullback(residuals, y_bar):
    """,
)
def pullback_of_three_arguments():
    both = Primitive("both")

    @both.def_impl
    def impl(x):
        return 2 * x, 3 * x

    @both.def_vjp
    def vjp(primals):
        def pullback(residuals, y1_bar, y2_bar):
            return 2 * y1_bar + 3 * y2_bar

        return both(*primals), pullback

    yield gradient(lambda x: both(x)[0])

    @both.def_vjp
    def corrected(primals):
        def pullback(residuals, y_bar):
            y1_bar, y2_bar = y_bar
            return 2 * y1_bar + 3 * y2_bar

        return both(*primals), pullback

    yield gradient(lambda x: both(x)[0]), [2, 2, 2]


@case(
    RuleWrong,
    """
    square: the VJP rule returns residuals, but its pullback does not take them.
      got:      pullback(y_bar)
      expected: two required positional arguments
      why:      a pullback that comes with residuals is called as pullback(residuals, cotangents)
      rule:     vjp at FILE:LINE
      write:    def pullback(residuals, y_bar):
    """,
)
def pullback_without_residuals():
    square = square_of()

    @square.def_vjp
    def vjp(primals):
        (x,) = primals

        def pullback(y_bar):
            return 2 * x * y_bar

        return square(x), x, pullback

    yield gradient(square)

    @square.def_vjp
    def corrected(primals):
        (x,) = primals

        def pullback(residuals, y_bar):
            return 2 * residuals * y_bar

        return square(x), x, pullback

    yield gradient(square), [2, 4, 6]


@case(
    RuleWrong,
    """
    square: the forward function of the VJP rule must return (output, residuals).
      got:      one array, float32[3]
      expected: a tuple of 2
      rule:     fwd at FILE:LINE
      write:    return output, residuals
    """,
)
def forward_without_residuals():
    square = square_of()

    def fwd(x):
        return x * x

    def bwd(x, y_bar):
        return (2 * x * y_bar,)

    square.def_vjp(fwd, bwd)
    yield gradient(square)

    def corrected(x):
        output, residuals = x * x, x
        return output, residuals

    square.def_vjp(corrected, bwd)
    yield gradient(square), [2, 4, 6]


@case(
    RuleWrong,
    """
    square: the VJP rule returned the result with a different type than the operation's.
      got:      float16[3]
      expected: float32[3]
      rule:     vjp at FILE:LINE
      write:    y = y.astype(x.dtype)
    """,
)
def vjp_output_dtype():
    square = square_of()

    @square.def_vjp
    def vjp(primals):
        (x,) = primals
        return square(x).astype("float16"), lambda y_bar: 2 * x * y_bar

    yield gradient(square)

    @square.def_vjp
    def corrected(primals):
        (x,) = primals
        y = square(x).astype("float16")
        y = y.astype(x.dtype)
        return y, lambda y_bar: 2 * x * y_bar

    yield gradient(square), [2, 4, 6]


@case(
    RuleWrong,
    """
    both: the VJP rule returned primal outputs with a different structure than the operation's results.
      got:      one array, float32[3]
      expected: a tuple of 2
      rule:     vjp at FILE:LINE
      write:    return (y_0, y_1), pullback
    """,
)
def vjp_output_structure():
    both = Primitive("both")

    @both.def_impl
    def impl(x):
        return 2 * x, 3 * x

    @both.def_vjp
    def vjp(primals):
        (x,) = primals
        return 2 * x, lambda bars: 2 * bars[0] + 3 * bars[1]

    yield gradient(lambda x: both(x)[0])

    @both.def_vjp
    def corrected(primals):
        (x,) = primals
        y_0, y_1, pullback = 2 * x, 3 * x, lambda bars: 2 * bars[0] + 3 * bars[1]
        return (y_0, y_1), pullback

    yield gradient(lambda x: both(x)[0]), [2, 2, 2]


@case(
    RuleWrong,
    """
    square: the VJP rule returned a wrong cotangent for x.
      got:      float16[3]
      expected: float32[3]
      rule:     vjp at FILE:LINE
      write:    x_bar = x_bar.astype(x.dtype)
    """,
)
def cotangent_dtype():
    square = square_of()

    @square.def_vjp
    def vjp(primals):
        (x,) = primals
        return square(x), lambda y_bar: (2 * x * y_bar).astype("float16")

    yield gradient(square)

    @square.def_vjp
    def corrected(primals):
        (x,) = primals

        def pullback(y_bar):
            x_bar = (2 * x * y_bar).astype("float16")
            x_bar = x_bar.astype(x.dtype)
            return x_bar

        return square(x), pullback

    yield gradient(square), [2, 4, 6]


@case(
    RuleWrong,
    """
    wave: the VJP rule returned a wrong cotangent for x.
      got:      complex64[3]
      expected: float32[3]
      rule:     vjp at FILE:LINE
      write:    x_bar = x_bar.real
    """,
)
def complex_cotangent_for_a_real_operand():
    wave = Primitive("wave")

    @wave.def_impl
    def impl(x):
        return jax.lax.complex(x, 2 * x)

    @wave.def_vjp
    def vjp(primals):
        return wave(*primals), lambda y_bar: y_bar * np.complex64(1 + 2j)

    yield gradient(lambda x: wave(x).real)

    @wave.def_vjp
    def corrected(primals):
        def pullback(y_bar):
            x_bar = y_bar * np.complex64(1 + 2j)
            x_bar = x_bar.real
            return x_bar

        return wave(*primals), pullback

    yield gradient(lambda x: wave(x).real), [1, 1, 1]


@case(
    RuleWrong,
    """
    square: the VJP rule returned a wrong cotangent for x.
      got:      int32[3]
      expected: float32[3]
      rule:     vjp at FILE:LINE
      write:    x_bar = x_bar.astype(x.dtype)
    """,
)
def integer_cotangent():
    square = square_of()

    @square.def_vjp
    def vjp(primals):
        (x,) = primals
        return square(x), lambda y_bar: (2 * x * y_bar).astype("int32")

    yield gradient(square)

    @square.def_vjp
    def corrected(primals):
        (x,) = primals

        def pullback(y_bar):
            x_bar = (2 * x * y_bar).astype("int32")
            x_bar = x_bar.astype(x.dtype)
            return x_bar

        return square(x), pullback

    yield gradient(square), [2, 4, 6]


@case(
    RuleWrong,
    """
    scale: the VJP rule returned a wrong cotangent for factor.
      got:      float32[3]
      expected: float32[]
      rule:     vjp at FILE:LINE
      write:    factor_bar = jnp.sum(factor_bar)
    """,
)
def cotangent_not_summed():
    scale = scale_of()

    @scale.def_vjp
    def vjp(primals):
        x, factor = primals
        return scale(x, factor), lambda y_bar: (y_bar * factor, y_bar * x)

    yield gradients(scale)

    @scale.def_vjp
    def corrected(primals):
        x, factor = primals

        def pullback(y_bar):
            factor_bar = y_bar * x
            factor_bar = jnp.sum(factor_bar)
            return y_bar * factor, factor_bar

        return scale(x, factor), pullback

    yield gradients(scale), ([2, 2, 2], 6)


@case(
    RuleWrong,
    """
    total: the VJP rule returned a wrong cotangent for x.
      got:      float32[]
      expected: float32[3]
      rule:     vjp at FILE:LINE
      write:    x_bar = jnp.broadcast_to(x_bar, x.shape)
    """,
)
def cotangent_not_broadcast():
    total = Primitive("total")

    @total.def_impl
    def impl(x):
        return jnp.sum(x)

    @total.def_vjp
    def vjp(primals):
        return total(*primals), lambda y_bar: y_bar

    yield jax.grad(total)

    @total.def_vjp
    def corrected(primals):
        (x,) = primals

        def pullback(y_bar):
            x_bar = y_bar
            x_bar = jnp.broadcast_to(x_bar, x.shape)
            return x_bar

        return total(x), pullback

    yield jax.grad(total), [1, 1, 1]


@case(
    RuleWrong,
    """
    scale: the VJP rule returned cotangents with a different structure than the operands.
      got:      one array, float32[3]
      expected: a tuple of 2
      why:      None stands for a zero
      rule:     vjp at FILE:LINE
      write:    return x_bar, factor_bar
    """,
)
def too_few_cotangents():
    scale = scale_of()

    @scale.def_vjp
    def vjp(primals):
        x, factor = primals
        return scale(x, factor), lambda y_bar: y_bar * factor

    yield gradients(scale)

    @scale.def_vjp
    def corrected(primals):
        x, factor = primals

        def pullback(y_bar):
            x_bar, factor_bar = y_bar * factor, jnp.sum(y_bar * x)
            return x_bar, factor_bar

        return scale(x, factor), pullback

    yield gradients(scale), ([2, 2, 2], 6)


@case(
    RuleWrong,
    """
    square: the VJP rule returned cotangents with a different structure than the operands.
      got:      a tuple of 2
      expected: one array
      why:      None stands for a zero
      rule:     vjp at FILE:LINE
      write:    return x_bar
    """,
)
def too_many_cotangents():
    square = square_of()

    @square.def_vjp
    def vjp(primals):
        (x,) = primals
        return square(x), lambda y_bar: (2 * x * y_bar, None)

    yield gradient(square)

    @square.def_vjp
    def corrected(primals):
        (x,) = primals

        def pullback(y_bar):
            x_bar = 2 * x * y_bar
            return x_bar

        return square(x), pullback

    yield gradient(square), [2, 4, 6]


@case(
    RuleWrong,
    """
    linear: the VJP rule returned cotangents with a different structure than the operands.
      got:      a tuple of 2, at [0]
      expected: a dict with keys ['b', 'w']
      why:      None stands for a zero
      rule:     vjp at FILE:LINE
      write:    return {'b': params_b_bar, 'w': params_w_bar}, x_bar
    """,
)
def cotangents_of_another_tree():
    linear = Primitive("linear")

    @linear.def_impl
    def impl(params, x):
        return params["w"] * x + params["b"]

    @linear.def_vjp
    def vjp(primals):
        params, x = primals
        return linear(params, x), lambda y_bar: ((y_bar * x, y_bar), y_bar * params["w"])

    def loss(op):
        return lambda x: jax.grad(lambda params: jnp.sum(op(params, x)))({"w": x, "b": x})

    yield loss(linear)

    @linear.def_vjp
    def corrected(primals):
        params, x = primals

        def pullback(y_bar):
            params_w_bar, params_b_bar, x_bar = y_bar * x, y_bar, y_bar * params["w"]
            return {"b": params_b_bar, "w": params_w_bar}, x_bar

        return linear(params, x), pullback

    yield loss(linear), {"b": [1, 1, 1], "w": [1, 2, 3]}


@case(
    RuleWrong,
    """
    power: the VJP rule returned cotangents with a different structure than the operands.
      got:      one array, float32[3]
      expected: a tuple of 2
      why:      None stands for a zero
      rule:     vjp at FILE:LINE
      write:    return x_bar, n_bar
    """,
)
def no_cotangent_for_an_integer_operand():
    power = Primitive("power")

    @power.def_impl
    def impl(x, n):
        return x ** n.astype("float32")

    @power.def_vjp
    def vjp(primals):
        x, n = primals
        return power(x, n), lambda y_bar: 2 * x * y_bar

    yield gradient(lambda x: power(x, jnp.int32(2)))

    @power.def_vjp
    def corrected(primals):
        x, n = primals

        def pullback(y_bar):
            x_bar, n_bar = 2 * x * y_bar, y_bar
            return x_bar, n_bar

        return power(x, n), pullback

    yield gradient(lambda x: power(x, jnp.int32(2))), [2, 4, 6]


@case(
    BadCall,
    """
    square: the VJP rule closes over a traced value.
      got:      float32[3] (traced)
      expected: operands, static params and concrete arrays only
      why:      rules are traced once and used in many traces
      rule:     vjp at FILE:LINE
      write:    square(x, value)  # the value as one more operand
    """,
)
def vjp_closes_over_a_tracer():
    def wrong(x):
        square = square_of()
        OUTER["x"] = x

        @square.def_vjp
        def vjp(primals):
            (z,) = primals
            return square(z), lambda z_bar: 2 * OUTER["x"] * z_bar

        return gradient(square)(x)

    yield jax.jit(wrong)

    def right(x):
        square = Primitive("square")

        @square.def_impl
        def impl(x, value):
            return x * x

        @square.def_vjp
        def vjp(primals):
            x, value = primals
            return square(x, value), lambda y_bar: (2 * value * y_bar, None)

        value = x
        return gradient(lambda x: square(x, value))(x)

    yield jax.jit(right), [2, 4, 6]


@case(
    RuleWrong,
    """
    power: the VJP rule does not accept the arguments it is called with.
      got:      vjp(primals)
      expected: (primals, *, exponent)
      why:      every rule gets all operands and every static param
      rule:     vjp at FILE:LINE
      write:    def vjp(primals, *, exponent):
    """,
)
def vjp_without_a_static_param():
    power = Primitive("power")

    @power.def_impl
    def impl(x, *, exponent=2):
        return x**exponent

    @power.def_vjp
    def vjp(primals):
        (x,) = primals
        return power(x), lambda y_bar: 2 * x * y_bar

    yield gradient(power)

    @power.def_vjp
    def vjp(primals, *, exponent):
        (x,) = primals
        return power(x, exponent=exponent), lambda y_bar: exponent * x ** (exponent - 1) * y_bar

    yield gradient(power), [2, 4, 6]


@case(
    RuleWrong,
    """
    scale: the VJP rule of operand 'factor' returned a wrong cotangent for factor.
      got:      float32[3]
      expected: float32[]
      rule:     by_factor at FILE:LINE
      write:    factor_bar = jnp.sum(factor_bar)
    """,
)
def vjp_for_one_operand_wrong():
    scale = scale_of()

    def by_x(y_bar, y, x, factor):
        return y_bar * factor

    def by_factor(y_bar, y, x, factor):
        return y_bar * x

    scale.def_vjp(x=by_x, factor=by_factor)
    yield gradients(scale)

    def corrected(y_bar, y, x, factor):
        factor_bar = y_bar * x
        factor_bar = jnp.sum(factor_bar)
        return factor_bar

    scale.def_vjp(x=by_x, factor=corrected)
    yield gradients(scale), ([2, 2, 2], 6)


@case(
    RuleWrong,
    """
    total: the transpose rule returned a wrong cotangent for x.
      got:      float32[]
      expected: float32[3]
      rule:     transpose at FILE:LINE
      write:    x_bar = jnp.broadcast_to(x_bar, avals[0].shape)
    """,
)
def transpose_of_wrong_shape():
    total = Primitive("total")

    @total.def_impl
    def impl(x):
        return jnp.sum(x)

    @total.def_transpose(linear="x")
    def transpose(y_bar):
        return y_bar

    yield jax.grad(total)

    @total.def_transpose(linear="x")
    def corrected(y_bar, avals):
        x_bar = y_bar
        x_bar = jnp.broadcast_to(x_bar, avals[0].shape)
        return x_bar

    yield jax.grad(total), [1, 1, 1]


@case(
    RuleWrong,
    """
    add: the transpose rule returned cotangents with a different structure than the linear operands.
      got:      one array, float32[3]
      expected: a tuple of 2
      why:      None stands for a zero
      rule:     transpose at FILE:LINE
      write:    return x_bar, y_bar
    """,
)
def transpose_of_wrong_number():
    add = Primitive("add")

    @add.def_impl
    def impl(x, y):
        return x + y

    @add.def_transpose(linear=("x", "y"))
    def transpose(z_bar):
        return z_bar

    yield lambda x: jax.linear_transpose(add, x, x)(x)

    @add.def_transpose(linear=("x", "y"))
    def corrected(z_bar):
        x_bar, y_bar = z_bar, z_bar
        return x_bar, y_bar

    yield lambda x: jax.linear_transpose(add, x, x)(x), ([1, 2, 3], [1, 2, 3])


@case(
    RuleWrong,
    """
    scale: the backward function of the VJP rule does not accept the arguments it is called with.
      got:      bwd(power, residuals, y_bar)
      expected: (residuals, cotangents)
      why:      it gets what fwd returned as residuals, and no static params: return those that it needs from fwd
      rule:     bwd at FILE:LINE
      write:    def bwd(residuals, cotangents):
    """,
)
def bwd_that_takes_static_params():
    scale = Primitive("scale")

    @scale.def_impl
    def impl(x, *, power):
        return power * x

    def bwd(power, residuals, y_bar):
        return (power * y_bar,)

    scale.def_vjp(lambda x, *, power: (scale(x, power=power), None), bwd)
    yield gradient(lambda x: scale(x, power=3))

    def bwd(residuals, cotangents):
        return (residuals * cotangents,)

    scale.def_vjp(lambda x, *, power: (scale(x, power=power), power), bwd)
    yield gradient(lambda x: scale(x, power=3)), [3, 3, 3]
