"""Files that the command line and the pytest plugin are tried on, and a way to run a command."""

from __future__ import annotations

from click.testing import CliRunner, Result

from jaxprim.cli import main

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


def run(*arguments: str) -> Result:
    """Run a command of the command line in this process."""
    return CliRunner().invoke(main, list(arguments))
