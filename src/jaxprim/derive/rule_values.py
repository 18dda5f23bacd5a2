"""The value that a derivative rule returns, as a program.

A rule returns the value y beside the tangents or the pullback. Mostly it applies the operation itself for it, and then
the operation is bound, which has all its rules. A rule may also compute y in another way: the function of a surrogate may
return its operand, and a solver may iterate further. Then y is what the rule writes, in every context, and the second
derivative is that of the written y, as with `custom_jvp` and `custom_vjp`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxprim import _jax
from jaxprim._calls import Call
from jaxprim._levels import axes_of, stack
from jaxprim._masks import select
from jaxprim._programs import is_application
from jaxprim.derive.site import Site


def values_of(site: Site, program: Any) -> Any | None:
    """The program (n operands) -> m results, as a rule writes them.

    Args:
        site: where the rule was traced.
        program: the traced rule, (n operands, others) -> (m results, others).

    Returns:
        None if the results are those of the operation itself. None also if they are computed together with tangents, as
        by a kernel that gives both: they cannot be had without the tangents, so the operation has to give them.
    """
    outputs, count = len(site.results.avals), len(site.avals)
    if is_application(program, outputs, count, lambda eqn: _is_operation(eqn, site.call)):
        return None
    smaller, used = _jax.dce(program, [index < outputs for index in range(len(_jax.out_avals(program)))])
    if any(used[count:]):
        return None
    run = lambda *operands: _jax.evaluate(smaller, *select(operands, used[:count]))
    return _jax.trace(run, site.avals, f"{site.call.rules.name}_value")


def _is_operation(eqn: Any, call: Call) -> bool:
    """Whether an equation applies the operation of a call. `derive` may have chosen another implementation for the call."""
    if eqn.primitive is not call.rules.primitive:
        return False
    other: Call = eqn.params["call"]
    return other is call or (call.using is not None and other.by(call.using) is call)


def bind_value(call: Call, site: Site, values: Any | None, operands: Sequence[Any]) -> list[Any]:
    """The results of a call, by the program of `values_of` or by the operation itself."""
    if values is None:
        return call.rules.primitive.bind(*operands, call=call)
    if call.levels:
        with axes_of(call.levels):
            values = call.rules.cache.get(("values", site, call.levels), lambda: stack(values, call.levels))
    return _jax.evaluate(values, *operands)
