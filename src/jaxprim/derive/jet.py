"""Taylor mode: JAX's jet rule of the main primitive.

from jvp    the JVP rule, recursively: y'(t) = JVP(x(t), x'(t)), so the series of y' is a jet of one order less
from impl   the jet of the impl
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from jaxprim import _jax
from jaxprim._calls import Call
from jaxprim._masks import expand, select
from jaxprim.derive.programs import impl_program
from jaxprim.derive.table import choose

Values = Sequence[Any]


def jet_rule(primals: Values, series: Sequence[Values], *, call: Call, **_: Any) -> tuple[list[Any], list[list[Any]]]:
    """JAX's jet rule: the results, and for each its series of Taylor coefficients y_k = y^(k) / k!, from k = 1 on."""
    if choose(call.rules, "jvp").source == "impl":
        program = impl_program(call, [_jax.typeof(x) for x in primals])
        return _jax.jet_of(lambda *xs: _jax.evaluate(program, *xs), primals, series)
    perturbed = [_jax.has_tangent(_jax.typeof(x)) for x in primals]
    outs = call.rules.primitive.bind(*primals, call=call)
    found = _jet_of_jvp(call, primals, perturbed, select(series, perturbed))
    has_tangent = [_jax.has_tangent(_jax.typeof(out)) for out in outs]
    order = len(series[0])
    return outs, expand(select(found, has_tangent), has_tangent, lambda i: [_zero(outs[i])] * order)


def _jet_of_jvp(call: Call, primals: Values, perturbed: Sequence[bool], series: Sequence[Values]) -> list[list[Any]]:
    """The series of the results, from the series of their derivative.

    With Taylor coefficients x(t) = sum_k x_k t^k, the derivative has the coefficients x'_k = (k + 1) x_(k+1). The JVP
    rule gives y'(t) from x(t) and x'(t), to one order less. Then y_(k+1) = y'_k / (k + 1).

    A series leaves out its first coefficient: ``terms[k]`` is x_(k+1). So x'_0 = x_1 = ``terms[0]`` is the velocity,
    and x'_(k+1) = (k + 2) x_(k+2) = ``(k + 2) * terms[k + 1]``.
    """
    count = len(series)

    def push(*args: Any) -> list[Any]:
        def apply(*xs: Any) -> list[Any]:
            return call.rules.primitive.bind(*expand(xs, perturbed, primals.__getitem__), call=call)

        outs, dots = _jax.jvp_flat(apply, args[:count], args[count:])
        return [dot if _jax.has_tangent(_jax.typeof(out)) else _zero(out) for out, dot in zip(outs, dots, strict=True)]

    xs, velocity = select(primals, perturbed), [terms[0] for terms in series]
    if len(series[0]) == 1:
        return [[dot] for dot in push(*xs, *velocity)]
    accelerations = [[(k + 2) * term for k, term in enumerate(terms[1:])] for terms in series]
    first, rest = _jax.jet_of(push, [*xs, *velocity], [*(terms[:-1] for terms in series), *accelerations])
    return [[dot, *(term / (k + 2) for k, term in enumerate(terms))] for dot, terms in zip(first, rest, strict=True)]


def _zero(out: Any) -> Any:
    return jnp.zeros(out.shape, out.dtype)
