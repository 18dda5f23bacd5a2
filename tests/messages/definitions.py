"""Definitions that are refused where they are made."""

from __future__ import annotations

import pickle
import sys
import types

import jax
import jax.numpy as jnp

from jaxprim import BadCall, Primitive, RuleMissing, RuleWrong, primitive
from messages.case import case


def double_of(name="double"):
    double = Primitive(name)

    @double.def_impl
    def impl(x):
        return 2 * x

    return double


@case(
    BadCall,
    """
    double: unknown batching word 'loop'.
      got:      batching='loop'
      expected: 'vmap' | 'sequential' | 'expand_dims' | 'broadcast_all' | 'elementwise'
      defined:  FILE:LINE
      write:    Primitive('double', batching='sequential')
    """,
)
def unknown_batching_word():
    yield lambda x: Primitive("double", batching="loop")
    double = Primitive("double", batching="sequential")
    double.def_impl(lambda x: 2 * x)
    yield jax.vmap(double), [2, 4, 6]


@case(
    BadCall,
    """
    double: def_kernel got an unknown platform.
      got:      platform='gpu'
      expected: 'cpu' | 'cuda' | 'rocm' | 'tpu'
      defined:  FILE:LINE
      write:    @double.def_kernel(platform='cuda')
    """,
)
def unknown_platform():
    double = double_of()
    yield lambda x: double.def_kernel(lambda x: x + x, platform="gpu")

    @double.def_kernel(platform="cuda")
    def kernel(x):
        return x + x

    yield double, [2, 4, 6]


@case(
    BadCall,
    """
    double: def_lowering got an unknown platform.
      got:      platform='nvidia'
      expected: 'cpu' | 'cuda' | 'rocm' | 'tpu'
      defined:  FILE:LINE
      write:    @double.def_lowering(platform='cuda')
    """,
)
def unknown_platform_of_a_lowering():
    double = double_of()
    yield lambda x: double.def_lowering(lambda ctx, x: [x], platform="nvidia")

    @double.def_lowering(platform="cuda")
    def lowering(ctx, x):
        return [x]

    yield double, [2, 4, 6]


@case(
    BadCall,
    """
    double: derive(jvp='finite_differences') is not a derivation.
      got:      jvp from 'finite_differences'
      expected: jvp from one of transpose, vjp, impl
      defined:  FILE:LINE
      write:    double.derive(jvp='transpose')
    """,
)
def unknown_derivation():
    double = double_of()
    yield lambda x: double.derive(jvp="finite_differences")
    double.derive(jvp="transpose")
    yield double, [2, 4, 6]


@case(
    BadCall,
    """
    double: derive(hessian='impl') is not a derivation.
      got:      hessian from 'impl'
      expected: one of abstract_eval, batching, jvp, lowering, transpose, vjp
      defined:  FILE:LINE
      write:    double.derive(jvp='impl')
    """,
)
def derivation_of_an_unknown_rule():
    double = double_of()
    yield lambda x: double.derive(hessian="impl")
    double.derive(jvp="impl")
    yield double, [2, 4, 6]


@case(
    RuleMissing,
    """
    double: forward-mode differentiation (jvp) needs a rule that is missing.
      got:      the rule impl
      expected: a JVP rule
      why:      derive(jvp='transpose') was chosen, but no transpose is given
      rule:     impl at FILE:LINE
      write:    double.derive(jvp='impl')
    """,
)
def derivation_from_what_is_not_given():
    double = double_of()
    yield lambda x: (double.derive(jvp="transpose"), jax.jvp(double, (x,), (x,)))

    double.derive(jvp="impl")
    yield lambda x: jax.jvp(double, (x,), (x,)), ([2, 4, 6], [2, 4, 6])


@case(
    BadCall,
    """
    double: def_jvp takes one rule, or one rule per operand, not both.
      got:      a rule and x=
      defined:  FILE:LINE
      write:    double.def_jvp(rule)
    """,
)
def one_rule_and_rules_per_operand():
    double = double_of()

    def rule(primals, tangents):
        return double(*primals), 2 * tangents[0]

    yield lambda x: double.def_jvp(rule, x=lambda x_dot, y, x: 2 * x_dot)
    double.def_jvp(rule)
    yield lambda x: jax.jvp(double, (x,), (x,)), ([2, 4, 6], [2, 4, 6])


