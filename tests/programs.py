"""Files that the command line and the pytest plugin are tried on."""

from __future__ import annotations

RIGHT = """
import jax.numpy as jnp
from jaxprim import Primitive

print("the file prints")
scale = Primitive("scale")

@scale.def_impl
def _(x, factor):
    return x * factor

@scale.def_jvp
def _(primals, tangents):
    print("the rule prints")
    (x, factor), (x_dot, factor_dot) = primals, tangents
    return scale(x, factor), x_dot * factor + x * factor_dot
"""
EXAMPLES = """
@scale.def_examples
def _():
    return [(jnp.array([1.0, 2.0, 3.0]), 2.0)]
"""
WRONG = RIGHT.replace("x * factor_dot", "2 * x * factor_dot") + EXAMPLES

EXPECTED = '[tool.jaxprim.expected-failures.scale]\n{} = "wrong on purpose"\n'
