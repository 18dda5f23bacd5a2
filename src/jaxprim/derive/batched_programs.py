"""Evaluate an implementation under a vmap in the ways other than vmap of its program.

For a batch x with n elements, f is the operation on one element:

    sequential      y[i] = f(x[i]) in a loop over i
    expand_dims     y = f(x), batch axes in front; an unbatched operand gets axes of size 1
    broadcast_all   y = f(x), batch axes in front; an unbatched operand is broadcast to the batch
    elementwise     as expand_dims, and the elements' own axes are aligned too
    rule            the author's batch rule
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxprim import _jax, _trees
from jaxprim._avals import same_type, short
from jaxprim._calls import Call
from jaxprim._errors import RuleWrong, message
from jaxprim._returned import InReach, Results, fit, in_words_of, read_outputs, wrong
from jaxprim._rule_kinds import form_of
from jaxprim._rules import call_author
from jaxprim._trees import TreeMismatch


# ------------------------------------------------------------------------------------------- one element at a time
def sequential_program(call: Call, avals: Sequence[Any], expected: Sequence[Any]) -> Any:
    """Apply the primitive to one element after the other. ``expected`` holds the types of the batched results."""
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
    """Move all batch axes of the operands to the front, outermost first.

    An operand without a batch axis gets one of size 1, or is broadcast (``broadcast_all``). For ``elementwise`` the
    elements are also padded to one rank r, so that NumPy's rules align them behind the k batch axes:

        (b_1, ..., b_k, s_1, ..., s_m)  ->  (b_1, ..., b_k, 1, ..., 1, s_1, ..., s_m)    with r - m ones
    """
    shapes = [a.shape for a in call.element_avals([_jax.typeof(x) for x in args])]
    rank = max((len(shape) for shape in shapes), default=0)
    out: list[Any] = []
    for index, (x, shape) in enumerate(zip(args, shapes, strict=True)):
        sizes: list[int] = []
        for done, level in enumerate(reversed(call.levels)):
            dim = level.in_dims[index]
            sizes.append(level.axis.size)
            x = jnp.expand_dims(x, done) if dim is None else jnp.moveaxis(x, dim + done, done)  # noqa: PLW2901
        if call.how == "broadcast_all":
            x = jnp.broadcast_to(x, (*sizes, *shape))  # noqa: PLW2901
        elif call.how == "elementwise":
            x = x.reshape(*x.shape[: len(sizes)], *[1] * (rank - len(shape)), *shape)  # noqa: PLW2901
        out.append(x)
    return out


def check_leading(call: Call, author: Any, got: Results, expected: Results) -> None:
    """Refuse an implementation whose results lack the leading axes that the batching word puts in front."""
    if got.tree == expected.tree and all(map(same_type, got.avals, expected.avals)):
        return
    raise RuleWrong(
        message(
            f"{call.rules.name}: with batching='{call.how}', the batch axis leads in each operand, and the implementation "
            "returned the wrong type.",
            got=short_tree(got),
            expected=short_tree(expected),
            rule=author,
            write=f"{call.rules.name} = Primitive('{call.rules.name}', batching='vmap')",
        )
    )


def short_tree(results: Results) -> str:
    return _trees.written(results.tree, [short(aval) for aval in results.avals])


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
    """The program of the author's batch rule, and the batch dimensions that it declares."""
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
    roots = [f"args[{i}]" for i in range(len(call.tree.children()))]
    in_reach = lambda: list(zip(_trees.leaf_names(call.tree, roots), avals, strict=True))

    def run(*leaves: Any) -> list[Any]:
        call.rules.record("batching")
        operands, dim_tree = call.operands(leaves), _trees.unflatten(call.tree, list(dims))
        about = Axis(axis.size, axis.name)
        result = call_author(call.rules, form_of("batching"), rule.author, about, operands, dim_tree, **call.params)
        outs, out_dims = _read_result(call, rule.author, result, element, in_reach)
        claimed.extend(out_dims)
        return [
            fit(out, _jax.batched_aval(axis, dim, aval))
            for out, dim, aval in zip(outs, out_dims, element.avals, strict=True)
        ]

    program = _jax.trace(run, avals, f"{call.rules.name}_batched")
    return BatchedByRule(program, tuple(claimed))


def _read_result(
    call: Call, author: Any, result: Any, element: Results, in_reach: InReach
) -> tuple[list[Any], list[int | None]]:
    name = call.rules.name
    if not isinstance(result, tuple) or len(result) != 2:
        raise wrong(
            name,
            "the batch rule must return (outputs, dims).",
            got=_trees.describe(result),
            expected="a tuple of 2",
            rule=author,
            write="return outputs, 0",
        )
    outs, dims = result
    try:
        leaves = _trees.flatten_like(element.tree, outs)
    except TreeMismatch:
        # This raises, with the message about the structure.
        leaves = read_outputs(name, form_of("batching"), author, outs, element)
    out_dims = _read_dims(call, author, dims, element)
    for index, (out, dim) in enumerate(zip(leaves, out_dims, strict=True)):
        _check_output(call, author, element, index, out, dim, in_reach)
    return leaves, out_dims


def _read_dims(call: Call, author: Any, dims: Any, element: Results) -> list[int | None]:
    """The batch dimension of each result, from one dimension for all results or a tree of dimensions."""
    try:
        is_one = dims is None or isinstance(dims, int)
        found = [dims] * len(element.avals) if is_one else _trees.flatten_like(element.tree, dims)
    except TreeMismatch:
        found = [dims]
    if all(dim is None or isinstance(dim, int) for dim in found):
        return found
    raise wrong(
        call.rules.name,
        "the batch rule must return the batch dimension of each result.",
        got=repr(dims),
        expected="an integer, or None for an unbatched result; one for all results, or one for each",
        rule=author,
        write="return outputs, 0",
    )


def _check_output(
    call: Call, author: Any, element: Results, index: int, out: Any, dim: int | None, in_reach: InReach
) -> None:
    """Refuse an output that does not have the operation's type once its batch dimension is removed."""
    got, aval, label = _jax.typeof(out), element.avals[index], element.names()[index]
    shape = tuple(got.shape)
    rest = shape if dim is None else shape[:dim] + shape[dim + 1 :]
    inside = dim is None or 0 <= dim < len(shape)
    if not inside or rest != tuple(aval.shape):
        raise wrong(
            call.rules.name,
            f"the batch rule returned {label} without the batch dimension it declares.",
            got=f"{short(got)}, with the batch at dimension {dim}",
            expected=f"{short(aval)} for each element",
            rule=author,
            write="return outputs, 0  # with the batch moved to the front",
        )
    if got.dtype != aval.dtype:
        y = element.variables()[index]
        raise wrong(
            call.rules.name,
            f"the batch rule returned {label} with a different type than the operation's.",
            got=short(got),
            expected=short(got.update(dtype=aval.dtype, weak_type=False)),
            rule=author,
            write=f"{y} = {y}.astype({in_words_of(aval, in_reach())[1]})",
        )
