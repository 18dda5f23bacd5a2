"""Residuals that a VJP rule names for the policies of ``jax.checkpoint``.

``checkpoint_name(r, "lu")`` in a VJP rule lets a policy say that r is saved, offloaded or computed again. By default
`jax.checkpoint` differentiates forward, and transposes. So the names must stand beside the value there: the forward half
of the rule computes value and residuals, and the pushforward takes the residuals besides,

    y, r = forward(x)        x, r, x_dot -> J(x) x_dot        transposed: r, y_bar -> J(x)^T y_bar

To look for names, the VJP rule must be traced. That is only done for a rule whose code may reach ``checkpoint_name``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import CodeType, FunctionType
from typing import Any

from jax.ad_checkpoint import checkpoint_name

from jaxprim import _jax
from jaxprim._calls import Call
from jaxprim._levels import Level
from jaxprim._linear import LinearMap, apply
from jaxprim._masks import Mask, select
from jaxprim._rules import Rule
from jaxprim.derive.site import Site, tangent_avals
from jaxprim.derive.traced_vjp import TracedVjp, run_forward, traced_vjp

Values = Sequence[Any]

# How many functions of the author's are read, from the rule on.
_MOST = 200


def named_residuals(call: Call, site: Site) -> TracedVjp | None:
    """The traced VJP rule at a site, if its author gave it and it names residuals."""
    rules = call.rules
    rule = rules.given.get("vjp")
    if rule is None or not rules.cache.get(("may name", rule), lambda: (may_name(rule),))[0]:
        return None
    found = traced_vjp(call, site)
    names = rules.cache.get(("names", site), lambda: _jax.residual_names(found.forward))
    rules.residual_names.update(dict.fromkeys(names))
    return found if names else None


def by_named(
    call: Call, site: Site, found: TracedVjp, primals: Values, tangents: Values, program: Any, nonzero: Mask, uses: bool
) -> tuple[list[Any], list[Any]]:
    """Results by the forward half of the VJP rule, and their nonzero tangents by a JVP program.

    Args:
        call: the call.
        site: its site.
        found: the traced VJP rule.
        primals: n operands.
        tangents: the nonzero tangents.
        program: (n operands, m results if used, tangents) -> nonzero tangents of the results.
        nonzero: which results have a tangent.
        uses: whether the program takes the results.
    """
    outs, kept, kept_levels = run_forward(found, call, primals)
    results = outs if uses else []
    count = len(primals) + len(results)

    def make() -> LinearMap:
        return _pushforward(site, found, program, nonzero, count)

    linear_map = call.rules.cache.get(("named pushforward", site), make)
    levels = tuple(
        Level(
            level.axis,
            (*level.in_dims, *(level.out_dims if uses else ()), *own.in_dims, *select(level.in_dims, site.perturbed)),
            tuple(select(level.out_dims, nonzero)),
        )
        for level, own in zip(call.levels, kept_levels, strict=True)
    )
    return outs, apply(linear_map, [*primals, *results, *kept], tangents, levels)


def by_named_vjp(call: Call, site: Site, found: TracedVjp, primals: Values, tangents: Values) -> tuple[Any, Any]:
    """The same without a JVP rule: tangents by the transpose of the pullback, which needs the residuals alone."""
    outs, kept, kept_levels = run_forward(found, call, primals)
    levels = tuple(
        Level(
            level.axis,
            (*own.in_dims, *select(level.in_dims, site.perturbed)),
            tuple(select(level.out_dims, site.has_tangent)),
        )
        for level, own in zip(call.levels, kept_levels, strict=True)
    )
    return outs, apply(found.pushforward, kept, tangents, levels)


def _pushforward(site: Site, found: TracedVjp, program: Any, nonzero: Mask, count: int) -> LinearMap:
    """The map (``count`` values, r residuals, tangents) -> tangents; its transpose reads the residuals alone."""
    residuals = list(_jax.out_avals(found.forward))[len(site.results.avals) :]
    inputs = list(_jax.in_avals(program))

    def run(*args: Any) -> list[Any]:
        return _jax.evaluate(program, *args[:count], *args[count + len(residuals) :])

    def transposed() -> Any:
        def kept(values: Values, levels: Any) -> tuple[list[Any], Any]:
            own = tuple(Level(level.axis, level.in_dims[count:][: len(residuals)], ()) for level in levels)
            return list(values[count:]), own

        has_tangent = tuple(n for n, has in zip(nonzero, site.has_tangent, strict=True) if has)
        return kept, found.pullback.restrict(has_tangent, (True,) * len(found.pullback.out_avals))

    return LinearMap(
        site.call.rules,
        "pushforward",
        residuals=count + len(residuals),
        in_avals=site.tangent_avals,
        out_avals=tangent_avals(select(site.results.avals, nonzero)),
        build=lambda: _jax.trace(run, [*inputs[:count], *residuals, *inputs[count:]], "named"),
        transposed=transposed,
        effects=_jax.effects_of(program),
    )


# ------------------------------------------------------------------------------------------------------ the rule's code
def may_name(rule: Rule) -> bool:
    """Whether a rule's code leads to ``checkpoint_name``: its own, or that of functions that it names or closes over."""
    todo: list[Any] = [rule.author, rule.fn]
    seen: set[int] = set()
    while todo and len(seen) < _MOST:
        fn = todo.pop()
        if fn is checkpoint_name:
            return True
        module = f"{getattr(fn, '__module__', '')}."
        if not isinstance(fn, FunctionType) or id(fn) in seen or module.startswith(_jax.words.OWN_MODULES):
            continue
        seen.add(id(fn))
        todo += _cells(fn)
        if not module.startswith("jaxprim."):
            names = {name for code in _codes(fn.__code__) for name in code.co_names}
            if checkpoint_name.__name__ in names:
                return True
            todo += [fn.__globals__[name] for name in names if name in fn.__globals__]
    return False


def _codes(code: CodeType) -> Iterator[CodeType]:
    """The code of a function, and of the functions inside it."""
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _codes(const)


def _cells(fn: FunctionType) -> Iterator[Any]:
    for cell in fn.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # a variable that is not bound yet
            continue
