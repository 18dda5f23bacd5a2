"""How an implementation is evaluated under a vmap, where it is not simply the vmap of its program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxprim import _jax, _trees
from jaxprim._avals import same_type, short
from jaxprim._calls import Call
from jaxprim._errors import RuleWrong, text
from jaxprim._results import Results, fit, read_outputs
from jaxprim._trees import TreeMismatch


# ------------------------------------------------------------------------------------------- one element at a time
def sequential_program(call: Call, avals: Sequence[Any], expected: Sequence[Any]) -> Any:
    """Apply the primitive to one element after the other. ``expected`` are the types of the whole results."""
    level, parent = call.levels[-1], call.parent
    primitive = call.rules.primitive
    batched = [dim is not None for dim in level.in_dims]

    def run(*args: Any) -> list[Any]:
        fronts = [
            _jax.unshard_front(jnp.moveaxis(x, d, 0)) for x, d in zip(args, level.in_dims, strict=True) if d is not None
        ]

        def one(elements: Sequence[Any]) -> list[Any]:
            given = iter(elements)
            operands = [next(given) if b else x for b, x in zip(batched, args, strict=True)]
            return primitive.bind(*operands, call=parent)

        outs = jax.lax.map(one, fronts)
        placed = [jnp.moveaxis(x, 0, dim) if dim else x for x, dim in zip(outs, level.out_dims, strict=True)]
        return [_jax.conform(x, aval) for x, aval in zip(placed, expected, strict=True)]

    return _jax.trace(run, avals, call.rules.name)


# ---------------------------------------------------------------------------------- leading axes, left to the kernel
def spread(call: Call, args: Sequence[Any]) -> list[Any]:
    """Operands with all batch axes in front, outermost first: of size 1 where an operand has none, or broadcast."""
    shapes = [a.shape for a in call.element_avals([_jax.typeof(x) for x in args])]
    out: list[Any] = []
    for index, (x, shape) in enumerate(zip(args, shapes, strict=True)):
        sizes: list[int] = []
        for done, level in enumerate(reversed(call.levels)):
            dim = level.in_dims[index]
            sizes.append(level.axis.size)
            x = jnp.expand_dims(x, done) if dim is None else jnp.moveaxis(x, dim + done, done)  # noqa: PLW2901
        out.append(jnp.broadcast_to(x, (*sizes, *shape)) if call.how == "broadcast" else x)
    return out


def aligned(axis: Any, args: Sequence[Any], dims: Sequence[int | None]) -> list[Any]:
    """Operands of an elementwise primitive with the batch axis in front, their ranks aligned so that they broadcast."""
    rank = max(x.ndim - (dim is not None) for x, dim in zip(args, dims, strict=True))

    def align(x: Any, dim: int | None) -> Any:
        if dim is None and x.ndim == 0:
            return x
        front = x[None] if dim is None else jnp.moveaxis(x, dim, 0)
        return front.reshape(front.shape[0], *[1] * (rank - (front.ndim - 1)), *front.shape[1:])

    return [align(x, dim) for x, dim in zip(args, dims, strict=True)]


# ------------------------------------------------------------------------------------------------ the author's rule
@dataclass(frozen=True)
class Axis:
    """The vmapped axis as a batch rule sees it."""

    size: int
    name: Any


@dataclass(frozen=True)
class BatchedByRule:
    program: Any
    dims: tuple[int | None, ...]


def rule_program(call: Call, avals: Sequence[Any], element: Results) -> BatchedByRule:
    """The program of the author's batch rule, and the dims that it claims."""
    level = call.levels[-1]
    return batched_by_rule(call.parent or call, level.axis, avals, level.in_dims, element)


def batched_by_rule(
    call: Call, axis: Any, avals: Sequence[Any], dims: Sequence[int | None], element: Results
) -> BatchedByRule:
    key = ("batch rule", call, axis, tuple(avals), tuple(dims))
    return call.rules.cache.get(key, lambda: _trace_rule(call, axis, avals, dims, element))


def _trace_rule(
    call: Call, axis: Any, avals: Sequence[Any], dims: Sequence[int | None], element: Results
) -> BatchedByRule:
    rule = call.rules.given["batching"]
    claimed: list[Any] = []

    def run(*leaves: Any) -> list[Any]:
        call.rules.record("batching")
        operands, dim_tree = call.operands(leaves), _trees.unflatten(call.tree, list(dims))
        result = rule.author(Axis(axis.size, axis.name), operands, dim_tree, **call.params)
        outs, out_dims = _read_result(call, rule.author, result, element)
        claimed.extend(out_dims)
        return [
            fit(out, _jax.batched_aval(axis, dim, aval))
            for out, dim, aval in zip(outs, out_dims, element.avals, strict=True)
        ]

    program = _jax.trace(run, avals, f"{call.rules.name}_batched")
    return BatchedByRule(program, tuple(claimed))


def _read_result(call: Call, author: Any, result: Any, element: Results) -> tuple[list[Any], list[int | None]]:
    name = call.rules.name
    if not isinstance(result, tuple) or len(result) != 2:
        raise RuleWrong(
            text(
                f"{name}: the batch rule must return (outputs, dims).",
                got=f"a tuple of {len(result)}" if isinstance(result, tuple) else f"a {type(result).__name__}",
                expected="a tuple of 2",
                rule=author,
                write="return outputs, 0",
            )
        )
    outs, dims = result
    try:
        leaves = _trees.flatten_like(element.tree, outs)
    except TreeMismatch:
        leaves = read_outputs(name, "batch rule", author, outs, element)  # raises, with the structure's message
    out_dims = _read_dims(dims, element)
    for label, out, dim, aval in zip(element.names(), leaves, out_dims, element.avals, strict=True):
        _check_dim(call, author, label, out, dim, aval)
    return leaves, out_dims


def _read_dims(dims: Any, element: Results) -> list[int | None]:
    if dims is None or isinstance(dims, int):
        return [dims] * len(element.avals)
    return _trees.flatten_like(element.tree, dims)


def _check_dim(call: Call, author: Any, label: str, out: Any, dim: int | None, aval: Any) -> None:
    got = _jax.typeof(out)
    shape = list(got.shape)
    inside = dim is None or 0 <= dim < len(shape)
    rest = shape if dim is None else [n for i, n in enumerate(shape) if i != dim]
    if inside and same_type(got.update(shape=tuple(rest), sharding=None), aval):
        return
    raise RuleWrong(
        text(
            f"{call.rules.name}: the batch rule claims a batch dimension that {label} does not have.",
            got=f"{short(got)} with the batch at dimension {dim}",
            expected=f"{short(aval)} for each element",
            rule=author,
            write="return outputs, 0  # with the batch moved to dimension 0; None only where nothing is batched",
        )
    )
