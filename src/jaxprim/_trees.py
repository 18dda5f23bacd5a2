"""Helpers for pytrees of operands, results, tangents and cotangents.

An author's class may convert or check its leaves when it is built, as one that calls ``jnp.asarray`` does. So his
pytrees are built of arrays, tracers, tangents and cotangents only. Names, descriptions and comparisons come from the
tree definition, and a `Node` stands for an author's object where there are no arrays to put into it.
"""

from __future__ import annotations

import dataclasses
import re
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
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


@dataclasses.dataclass(frozen=True)
class Node:
    """Stands for an object of an author's pytree class.

    Attributes:
        kind: the class.
        static: its static data, which JAX keeps in the tree definition.
        children: its children, by position.
    """

    kind: type
    static: Any
    children: tuple[Any, ...]


def stand_in(treedef: TreeDef, leaves: Sequence[Any]) -> Any:
    """A tree with any leaves: tuples, lists and dicts as they are, a `Node` for any other class."""
    return _stand_in(treedef, iter(leaves))


def _stand_in(treedef: TreeDef, leaves: Iterator[Any]) -> Any:
    if treedef == LEAF:
        return next(leaves)
    kind, static = _node(treedef)
    children = tuple(_stand_in(child, leaves) for child in treedef.children())
    if kind in (tuple, list):
        return kind(children)
    if kind in _DICTS:
        items = zip(_keys(kind, static), children, strict=True)
        return OrderedDict(items) if kind is OrderedDict else dict(items)
    return None if kind is type(None) else Node(kind, static, children)


# --------------------------------------------------------------------------------------------- one node of a definition
def _node(treedef: TreeDef) -> tuple[type, Any]:
    """The class of a node that is not a leaf, and its static data."""
    kind, static = treedef.node_data()
    return kind, static


# The classes whose children JAX itself knows. Any other may be registered with any children, also a subclass of these.
_DICTS = (dict, OrderedDict, defaultdict)


def _is_sequence(kind: type) -> bool:
    return kind in (tuple, list) or (issubclass(kind, tuple) and hasattr(kind, "_fields"))


def _keys(kind: type, static: Any) -> Sequence[Any]:
    """The keys of a dict, in the order of its children. A defaultdict has its factory beside them."""
    return static[1] if kind is defaultdict else static


def _fields(kind: type, count: int) -> list[str] | None:
    """The names of the children of a dataclass or namedtuple; None if the class alone does not tell them."""
    if issubclass(kind, tuple):
        names: list[str] = list(getattr(kind, "_fields", ()))
    elif dataclasses.is_dataclass(kind):
        marks = [(field.name, field.metadata) for field in dataclasses.fields(kind)]
        names = [name for name, mark in marks if not mark.get("static", False) and mark.get("pytree_node", True)]
    else:
        return None
    return names if len(names) == count else None


def _child_names(treedef: TreeDef) -> list[str]:
    """How a message names each child: ``['w']``, ``[0]``, ``.x``."""
    kind, static = _node(treedef)
    count = len(treedef.children())
    if kind in _DICTS:
        return [f"[{key!r}]" for key in _keys(kind, static)]
    if (names := _fields(kind, count)) is not None:
        return [f".{name}" for name in names]
    if _is_sequence(kind):
        return [f"[{i}]" for i in range(count)]
    return [jax.tree_util.keystr((jax.tree_util.FlattenedIndexKey(i),)) for i in range(count)]


# ------------------------------------------------------------------------------------------------- a value like a tree
def flatten_like(treedef: TreeDef, value: Any, where: str = "", *, spread: bool = False) -> list[Any]:
    """The leaves of a value with this tree structure. None stands for a zero leaf or subtree.

    With ``spread``, one array stands for each leaf of a subtree, as ``jax.custom_vjp`` takes cotangents.
    """
    if value is None:
        return [None] * treedef.num_leaves
    if treedef == LEAF:
        _refuse_container(value, where)
        return [value]
    children = treedef.children()
    if not children:  # an empty subtree: None, () or {}
        return []
    if spread and hasattr(value, "shape") and hasattr(value, "dtype") and not _is_whole(treedef):
        return [value] * treedef.num_leaves
    parts = _children_like(treedef, value, where)
    return [
        leaf
        for name, part, child in zip(_child_names(treedef), parts, children, strict=True)
        for leaf in flatten_like(child, part, where + name, spread=spread)
    ]


def _is_whole(treedef: TreeDef) -> bool:
    """Whether a node's class says that one array cannot stand for all of it, as for what a function closes over."""
    return getattr(_node(treedef)[0], "is_whole", False)


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


def with_zero(found: Any, count: int) -> tuple[Any, ...]:
    """The cotangents that a rule returned for so many operands, and a zero for one more, which it does not know."""
    is_tuple = isinstance(found, tuple | list) and len(found) == count
    return (*found, None) if is_tuple else (found, None)  # that of a single operand may be bare


def _fits(treedef: TreeDef, value: Any) -> bool:
    try:
        flatten_like(treedef, value)
    except TreeMismatch:
        return False
    return True


def _children_like(treedef: TreeDef, value: Any, where: str) -> Sequence[Any]:
    """A value's direct children, in the order of the root node of ``treedef``."""
    kind, static = _node(treedef)
    count = len(treedef.children())
    its_kind = value.kind if isinstance(value, Node) else type(value)
    if _is_sequence(kind):
        parts = value.children if isinstance(value, Node) else value
        if its_kind in (kind, tuple, list) and len(parts) == count:
            return parts
    elif kind in _DICTS:
        keys = _keys(kind, static)
        if isinstance(value, dict) and value.keys() == set(keys):
            return [value[key] for key in keys]
    elif its_kind is kind:
        got, its_static = _one_level(value)
        if len(got) == count and (_fields(kind, count) is not None or its_static == static):
            return got
        raise TreeMismatch(where, f"{describe(value)} with other children or static data", described(treedef))
    raise TreeMismatch(where, describe(value), described(treedef))


