"""`Call`: everything static about one application of a primitive."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from jaxprim import _jax, _trees, _use
from jaxprim._levels import Level, Levels, element_avals
from jaxprim._rules import RuleSet, make_room


@_jax.held_weakly
class Call:
    """The static part of an application: its static params, the tree of its operands, its batch levels.

    Calls are kept in a table, one for each combination, so that they can be compared by identity.

    Attributes:
        rules: the primitive's rule set.
        params: the static params.
        tree: the tree of the operands (a tuple).
        levels: the vmaps around it, innermost first.
        parent: the call with one level fewer.
        how: how the outermost level is evaluated (``"vmap"``, ``"sequential"``, ``"rule"``, ...).
        using: the implementation that `jaxprim.use` chose when the call was made; None for the platform's own.
        result_tree: the tree of the results; None until it is known, and None if it depends on the operand types.
    """

    def __init__(
        self,
        rules: RuleSet,
        params: Mapping[str, Any],
        tree: Any,
        levels: Levels = (),
        parent: Call | None = None,
        how: str = "",
        using: str | None = None,
    ) -> None:
        self._hold(rules)
        self.params, self.tree, self.using = dict(params), tree, using
        self.levels, self.parent, self.how = levels, parent, how
        self.result_tree: Any = None
        self._has_results = False
        self._pushed: dict[tuple[Level, str], Call] = {}
        self._by: dict[str, Call] = {}

    def _hold(self, rules: RuleSet) -> None:
        self.rules = rules

    @property
    def runs_once(self) -> bool:
        """Whether its functions close over traced values, which mean nothing later: no other call is like it."""
        return self.rules.is_for_one_call

    @property
    def base(self) -> Call:
        """The call without its levels."""
        return self if self.parent is None else self.parent.base

    def push(self, level: Level, how: str) -> Call:
        """The call under one more vmap."""
        key = (level, how)
        if key not in self._pushed:
            levels = (*self.levels, level)
            self._pushed[key] = Call(self.rules, self.params, self.tree, levels, self, how, self.using)
        return self._pushed[key]

    def by(self, using: str) -> Call:
        """The same call, computed by this implementation on every platform."""
        if self.using == using:
            return self
        if self.parent is not None:
            return self.parent.by(using).push(self.levels[-1], self.how)
        if using not in self._by:
            self._by[using] = Call(self.rules, self.params, self.tree, using=using)
        return self._by[using]

    def resized(self, sizes: Sequence[int]) -> Call:
        """The same call with vmaps over axes of other sizes, innermost first, and of no mesh; without sizes, of their own."""
        if self.parent is None:
            return self
        level, size = self.levels[-1], sizes[-1] if sizes else self.levels[-1].axis.size
        return self.parent.resized(sizes[:-1]).push(level.resized(size), self.how)

    def note_result_tree(self, tree: Any) -> None:
        """Remember the tree of the results, unless it differs between operand types."""
        if not self._has_results:
            self.result_tree, self._has_results = tree, True
        elif self.result_tree is not None and self.result_tree != tree:
            self.result_tree = None

    def operands(self, leaves: Sequence[Any]) -> tuple[Any, ...]:
        """The operands as the author's rules take them."""
        return _trees.unflatten(self.tree, leaves)

    def names(self) -> list[str]:
        """The name of each operand leaf."""
        return _trees.leaf_names(self.tree, self.rules.signature.names(len(self.tree.children())))

    def in_reach(self, avals: Sequence[Any]) -> list[tuple[str, Any]]:
        """The operands that the author's code can name, with their types."""
        return [(name, aval) for name, aval in zip(self.names(), avals, strict=True) if name.isidentifier()]

    def linear_mask(self) -> list[bool]:
        """Which operand leaves the primitive was declared linear in."""
        return self._leaves_of(self.rules.linear)

    def function_mask(self) -> list[bool]:
        """Which operand leaves are what functions close over."""
        return self._leaves_of(self.rules.functions)

    def _leaves_of(self, operands: Sequence[str]) -> list[bool]:
        names = self.rules.signature.names(len(self.tree.children()))
        return [
            name in operands
            for name, subtree in zip(names, self.tree.children(), strict=True)
            for _ in range(subtree.num_leaves)
        ]

    def element_avals(self, avals: Sequence[Any]) -> tuple[Any, ...]:
        return element_avals(self.levels, avals)

    def __repr__(self) -> str:
        params = [f"{name}={value!r}" for name, value in self.params.items()]
        return ", ".join([*params, *map(repr, self.levels)]) or "-"


@_jax.held_weakly
class EagerCall(Call):
    """The call of an eager application, which does not keep its primitive alive.

    JAX keeps the jaxpr of a compiled function as long as the function lives. The primitive owns the compiled functions
    of its eager calls. If their jaxprs held the primitive in turn, neither could ever be freed.
    """

    def _hold(self, rules: RuleSet) -> None:
        self._weak = weakref.ref(rules)

    @property
    def rules(self) -> RuleSet:
        found = self._weak()
        if found is None:
            raise ReferenceError("the primitive of an eager call has been freed")
        return found


# A bound, because static params that never repeat, such as a step number, would fill the memory. JAX's own caches hold
# as many entries.
MOST_CALLS = 4096


def call_of(rules: RuleSet, params: Mapping[str, Any], tree: Any, cls: type[Call] = Call) -> Call:
    """The one `Call` with these params and this operand tree."""
    using = _use.choice(rules)
    key = (rules.signature.key(rules.name, params) if params else (), tree, cls, using)
    call = rules.calls.get(key)
    if call is None:
        make_room(rules.calls, MOST_CALLS)
        call = rules.calls.setdefault(key, cls(rules, params, tree, using=using))
    return call
