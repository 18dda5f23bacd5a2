"""The batch rule: bind the same primitive with one more level.

given as a rule   the author's rule evaluates the level
given as a word   "vmap" | "sequential" | "expand_dims" | "broadcast_all" | "elementwise"
derived           "vmap" of an impl or kernel; "sequential" for a host function or a raw lowering

Functions under ``@derives("batching", ...)``: (call) -> the call that computes one element, and the word, or
``"rule"``, that says how a batch of elements is evaluated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxprim import _jax
from jaxprim._calls import Call
from jaxprim._errors import RuleMissing, message
from jaxprim._levels import Level, infer
from jaxprim._rules import RuleSet
from jaxprim.derive import batched_programs
from jaxprim.derive.abstract_eval import results
from jaxprim.derive.programs import knows_no_mesh, named_axes, program
from jaxprim.derive.table import applies, choose, derives, missing, rows_of

WORDS = ("vmap", "sequential", "expand_dims", "broadcast_all", "elementwise")

Way = tuple[Call, str]  # the call that computes one element, and how a batch of elements is evaluated


@derives("batching", "batching")
def as_given(call: Call) -> Way:
    """The author's batching word or rule. The rule evaluates the innermost vmap; outer ones vmap its program."""
    word = call.rules.batching_word
    if word is None:
        return call, "rule" if call.parent is None else "vmap"
    if word == "vmap" and not _can_vmap(call.rules):
        raise _no_vmap(call.rules)
    return call, word


@derives("batching", "kernel")
def vmap_of_kernel(call: Call) -> Way:
    return call, "vmap"


@derives("batching", "impl")
def vmap_of_impl(call: Call) -> Way:
    return _chosen(call, "impl"), "vmap"


@derives("batching", "host")
def loop_over_host(call: Call) -> Way:
    return _chosen(call, "host"), "sequential"


@derives("batching", "lowering")
def loop_over_lowering(call: Call) -> Way:
    return call, "sequential"


def _chosen(call: Call, implementation: str) -> Call:
    """The call computed by this implementation if the author chose it for batches; otherwise by the platform's own."""
    is_chosen = choose(call.rules, "batching").is_chosen and call.parent is None
    return call.by(implementation) if is_chosen else call


def _can_vmap(rules: RuleSet) -> bool:
    return any(row.is_vmap and applies(rules, row) for row in rows_of("batching"))


# -------------------------------------------------------------------------------------------------- JAX's batch rule
def batching_rule(
    axis: Any, args: Sequence[Any], dims: Sequence[int | None], *, call: Call, **_: Any
) -> tuple[list[Any], list[Any]]:
    """JAX's batch rule of the main primitive. JAX also calls it when nothing is batched."""
    primitive = call.rules.primitive
    avals = [_jax.typeof(x) for x in args]
    if all(dim is None for dim in dims) and axis.name not in named_axes(call, avals):
        outs = primitive.bind(*args, call=call)
        return outs, [None] * len(outs)
    batched = batched_call(call, axis, avals, dims)
    return primitive.bind(*args, call=batched), list(batched.levels[-1].out_dims)


def batched_call(call: Call, axis: Any, avals: Sequence[Any], dims: Sequence[int | None]) -> Call:
    """The call under one more vmap."""
    key = ("batched", call, axis, tuple(avals), tuple(dims))
    return call.rules.cache.get(key, lambda: _batched_call(call, axis, avals, dims))


def _batched_call(call: Call, axis: Any, avals: Sequence[Any], dims: Sequence[int | None]) -> Call:
    choice = choose(call.rules, "batching")
    if choice.row is None:
        raise missing(call.rules, "batching")
    element, how = choice.derive(call)
    if how == "vmap" and element.using == "host":  # `jaxprim.use("host")`
        how = "sequential"
    return element.push(_level(element, how, axis, avals, dims), how)


def _no_vmap(rules: RuleSet) -> RuleMissing:
    return RuleMissing(
        message(
            f"{rules.name}: batching='vmap' needs an implementation that JAX can trace.",
            got=rules.listed,
            expected="an impl, or a kernel and no host function, or another batching word",
            why="'sequential' makes one call per element, 'expand_dims' one call with the batch axes in front of the operands",
            rule=rules.implementation_author,
            write=f"{rules.name} = Primitive('{rules.name}', batching='sequential')",
        )
    )


def _level(call: Call, how: str, axis: Any, avals: Sequence[Any], dims: Sequence[int | None]) -> Level:
    """The level of a vmap: the batch dimension of each operand and of each result."""
    elements = tuple(_jax.element_aval(axis, dim, aval) for dim, aval in zip(dims, avals, strict=True))
    element = results(call, call.element_avals(elements))
    if how == "rule":
        by_rule = batched_programs.batched_by_rule(call, axis, avals, dims, element)
        return Level(axis, tuple(dims), by_rule.dims)
    if how == "vmap" and knows_no_mesh(call, elements):
        with _jax.without_mesh():
            found = infer(program(call, elements), _jax.vmapped_axis(axis.size, axis.name), dims)
        return Level(axis, found.in_dims, found.out_dims)
    if how == "vmap":
        return infer(program(call, elements), axis, dims)
    return Level(axis, tuple(dims), (0,) * len(element.avals))
