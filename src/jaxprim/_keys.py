"""Keys of static params: two params have one key only if a program made with the first serves the second.

Python's ``==`` is not enough. ``2 == 2.0 == True`` and ``0.0 == -0.0``, and so are tuples and dataclasses that hold
them, but a program differs: ``x * 2`` keeps an integer an integer, and ``1 / -0.0`` is ``-inf``. So a key holds the type
of each part beside its value, and the bits of a float. All nans of one type are equal here, as a program cannot tell
them apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import lru_cache
from types import FunctionType
from typing import Any

import numpy as np

# Equal values of these types are one value.
_PLAIN = frozenset({int, bool, str, bytes, type(None), type})
# What a program can read of the values of some types of Python.
_PARTS: dict[type, Callable[[Any], Iterable[Any]]] = {
    complex: lambda z: (z.real, z.imag),
    range: lambda r: (r.start, r.stop, r.step),
    slice: lambda s: (s.start, s.stop, s.step),
    Decimal: Decimal.as_tuple,
}


def typed(value: Any) -> Any:
    """The key of one param. It can be hashed if the param can."""
    kind = type(value)
    if kind in _PLAIN:
        return kind, value
    if isinstance(value, float):
        return kind, value.hex()
    if isinstance(value, tuple):
        return (kind, *map(typed, value))
    if kind in _PARTS:
        return (kind, *map(typed, _PARTS[kind](value)))
    if isinstance(value, np.generic):
        # The memory of a long double has bytes that mean nothing.
        return kind, value.dtype, repr(value) if kind in (np.longdouble, np.clongdouble) else value.tobytes()
    if kind.__hash__ is None:
        return kind, value  # refused by those who hash it
    if isinstance(value, frozenset):
        return kind, frozenset(map(typed, value))
    if isinstance(value, Mapping):
        return (kind, *((typed(key), typed(part)) for key, part in value.items()))
    return _of_object(kind, value)


def _of_object(kind: type, value: Any) -> Any:
    """The key of an object: its fields, if it is a dataclass or attrs class that is compared by them.

    A class with an ``__eq__`` of its own says which objects differ, and its fields say so too. One that is compared by
    identity is its own key.
    """
    names, is_generated = _compared(kind)
    if not names:
        return kind, value
    keys = [typed(getattr(value, name)) for name in names]
    return (kind, *keys) if is_generated else (kind, value, *filter(_is_hashable, keys))


@lru_cache(512)  # an eager call with such a param runs this each time
def _compared(kind: type) -> tuple[tuple[str, ...], bool]:
    """The fields by which a dataclass or attrs class is compared, and whether its ``__eq__`` was generated."""
    if kind.__eq__ is object.__eq__:
        return (), False
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind) if field.compare]
    else:
        names = [field.name for field in getattr(kind, "__attrs_attrs__", ()) if field.eq]
    return tuple(names), _is_generated(kind.__eq__)


def _is_generated(method: Any) -> bool:
    """Whether a method was written by ``dataclass`` or attrs: its code is in no file."""
    return isinstance(method, FunctionType) and method.__code__.co_filename.startswith(("<string>", "<attrs"))


def _is_hashable(key: Any) -> bool:
    try:
        hash(key)
    except TypeError:
        return False
    return True
