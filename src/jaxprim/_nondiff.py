"""Non-differentiable arguments, as ``nondiff_argnums`` of ``jax.custom_vjp`` names them: anything in Python.

Their arrays of JAX become operands, because these may be traced. All else is static, and keyed by its value. An array of
NumPy is static too: a function may read shapes and branches from it, also under ``jit``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxprim._keys import typed


class _Slot:
    """Stands for an array that is an operand."""

    def __repr__(self) -> str:
        return "array"


_SLOT = _Slot()


class Frozen:
    """The static part of an argument that has no hash, or holds arrays."""

    __slots__ = ("_key", "leaves", "tree")

    def __init__(self, leaves: list[Any], tree: Any) -> None:
        self.leaves, self.tree = leaves, tree
        self._key: Any = (tree, tuple(map(_key, leaves)))
        try:
            hash(self._key)
        except TypeError:  # a value that may change, and that nobody can compare: it equals itself alone
            self._key = object()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frozen) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return repr(self.tree.unflatten(self.leaves))


def _key(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray) and not leaf.dtype.hasobject:
        return leaf.dtype, leaf.shape, leaf.tobytes()
    return typed(leaf)


def freeze(value: Any) -> tuple[Any, list[Any]]:
    """The static part of an argument, which has a hash, and its arrays of JAX."""
    leaves, tree = jax.tree.flatten(value)
    arrays = [leaf for leaf in leaves if isinstance(leaf, jax.Array)]
    if not arrays:
        try:
            hash(value)
        except TypeError:
            return Frozen(leaves, tree), []
        return value, []
    return Frozen([_SLOT if isinstance(leaf, jax.Array) else leaf for leaf in leaves], tree), arrays


def thaw(static: Any, arrays: Iterator[Any]) -> Any:
    """The argument that `freeze` took apart, with the next arrays in their places."""
    if not isinstance(static, Frozen):
        return static
    return static.tree.unflatten([next(arrays) if leaf is _SLOT else leaf for leaf in static.leaves])