@case(
    BadCall,
    """
    double: def_jvp was given a rule for 'y', which is not an operand.
      got:      y=
      expected: operands x
      rule:     rule at FILE:LINE
      write:    double.def_jvp(x=rule)
    """,
)
def rule_for_an_unknown_operand():
    double = double_of()

    def rule(x_dot, y, x):
        return 2 * x_dot

    yield lambda x: (double.def_jvp(y=rule), jax.jvp(double, (x,), (x,)))
    double.def_jvp(x=rule)
    yield lambda x: jax.jvp(double, (x,), (x,)), ([2, 4, 6], [2, 4, 6])


@case(
    BadCall,
    """
    double: it is declared linear in 'z', which is not an operand.
      got:      linear=('z',)
      expected: some of the operands x
      rule:     transpose at FILE:LINE
      write:    @double.def_transpose(linear=('x',))
    """,
)
def linear_in_an_unknown_operand():
    double = double_of()

    def transpose(y_bar):
        return 2 * y_bar

    yield lambda x: (double.def_transpose(transpose, linear="z"), jax.linear_transpose(double, x)(x))

    @double.def_transpose(linear=("x",))
    def corrected(y_bar):
        return 2 * y_bar

    yield lambda x: jax.linear_transpose(double, x)(x), ([2, 4, 6],)


@case(
    BadCall,
    """
    double: def_jvp needs a function.
      got:      a float
      expected: a function, or no argument when used as a decorator
      defined:  FILE:LINE
      write:    @double.def_jvp
    """,
)
def rule_that_is_no_function():
    double = double_of()
    yield lambda x: double.def_jvp(2.0)

    @double.def_jvp
    def rule(primals, tangents):
        return double(*primals), 2.0 * tangents[0]

    yield lambda x: jax.jvp(double, (x,), (x,)), ([2, 4, 6], [2, 4, 6])


@case(
    pickle.PicklingError,
    """
    double: it cannot be pickled, because it is not an attribute of a module.
      got:      a Primitive made in the function 'double_of' of module 'messages.definitions'
      why:      a Primitive is pickled by module and name
      defined:  FILE:LINE
      write:    double = ...  # at the top level of a module that can be imported
    """,
)
def pickling_a_local_primitive():
    double = double_of()
    yield lambda x: pickle.dumps(double)

    module = types.ModuleType("author")
    sys.modules["author"] = module
    exec('from jaxprim import Primitive\ndouble = Primitive("double")\ndouble.def_impl(lambda x: 2 * x)', vars(module))
    yield lambda x: pickle.loads(pickle.dumps(module.double))(x), [2, 4, 6]
    del sys.modules["author"]


@case(
    BadCall,
    """
    Primitive needs a name.
      got:      double at FILE:LINE
      expected: a string
      defined:  FILE:LINE
      write:    @primitive  # on the function, which becomes the impl
    """,
)
def name_that_is_no_string():
    def double(x):
        return 2 * x

    yield lambda x: Primitive(double)

    @primitive
    def right(x):
        return 2 * x

    yield right, [2, 4, 6]


@case(
    RuleWrong,
    """
    sort: the impl needs the value of an operand, but the operand is traced.
      got:      operands a, axis
      expected: operands used only as data; a value that decides branches or shapes must be a static param, after a `*`
      why:      an operation is compiled once for all values; a host function gets the values and may branch on them
      rule:     sort at FILE:LINE
      write:    def sort(a, *, axis=-1):
    """,
)
def operand_that_decides_about_code():
    sorting = Primitive("sort")

    @sorting.def_impl
    def sort(a, axis=-1):
        return jnp.sort(a, axis)

    yield sorting

    @sorting.def_impl
    def sort(a, *, axis=-1):
        return jnp.sort(a, axis)

    yield sorting, [1, 2, 3]


@case(
    RuleWrong,
    """
    halve: the impl needs the value of an operand, but the operand is traced.
      got:      operands x
      expected: operands used only as data; a value that decides branches or shapes must be a static param, after a `*`
      why:      an operation is compiled once for all values; a host function gets the values and may branch on them
      rule:     impl at FILE:LINE
      write:    @halve.def_host
    """,
)
def impl_that_branches_on_values():
    halve = Primitive("halve")

    @halve.def_impl
    def impl(x):
        return x / 2 if x[0] > 0 else x

    yield halve
    halve = Primitive("halve")
    halve.def_abstract_eval(lambda x: x)

    @halve.def_host
    def on_host(x):
        return x / 2 if x[0] > 0 else x

    yield halve, [0.5, 1, 1.5]
