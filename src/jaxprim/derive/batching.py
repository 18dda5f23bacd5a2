"""The batch rule: bind the same primitive with one more level.

given as a rule   the author's rule evaluates the level
given as a word   "vmap" | "sequential" | "expand_dims" | "broadcast_all" | "elementwise"
derived           "vmap" of an impl or kernel; "sequential" for a host function or a raw lowering
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxprim import _jax
from jaxprim._calls import Call
from jaxprim._errors import RuleMissing, message
from jaxprim._levels import Level, infer
from jaxprim._rules import RuleSet
from jaxprim.derive import implementation, vmapped

WORDS = ("vmap", "sequential", "expand_dims", "broadcast_all", "elementwise")


def word(rules: RuleSet) -> str:
    """How a batch of a primitive is evaluated."""
    if rules.has("batching"):
        return "rule"
    if rules.batching_word is not None:
        return rules.batching_word
    return "vmap" if _is_traceable(rules) else "sequential"


def _is_traceable(rules: RuleSet) -> bool:
    """Whether JAX can look into the implementation on every platform that has one."""
    return rules.has("impl") or (bool(rules.kernels()) and not rules.has("host"))


def batch(axis: Any, args: Sequence[Any], dims: Sequence[int | None], *, call: Call) -> tuple[list[Any], list[Any]]:
    """JAX's batch rule of the main primitive; JAX asks it also when nothing is batched."""
    primitive = call.rules.primitive
    avals = [_jax.typeof(x) for x in args]
    if all(dim is None for dim in dims) and axis.name not in implementation.named_axes(call, avals):
        outs = primitive.bind(*args, call=call)
        return outs, [None] * len(outs)
    pushed = push(call, axis, avals, dims)
    return primitive.bind(*args, call=pushed), list(pushed.levels[-1].out_dims)


def push(call: Call, axis: Any, avals: Sequence[Any], dims: Sequence[int | None]) -> Call:
    """The call under one more vmap."""
    key = ("push", call, axis, tuple(avals), tuple(dims))
    return call.rules.cache.get(key, lambda: _push(call, axis, avals, dims))


def _push(call: Call, axis: Any, avals: Sequence[Any], dims: Sequence[int | None]) -> Call:
    how = word(call.rules)
    if how == "vmap" and not _is_traceable(call.rules):
        raise _no_vmap(call.rules)
    if how == "rule" and call.parent is not None:
        how = "vmap"  # of the program of the author's rule for the inner level
    if how == "vmap" and call.using == "host":
        how = "sequential"
    return call.push(_level(call, how, axis, avals, dims), how)


def _no_vmap(rules: RuleSet) -> RuleMissing:
    return RuleMissing(
        message(
            f"{rules.name}: batching='vmap' needs an implementation that JAX can trace.",
            got=rules.listed,
            expected="an impl, or a kernel and no host function; or another word",
            why="'sequential' is one call per element, 'expand_dims' one call with the batch axes in front of the operands",
            rule=rules.implementation_author,
            write=f"{rules.name} = Primitive('{rules.name}', batching='sequential')",
        )
    )


def _level(call: Call, how: str, axis: Any, avals: Sequence[Any], dims: Sequence[int | None]) -> Level:
    elements = tuple(_jax.element_aval(axis, dim, aval) for dim, aval in zip(dims, avals, strict=True))
    element = implementation.results(call, call.element_avals(elements))
    if how == "rule":
        by_rule = vmapped.batched_by_rule(call, axis, avals, dims, element)
        return Level(axis, tuple(dims), by_rule.dims)
    if how == "vmap":
        return infer(implementation.program(call, elements), axis, dims)
    return Level(axis, tuple(dims), (0,) * len(element.avals))
