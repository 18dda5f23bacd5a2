"""Helpers for pytrees of operands, results, tangents and cotangents."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import jax

from jaxprim._avals import short_value
from jaxprim._errors import an

TreeDef = Any

flatten = jax.tree.flatten
unflatten = jax.tree.unflatten
LEAF = jax.tree.structure(0)


class TreeMismatch(Exception):
    """A value does not have the wanted structure; ``where`` names the place."""

    def __init__(self, where: str, got: str, expected: str) -> None:
        super().__init__(where, got, expected)
        self.got_where, self.expected = f"{got}, at {where}" if where else got, expected


def flatten_like(treedef: TreeDef, value: Any, where: str = "") -> list[Any]:
    """The leaves of a value with this tree structure. None stands for a zero leaf or subtree."""
    if value is None:
        return [None] * treedef.num_leaves
    if treedef == LEAF:
        _refuse_container(value, where)
        return [value]
    children = treedef.children()
    if not children:  # an empty subtree: None, () or {}
        return []
    parts = _children_like(treedef, value, where)
    return [
        leaf
        for (name, part), child in zip(parts, children, strict=True)
        for leaf in flatten_like(child, part, where + name)
    ]


def bare(treedef: TreeDef, value: Any) -> tuple[TreeDef, Any]:
    """Unwrap what a rule returned for its operands, whose tree is the tuple ``treedef``, if there is a single operand.

    A rule may return a single operand's cotangent bare, or in a tuple of one. Both give the operand's own tree and
    value.
    """
    operands = treedef.children()
    if len(operands) != 1:
        return treedef, value
    in_tuple = isinstance(value, tuple | list) and len(value) == 1 and not _fits(operands[0], value)
    return operands[0], value[0] if in_tuple else value


def _fits(treedef: TreeDef, value: Any) -> bool:
    try:
        flatten_like(treedef, value)
    except TreeMismatch:
        return False
    return True


def _children_like(treedef: TreeDef, value: Any, where: str) -> list[tuple[str, Any]]:
    """A value's direct children with their names, in the order of the root node of ``treedef``."""
    dummy = unflatten(treedef, [0] * treedef.num_leaves)
    wanted = jax.tree_util.tree_flatten_with_path(dummy, is_leaf=lambda x: x is not dummy)[0]
    got = jax.tree_util.tree_flatten_with_path(value, is_leaf=lambda x: x is not value)[0]
    # None children vanish from the flattening of `value`; compare by key, and let a missing key be a zero subtree.
    alike = type(dummy) is type(value) or (isinstance(dummy, tuple | list) and type(value) in (tuple, list))
    if isinstance(dummy, tuple | list) and alike and len(dummy) == len(value):
        return [(f"[{i}]", part) for i, part in enumerate(value)]
    if isinstance(dummy, dict) and isinstance(value, dict) and dummy.keys() == value.keys():
        keys = dummy if isinstance(dummy, OrderedDict) else sorted(dummy)  # as JAX orders them
        return [(f"[{key!r}]", value[key]) for key in keys]
    if alike and [path for path, _ in wanted] == [path for path, _ in got]:
        return [(jax.tree_util.keystr(path), part) for path, part in got]
    raise TreeMismatch(where, describe(value), describe(dummy))


def _refuse_container(value: Any, where: str) -> None:
    if isinstance(value, tuple | list | dict):
        raise TreeMismatch(where, describe(value), "one array")


def describe(value: Any) -> str:
    """A short description of a value's structure, for messages."""
    if isinstance(value, tuple | list):
        return f"{an(type(value).__name__)} of {len(value)}"
    if isinstance(value, dict):
        return f"a dict with keys {sorted(map(str, value))}"
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"one array, {short_value(value)}"
    return "None" if value is None else an(type(value).__name__)


class _Code:
    """Stands for a leaf in the written form of a tree."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __repr__(self) -> str:
        return self.code


def written(treedef: TreeDef, leaves: Sequence[str]) -> str:
    """A tree as a Python expression, with the given expressions as leaves: ``(x_bar, {'w': w_bar})``."""
    try:
        return repr(unflatten(treedef, [_Code(leaf) for leaf in leaves]))
    except Exception:  # noqa: BLE001 a user's node may refuse leaves that are not arrays
        return f"({', '.join(leaves)})"


def returned(treedef: TreeDef, leaves: Sequence[str]) -> str:
    """The line that returns a tree."""
    code = written(treedef, leaves)
    is_tuple = treedef.node_data() is not None and treedef.node_data()[0] is tuple
    return f"return {code[1:-1] if is_tuple and len(treedef.children()) > 1 else code}"


def identifiers(names: Sequence[str], suffix: str = "") -> list[str]:
    """Variable names for leaves: ``params_w_bar`` for ``params['w']``."""
    return [re.sub(r"\W+", "_", name).strip("_") + suffix for name in names]


def leaf_names(treedef: TreeDef, roots: Sequence[str] | None = None) -> list[str]:
    """The name of each leaf: ``x``, ``params['w']``; ``[0]`` for a leaf of an unnamed tuple.

    ``roots`` names the children of a tuple, as the operands of a call.
    """
    dummy = unflatten(treedef, list(range(treedef.num_leaves)))
    paths: list[Any] = [path for path, _ in jax.tree_util.tree_flatten_with_path(dummy)[0]]
    if roots is None:
        return [jax.tree_util.keystr(path) for path in paths]
    return [str(roots[path[0].idx]) + jax.tree_util.keystr(path[1:]) for path in paths]


def tuple_tree(trees: Sequence[TreeDef]) -> TreeDef:
    """The tree of a tuple of trees."""
    return jax.tree_util.treedef_tuple(trees)


def split(trees: Sequence[TreeDef], leaves: Sequence[Any]) -> list[list[Any]]:
    """Split ``leaves`` into the leaves of each of several consecutive trees."""
    given = iter(leaves)
    return [[next(given) for _ in range(tree.num_leaves)] for tree in trees]
