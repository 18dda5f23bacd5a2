"""An application on the part of the arrays that one device has: the same primitive, with vmaps over that part alone."""

from __future__ import annotations

import ast
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax

from jaxprim import _code, _jax, _origin
from jaxprim._avals import short
from jaxprim._calls import Call
from jaxprim._errors import RuleWrong, message
from jaxprim._levels import Level, axes_of
from jaxprim._rules import RuleSet
from jaxprim._split import Axes, Split, part
from jaxprim.derive.abstract_eval import results
from jaxprim.derive.partition import partitioned
from jaxprim.derive.programs import named_axes
from jaxprim.derive.sharding import splitter
from jaxprim.derive.table import choose, missing


def split_of(call: Call, avals: Sequence[Any], platform: str | None) -> Split | None:
    """What an application may split, by its rule and along the axes of its vmaps; None if XLA is to look into it."""
    if "partition" in call.rules.given and "sharding" not in call.rules.given:
        raise missing(call.rules, "sharding", "a partition rule needs the names of the axes")
    of_element = splitter(call, platform)
    if of_element is None:  # as for most operations
        return None
    elements = call.element_avals(avals)
    split = of_element(call, elements, results(call, elements).avals)
    ins, outs, free = split.operands, split.results, set(split.free)
    for depth, level in enumerate(call.levels):
        ins = tuple(_with_axis(axes, dim, depth) for axes, dim in zip(ins, level.in_dims, strict=True))
        outs = tuple(_with_axis(axes, dim, depth) for axes, dim in zip(outs, level.out_dims, strict=True))
        # A result that all elements share needs the whole batch, and so does a collective over it.
        if all(dim is not None for dim in level.out_dims) and not _is_used(call, avals, depth):
            free.add(_batch(depth))
    return Split(ins, outs, frozenset(free) & {name for axes in ins for name in axes}, split.otherwise)


def _is_used(call: Call, avals: Sequence[Any], depth: int) -> bool:
    """Whether a collective in the implementation runs over the axis of a vmap."""
    name, inner = call.levels[depth].axis.name, call
    for level in reversed(call.levels[depth:]):
        avals, inner = level.element(avals), inner.parent or inner
    with axes_of(call.levels):
        return name in named_axes(inner, avals)


def _batch(depth: int) -> str:
    return f"batch{depth}"


def _with_axis(axes: Axes, dim: int | None, depth: int) -> Axes:
    return axes if dim is None else (*axes[:dim], _batch(depth), *axes[dim:])


