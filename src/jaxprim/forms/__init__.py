"""The forms in which authors may write a rule. Each is converted to a canonical form, the only one that `derive` sees.

- JVP: ``fn(primals, tangents, perturbed, params) -> (primals_out, tangents_out)``
- VJP: ``fn(primals, perturbed, params) -> (primals_out, pullback)`` with ``pullback(cotangents) -> cotangents``
- transpose: ``fn(cotangents, other_operands, types, params) -> cotangents``; ``types()`` are those of linear operands
"""

from __future__ import annotations

from jaxprim.forms.as_jax import HIDDEN, Hidden, decorated, implementation, jvp_as_jax, no_function, vjp_as_jax
from jaxprim.forms.closing import closing
from jaxprim.forms.function import WithFunctions, function_rule, refuse_functions, refuse_other_names, with_functions
from jaxprim.forms.implicit import SolverOptions, implicit_rules
from jaxprim.forms.partials import partials_rules
from jaxprim.forms.per_operand import jvp_per_operand, vjp_per_operand
from jaxprim.forms.sharding import sharding_rule
from jaxprim.forms.whole import jvp_rule, transpose_rule, vjp_pair_rule, vjp_rule

__all__ = [
    "HIDDEN",
    "Hidden",
    "SolverOptions",
    "WithFunctions",
    "closing",
    "decorated",
    "function_rule",
    "implementation",
    "implicit_rules",
    "jvp_as_jax",
    "jvp_per_operand",
    "jvp_rule",
    "no_function",
    "partials_rules",
    "refuse_functions",
    "refuse_other_names",
    "sharding_rule",
    "transpose_rule",
    "vjp_as_jax",
    "vjp_pair_rule",
    "vjp_per_operand",
    "vjp_rule",
    "with_functions",
]
