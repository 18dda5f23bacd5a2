"""Calls that do not fit the signature."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim import BadCall, Primitive, RuleWrong, primitive
from messages.case import case


@case(
    BadCall,
    """
    scale: the operand 'factor' is missing.
      got:      operands x
      expected: operands x, factor
      rule:     impl at FILE:LINE
      write:    scale(x, factor)
    """,
)
def missing_operand():
    scale = Primitive("scale")

    @scale.def_impl
    def impl(x, factor):
        return x * factor

    yield lambda x: scale(x)
    factor = 2.0
    yield lambda x: scale(x, factor), [2, 4, 6]


@case(
    BadCall,
    """
    scale: unknown keyword 'z'.
      got:      z=...
      expected: operands x, factor; no static params
      rule:     impl at FILE:LINE
      write:    scale(x, factor)
    """,
)
def misnamed_operand():
    scale = Primitive("scale")

    @scale.def_impl
    def impl(x, factor):
        return x * factor

    yield lambda x: scale(x, z=2.0)
    factor = 2.0
    yield lambda x: scale(x, factor), [2, 4, 6]


@case(
    BadCall,
    """
    scale: the operand 'x' is given twice, by position and by name.
      got:      x by position, and x=
      expected: each operand once
      rule:     impl at FILE:LINE
      write:    scale(x, factor)
    """,
)
def operand_by_another_name():
    scale = Primitive("scale")

    @scale.def_impl
    def impl(x, factor):
        return x * factor

    yield lambda x: scale(x, x=2.0)
    factor = 2.0
    yield lambda x: scale(x, factor), [2, 4, 6]


@case(
    BadCall,
    """
    scale: too many operands.
      got:      3 positional arguments
      expected: 2: x, factor
      why:      pass power by keyword
      rule:     impl at FILE:LINE
      write:    scale(x, factor, power=...)
    """,
)
def too_many_operands():
    scale = Primitive("scale")

    @scale.def_impl
    def impl(x, factor, *, power=1):
        return x * factor**power

    factor = 2.0
    yield lambda x: scale(x, factor, 3)
    yield lambda x: scale(x, factor, power=3), [8, 16, 24]


@case(
    BadCall,
    """
    scale: the operand 'factor' is given twice, by position and by name.
      got:      x, factor by position, and factor=
      expected: each operand once
      rule:     impl at FILE:LINE
      write:    scale(x, factor)
    """,
)
def operand_given_twice():
    scale = Primitive("scale")

    @scale.def_impl
    def impl(x, factor):
        return x * factor

    yield lambda x: scale(x, 2.0, factor=2.0)
    factor = 2.0
    yield lambda x: scale(x, factor), [2, 4, 6]


@case(
    BadCall,
    """
    scale: the static param 'power' is missing.
      got:      no static params
      expected: static params power
      rule:     impl at FILE:LINE
      write:    scale(x, power=...)
    """,
)
def missing_static_param():
    scale = Primitive("scale")

    @scale.def_impl
    def impl(x, *, power):
        return x**power

    yield lambda x: scale(x)
    yield lambda x: scale(x, power=2), [1, 4, 9]


@case(
    BadCall,
    """
    scale: unknown keyword 'powre'. Did you mean 'power'?
      got:      powre=...
      expected: operands x, factor; static params power
      rule:     impl at FILE:LINE
      write:    scale(x, factor, power=...)
    """,
)
def unknown_keyword():
    scale = Primitive("scale")

    @scale.def_impl
    def impl(x, factor, *, power=1):
        return x * factor**power

    factor = 2.0
    yield lambda x: scale(x, factor, powre=3)
    yield lambda x: scale(x, factor, power=3), [8, 16, 24]


@case(
    BadCall,
    """
    total: the static param 'axes' is not hashable.
      got:      axes: a list of 1
      expected: a hashable value, such as a number, string or tuple
      why:      static params are part of the cache key of compiled programs
      rule:     impl at FILE:LINE
      write:    axes=tuple(axes)
    """,
)
def unhashable_static_param():
    total = Primitive("total")

    @total.def_impl
    def impl(x, *, axes):
        return jnp.sum(x, axis=axes)

    axes = [0]
    yield lambda x: total(x, axes=axes)
    yield lambda x: total(x, axes=tuple(axes)), 6


@case(
    BadCall,
    """
    power: the static param 'options' is not hashable.
      got:      options: a dict with keys ['exponent']
      expected: a hashable value, such as a number, string or tuple
      why:      static params are part of the cache key of compiled programs
      rule:     impl at FILE:LINE
      write:    options=tuple(sorted(options.items()))
    """,
)
def unhashable_dict_param():
    power = Primitive("power")

    @power.def_impl
    def impl(x, *, options):
        return x ** dict(options)["exponent"]

    options = {"exponent": 2}
    yield lambda x: power(x, options=options)
    yield lambda x: power(x, options=tuple(sorted(options.items()))), [1, 4, 9]


@case(
    BadCall,
    """
    polynomial: the static param 'coefficients' is not hashable.
      got:      coefficients: one array, float32[2]
      expected: a hashable value, such as a number, string or tuple
      why:      static params are part of the cache key of compiled programs
      rule:     impl at FILE:LINE
      write:    coefficients=tuple(coefficients.tolist())
    """,
)
def array_as_static_param():
    polynomial = Primitive("polynomial")

    @polynomial.def_impl
    def impl(x, *, coefficients):
        return sum(c * x**i for i, c in enumerate(coefficients))

    coefficients = np.array([1.0, 2.0])
    yield lambda x: polynomial(x, coefficients=coefficients)
    yield lambda x: polynomial(x, coefficients=tuple(coefficients.tolist())), [3, 5, 7]


@case(
    BadCall,
    """
    scale: the static param 'options' is not hashable.
      got:      options: an Options
      expected: a hashable value, such as a number, string or tuple
      why:      static params are part of the cache key of compiled programs
      rule:     impl at FILE:LINE
      write:    @dataclasses.dataclass(frozen=True)  # on Options, so that its __hash__ matches its __eq__
    """,
)
def unhashable_object_as_static_param():
    class Options:
        def __init__(self, power):
            self.power = power

        def __eq__(self, other):
            return self.power == other.power

    scale = Primitive("scale")

    @scale.def_impl
    def impl(x, *, options):
        return x**options.power

    yield lambda x: scale(x, options=Options(2))

    @dataclasses.dataclass(frozen=True)
    class Hashable:
        power: int

    yield lambda x: scale(x, options=Hashable(2)), [1, 4, 9]


@case(
    BadCall,
    """
    scale: the static param 'factor' is a traced value.
      got:      factor: one array, float32[] (traced)
      expected: a Python value known at trace time
      why:      static params are part of the compiled program
      rule:     impl at FILE:LINE
      write:    def impl(x, factor):  # 'factor' before the `*`: an operand
    """,
)
def traced_static_param():
    scale = Primitive("scale")

    @scale.def_impl
    def impl(x, *, factor):
        return x * factor

    yield jax.jit(lambda x: scale(x, factor=x[1]))

    @scale.def_impl
    def impl(x, factor):
        return x * factor

    yield jax.jit(lambda x: scale(x, factor=x[1])), [2, 4, 6]


@case(
    BadCall,
    """
    reduce: operand 'how' is not an array.
      got:      a str
      expected: an array or a number, in any pytree
      rule:     impl at FILE:LINE
      write:    def impl(x, *, how):  # 'how' after the `*`: a static param
    """,
)
def static_value_as_operand():
    reduce = Primitive("reduce")

    @reduce.def_impl
    def impl(x, how):
        return getattr(jnp, how)(x)

    yield lambda x: reduce(x, "sum")

    @reduce.def_impl
    def impl(x, *, how):
        return getattr(jnp, how)(x)

    yield lambda x: reduce(x, how="sum"), 6


@case(
    BadCall,
    """
    scale: operand 'x' is not an array.
      got:      Ref{float32[3]}
      expected: an array or a number, in any pytree
      why:      mutable refs and hijax types are not supported yet
      rule:     impl at FILE:LINE
      write:    x[...]  # the value it holds
    """,
)
def mutable_ref_as_operand():
    scale = Primitive("scale")

    @scale.def_impl
    def impl(x, factor):
        return x * factor

    yield lambda x: scale(jax.new_ref(x), 2.0)

    def right(value):
        x = jax.new_ref(value)
        return scale(x[...], 2.0)

    yield right, [2, 4, 6]


@case(
    RuleWrong,
    """
    double: the impl recurses without end.
      got:      RecursionError
      expected: a function that does not need itself
      why:      it applies double where that runs the same impl again, or calls itself
      rule:     impl at FILE:LINE
      write:    return result  # computed without double
    """,
)
def impl_that_applies_its_own_operation():
    double = Primitive("double")

    @double.def_impl
    def impl(x):
        return double(x) + x

    yield double

    @double.def_impl
    def corrected(x):
        result = x + x
        return result

    yield double, [2, 4, 6]


@case(
    BadCall,
    """
    times: operand 'self' is not an array.
      got:      a Scaled
      expected: an array or a number, in any pytree
      rule:     times at FILE:LINE
      write:    @jax.tree_util.register_dataclass  # on Scaled: the arrays in it become operands or results
    """,
)
def method_of_a_class_that_is_no_pytree():
    @primitive
    def times(self, x):
        return self.w * x

    @dataclasses.dataclass
    class Scaled:
        w: float
        scaled = times

    yield lambda x: Scaled(2.0).scaled(x)

    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class Corrected:
        w: float
        scaled = times

    yield lambda x: Corrected(2.0).scaled(x), [2, 4, 6]