class OnDevice:
    """An application on the part of the operands that one device has."""

    def __init__(self, call: Call, split: Split, *, is_on_host: bool = False) -> None:
        self.call, self.split, self.owner, self.is_on_host = call, split, call.rules.name, is_on_host

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OnDevice) and (other.call, other.split) == (self.call, self.split)

    def __hash__(self) -> int:
        return hash((self.call, self.split))

    def __call__(self, *operands: Any, over: _jax.Over | None = None) -> list[Any]:
        """The results of this part of the operands: by the partition rule if there is one, else as for any operands."""
        call, split = self.call, self.split
        sizes = split.sizes([x.shape for x in operands])
        lengths: list[Any] = [sizes.get(_batch(depth), level.axis.size) for depth, level in enumerate(call.levels)]
        call = call.resized(lengths)
        if over is not None and self.has_partition_rule:
            return partitioned(call, self.element, operands, sizes, over)
        outs = call.rules.primitive.bind(*operands, call=call)
        for index, (axes, out) in enumerate(zip(split.results, outs, strict=True)):
            expected = part(axes, out.shape, sizes)
            if out.shape != expected:
                raise _broken(call, operands, index, out, expected)
        return outs

    @property
    def has_partition_rule(self) -> bool:
        return choose(self.call.rules, "partition").row is not None

    @property
    def element(self) -> Split:
        """The axes of one element, without those of vmaps."""
        own = lambda axes: tuple(name for name in axes if name not in batches)
        batches = {_batch(depth) for depth in range(len(self.call.levels))}
        ins, outs = tuple(map(own, self.split.operands)), tuple(map(own, self.split.results))
        return Split(ins, outs, self.split.free - batches, self.split.otherwise)

    def cached(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What was made for this application under a key."""
        return self.call.rules.cache.get(("on device", self.call, self.split, key), make)

    @property
    def own_axes(self) -> frozenset[str]:
        """The axes that may be split, without those of vmaps."""
        return self.element.free

    @property
    def code(self) -> str:
        """A digest of the code of all rules that may run on a part, beside the parameters."""
        call = self.call
        of_rules = call.rules.cache.get(("code",), lambda: _code.digest([call.rules], _rules_inside))
        return _code.digest([of_rules, dict(call.params)], _rules_inside)

    @property
    def words(self) -> list[Any]:
        """The application in words: module, name, params, operands, implementation, vmaps. None for what has no words."""
        call = self.call
        vmaps: list[Any] = []
        while call.parent is not None:
            level = call.levels[-1]
            vmaps.insert(0, [level.axis.size, level.in_dims, level.out_dims, call.how])
            call = call.parent
        operands = _as_literal(call.operands(range(call.tree.num_leaves)))
        return [call.rules.module, call.rules.name, _as_literal(call.params), operands, call.using, vmaps]


# They run on whole arrays, or by their place in the whole program.
_NOT_ON_A_PART = {"jvp", "vjp", "linearize", "transpose", "jet", "host", "sharding"}


def _rules_inside(thing: Any) -> list[Any] | None:
    """What an operation is made of, for a digest of its code."""
    is_ours = type(thing).__module__.startswith("jaxprim")
    rules = getattr(thing, "_rules", thing) if is_ours else None
    if not isinstance(rules, RuleSet):
        return None
    return [rules.name, *[rule.author for rule in rules.given.values() if rule.kind not in _NOT_ON_A_PART]]


def _as_literal(value: Any) -> str | None:
    """A value as Python writes it, if that can be read again."""
    text = repr(value)
    try:
        return text if ast.literal_eval(text) == value else None
    except (ValueError, SyntaxError, TypeError):
        return None


def _broken(call: Call, operands: Sequence[Any], index: int, out: Any, expected: tuple[int, ...]) -> RuleWrong:
    given = ", ".join(f"{name}: {short(_jax.typeof(x))}" for name, x in zip(call.names(), operands, strict=True))
    y = (
        results(call, call.element_avals([_jax.typeof(x) for x in operands])).names()[index]
        if not call.levels
        else "a result"
    )
    rule: Any = call.rules.given["sharding"].author
    return RuleWrong(
        message(
            f"{call.rules.name}: its sharding rule does not hold for {y}.",
            got=f"{list(out.shape)} from a part of the operands, {given}",
            expected=f"{list(expected)}, the part of {y} that the rule says",
            why=f"the rule is {', '.join(rule.notes)}",
            rule=rule,
            write=f"{call.rules.name}.def_sharding(..., replicated=...)  # with the axes that a device needs whole",
        )
    )


# ------------------------------------------------------------------------------------------- from an exported program
def _from_words(words: Sequence[Any], avals: Sequence[Any]) -> tuple[Split, OnDevice] | None:
    """The split and the application that were put into words, perhaps by another process; None if it is not here."""
    module, name, params, operands, using, vmaps = words
    rules = next(iter(_origin.made(module, name)), None)
    if rules is None or params is None or operands is None:
        return None
    call = Call(rules, ast.literal_eval(params), jax.tree.structure(ast.literal_eval(operands)), using=using)
    for size, in_dims, out_dims, how in vmaps:
        call = call.push(Level(_jax.vmapped_axis(size), tuple(in_dims), tuple(out_dims)), how)
    split = split_of(call, avals, None)
    return None if split is None else (split, OnDevice(call, split))


_jax.make_again.append(_from_words)
