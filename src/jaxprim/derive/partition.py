"""The partition rule: what one device computes of an operation, given its own part and what others send it.

Functions under ``@derives("partition", ...)``: (call, operands, axis) -> the results of one element.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxprim import _jax
from jaxprim._calls import Call, call_of
from jaxprim._errors import BadCall, message
from jaxprim._levels import axes_of, stack
from jaxprim._returned import Results, read_outputs
from jaxprim._rule_kinds import form_of
from jaxprim._rules import Rule, RuleSet, call_author
from jaxprim._split import Split, part
from jaxprim.derive import sharding
from jaxprim.derive.abstract_eval import results
from jaxprim.derive.table import choose, derives


@dataclass(frozen=True)
class SplitAxis:
    """The axes of an operation that is split over devices, as a partition rule gets them. They go by their names.

    Without devices of its own, an axis is one part.
    """

    _rule: Rule
    _owner: str
    _names: frozenset[str]
    _over: _jax.Over

    def parts(self, name: str) -> int:
        """Into how many parts an axis is split."""
        self._check(name)
        return self._over.parts(name)

    def index(self, name: str) -> Any:
        """Which part this device has: an int32 from 0."""
        self._check(name)
        return self._over.index(name)

    def shift(self, x: Any, name: str, by: int = 1, *, periodic: bool = True) -> Any:
        """Send arrays from each device to the one that has the part ``by`` places further along an axis.

        Args:
            x: arrays of any shape, in any pytree.
            name: the axis.
            by: the number of parts; -1 for those of the device behind.
            periodic: whether the first part follows the last one.

        Returns:
            The arrays of the device whose part is ``by`` places before; zeros if there is none.
        """
        self._check(name)
        return jax.tree.map(lambda leaf: self._over.shift(leaf, name, int(by), periodic), x)

    def _check(self, name: str) -> None:
        if name not in self._names:
            raise BadCall(
                message(
                    f"{self._owner}: the partition rule asks for an axis that may not be split.",
                    got=repr(name),
                    expected=f"one of {', '.join(sorted(self._names)) or 'none'}, from the sharding rule",
                    rule=self._rule.author,
                    write=f"axis.shift(x, {next(iter(sorted(self._names)), 'n')!r})",
                )
            )


PARTS = "parts"  # the vmapped axis that stands for devices


def by_parts(rules: RuleSet, params: Mapping[str, Any], tree: Any, leaves: Sequence[Any], axis: str, count: int) -> Any:
    """The results of the partition rule for operands that are cut into equal parts along one axis, without devices.

    A vmap stands for the devices, since collectives run over its axis too. Each result has one more axis in front, for the
    parts.
    """
    call = call_of(rules, params, tree)
    avals = [_jax.typeof(leaf) for leaf in leaves]
    split = sharding.by_rule(call, avals, results(call, avals).avals)
    dims = [axes.index(axis) if axis in axes else None for axes in split.operands]
    over = _jax.OverVmap({axis: (PARTS,)}, {PARTS: count})

    def run(*parts: Any) -> list[Any]:
        return partitioned(call, split, parts, split.sizes(list(map(jnp.shape, parts))), over)

    cut = [x if dim is None else jnp.stack(jnp.split(x, count, dim)) for x, dim in zip(leaves, dims, strict=True)]
    in_axes = tuple(None if dim is None else 0 for dim in dims)
    return jax.jit(jax.vmap(run, in_axes, axis_name=PARTS, axis_size=count))(*cut)


@derives("partition", "partition")
def by_rule(call: Call, operands: Sequence[Any], axis: SplitAxis) -> Any:
    author = call.rules.given["partition"].author
    call.rules.record("partition")
    return call_author(call.rules, form_of("partition"), author, *call.operands(operands), axis, **call.params)


def partitioned(call: Call, split: Split, operands: Sequence[Any], sizes: dict[str, Any], over: _jax.Over) -> list[Any]:
    """The results of one device by the partition rule.

    Args:
        call: the application, with vmaps over the part of the batch that the device has.
        split: the axes of one element.
        operands: the part of the operands that the device has.
        sizes: the size of that part along each axis.
        over: the devices.
    """
    rule = call.rules.given["partition"]
    axis = SplitAxis(rule, call.rules.name, split.free, over)
    avals = call.element_avals([_jax.typeof(x) for x in operands])
    whole = results(call, avals)
    local = tuple(
        _jax.ShapedArray(part(axes, aval.shape, sizes), aval.dtype)
        for axes, aval in zip(split.results, whole.avals, strict=True)
    )
    expected = Results(local, whole.tree)

    def run(*leaves: Any) -> list[Any]:
        value = choose(call.rules, "partition").derive(call, leaves, axis)
        return read_outputs(
            call.rules.name, form_of("partition"), rule.author, value, expected, lambda: call.in_reach(avals)
        )

    with axes_of(call.levels):
        program = _jax.trace(run, avals, f"{call.rules.name}_partition")
    return _jax.evaluate(stack(program, call.levels), *operands)