def _one_level(value: Any) -> tuple[Sequence[Any], Any]:
    """The children of an author's object, and its static data."""
    if isinstance(value, Node):
        return value.children, value.static
    children, treedef = jax.tree.flatten(value, is_leaf=lambda x: x is not value)
    return children, _node(treedef)[1]


def _refuse_container(value: Any, where: str) -> None:
    if isinstance(value, tuple | list | dict | Node):
        raise TreeMismatch(where, describe(value), "one array")


# -------------------------------------------------------------------------------------------------------- for messages
def describe(value: Any) -> str:
    """A short description of a value's structure, for messages."""
    if isinstance(value, Node):
        return _described(value.kind, value.static, len(value.children))
    if isinstance(value, tuple | list):
        return f"{an(type(value).__name__)} of {len(value)}"
    if isinstance(value, dict):
        return _described(dict, list(value), len(value))
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"one array, {short_value(value)}"
    return "None" if value is None else an(type(value).__name__)


def described(treedef: TreeDef) -> str:
    """The same description, of a tree definition."""
    return "one array" if treedef == LEAF else _described(*_node(treedef), len(treedef.children()))


def _described(kind: type, static: Any, count: int) -> str:
    if kind in _DICTS:
        return f"a dict with keys {sorted(map(str, _keys(kind, static)))}"
    if _is_sequence(kind):
        return f"{an(kind.__name__)} of {count}"
    return "None" if kind is type(None) else an(kind.__name__)


def written(treedef: TreeDef, leaves: Sequence[str]) -> str:
    """A tree as a Python expression, with the given expressions as leaves: ``(x_bar, {'w': w_bar})``."""
    return _written(treedef, iter(leaves))


def _written(treedef: TreeDef, leaves: Iterator[str]) -> str:
    if treedef == LEAF:
        return next(leaves)
    kind, static = _node(treedef)
    if _is_whole(treedef):  # its first leaf is f_values_0_bar
        return ([next(leaves) for _ in range(treedef.num_leaves)] or ["None"])[0].replace("_values_0", "")
    children = [_written(child, leaves) for child in treedef.children()]
    if kind is tuple:
        return f"({children[0]},)" if len(children) == 1 else f"({', '.join(children)})"
    if kind is list:
        return f"[{', '.join(children)}]"
    if kind in _DICTS:
        items = ", ".join(f"{key!r}: {child}" for key, child in zip(_keys(kind, static), children, strict=True))
        return f"OrderedDict({{{items}}})" if kind is OrderedDict else f"{{{items}}}"
    if kind is type(None):
        return "None"
    names = _fields(kind, len(children))
    arguments = children if names is None else [f"{name}={child}" for name, child in zip(names, children, strict=True)]
    return f"{kind.__qualname__}({', '.join([*arguments, *_static_fields(kind, names or [], static)])})"


def _static_fields(kind: type, names: Sequence[str], static: Any) -> list[str]:
    """The static fields of a dataclass, as its constructor takes them, if the tree definition holds just these."""
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    others = [field.name for field in fields if field.init and field.name not in names]
    if not isinstance(static, tuple) or len(static) != len(others):
        return []
    return [f"{name}={value!r}" for name, value in zip(others, static, strict=True)]


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
    if treedef == LEAF:
        return [""]
    names = _child_names(treedef) if roots is None else roots
    children = treedef.children()
    return [
        f"{name}{rest}" for name, child in zip(names, children, strict=bool(children)) for rest in leaf_names(child)
    ]


# --------------------------------------------------------------------------------------------------------- whole trees
def tuple_tree(trees: Sequence[TreeDef]) -> TreeDef:
    """The tree of a tuple of trees."""
    return jax.tree_util.treedef_tuple(trees)


def split(trees: Sequence[TreeDef], leaves: Sequence[Any]) -> list[list[Any]]:
    """Split ``leaves`` into the leaves of each of several consecutive trees."""
    given = iter(leaves)
    return [[next(given) for _ in range(tree.num_leaves)] for tree in trees]


@dataclasses.dataclass(frozen=True)
class Flags:
    """A boolean for each leaf of the operands. It is put into their tree only for a rule that asks for it.

    Attributes:
        tree: the tree of the operands, a tuple.
        leaves: the booleans.
    """

    tree: TreeDef
    leaves: Sequence[bool]

    @property
    def each(self) -> list[bool]:
        """For each operand, whether the flag of some leaf is set."""
        return [any(part) for part in split(self.tree.children(), self.leaves)]

    @property
    def whole(self) -> Any:
        """The booleans in the operands' tree, as rules take them."""
        return unflatten(self.tree, self.leaves)


# ------------------------------------------------------------------------------------------- what is no pytree, or not all
def is_unregistered(value: Any) -> bool:
    """Whether a value is a dataclass that JAX does not look into. Its fields may be arrays."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def registration(value: Any) -> str:
    """The line that makes a pytree of a dataclass."""
    return (
        f"@jax.tree_util.register_dataclass  # on {type(value).__name__}: the arrays in it become operands or results"
    )


def is_equinox(treedef: TreeDef) -> bool:
    """Whether the root of a tree is an `equinox.Module`, which may hold functions beside its arrays."""
    node = treedef.node_data()
    return node is not None and any(base.__module__.startswith("equinox.") for base in node[0].__mro__)
