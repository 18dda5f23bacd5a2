"""Taylor mode: JAX's jet rule of the main primitive.

from jvp    the JVP rule, recursively: y' (t) = JVP(x(t), x'(t)), so that the series of y' is a jet of one order less
from impl   the jet of the impl
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxprim import _jax
from jaxprim._calls import Call
from jaxprim.derive import implementation
from jaxprim.derive.table import choose

Values = Sequence[Any]


def jet(primals: Values, series: Sequence[Values], *, call: Call) -> tuple[list[Any], list[list[Any]]]:
    """JAX's jet rule: results, and the series of each."""
    if choose(call.rules, "jvp").source == "impl":
        program = implementation.program(call, [_jax.typeof(x) for x in primals])
        return _jax.jet_of(lambda *xs: _jax.evaluate(program, *xs), primals, series)
    outs = call.rules.primitive.bind(*primals, call=call)
    velocity = [terms[0] for terms in series]
    order = len(series[0])

    def push(*args: Any) -> list[Any]:
        _, dots = _jax.jvp_flat(
            lambda *xs: call.rules.primitive.bind(*xs, call=call), args[: len(primals)], args[len(primals) :]
        )
        return dots

    if order == 1:
        return outs, [[dot] for dot in push(*primals, *velocity)]
    tails = [*(terms[:-1] for terms in series), *(terms[1:] for terms in series)]
    first, rest = _jax.jet_of(push, [*primals, *velocity], tails)
    return outs, [[dot, *terms] for dot, terms in zip(first, rest, strict=True)]
