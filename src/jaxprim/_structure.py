"""Keys of programs: two programs with equal keys compute the same, and have the same derivatives.

Two traces of one function are two objects, as are those of a new ``lambda`` at each call. Whoever keeps what was made of a
program finds it again by this key. It says less than everything: what cannot be compared equals itself alone, so that the
worst is a program that is made again.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from inspect import Signature
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import jax
import numpy as np

from jaxprim import _jax
from jaxprim._code import is_of_library, reads
from jaxprim._jax import words
from jaxprim._keys import typed

_PLAIN = (bool, int, float, complex, str, bytes, type(None), frozenset)
# Compared by identity: nobody expects a change of these to be seen.
_FIXED = (type, ModuleType, BuiltinFunctionType, CodeType, jax.Array, np.dtype, np.ufunc, Signature)
_FUNCTIONS = (FunctionType, MethodType, functools.partial, jax.custom_jvp, jax.custom_vjp)
# The objects of these packages do not change while a program runs.
_PACKAGES = frozenset({"jax", "jaxlib", "jaxprim"})


class _Same:
    """An object that is compared by identity. It is kept alive, so that no other gets its address."""

    __slots__ = ("thing",)

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __hash__(self) -> int:
        return id(self.thing)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.thing is other.thing


def key_of(jaxpr: Any) -> Any:
    """The key of a jaxpr, open or closed. Variables are numbered, so their names do not matter."""
    inner = getattr(jaxpr, "jaxpr", jaxpr)
    numbers: dict[Any, int] = {}
    number = lambda var: numbers.setdefault(var, len(numbers))
    atom = lambda a: number(a) if isinstance(a, _jax.Var) else ("literal", _of_value(a.val), a.aval)
    heads = [*inner.constvars, *inner.invars]
    return (
        tuple(map(_of_value, getattr(jaxpr, "consts", ()))),
        tuple((number(var), var.aval) for var in heads),
        tuple(_of_equation(eqn, tuple(map(atom, eqn.invars)), tuple(map(number, eqn.outvars))) for eqn in inner.eqns),
        tuple(map(atom, inner.outvars)),
    )


def _of_equation(eqn: Any, inputs: tuple[Any, ...], outputs: tuple[Any, ...]) -> Any:
    params = tuple((name, _of_value(v)) for name, v in sorted(eqn.params.items()) if name != words.FOLLOWS)
    return eqn.primitive, inputs, outputs, params, _of_value(eqn.ctx)


def _of_value(value: Any) -> Any:
    """The key of a param, a constant, or what a function closes over."""
    if hasattr(value, "eqns"):
        return key_of(value)
    if isinstance(value, _PLAIN):
        return typed(value)
    if isinstance(value, tuple | list):
        return (type(value), *map(_of_value, value))
    if isinstance(value, dict):
        return (dict, *((name, _of_value(part)) for name, part in value.items()))
    if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
        return type(value), value.dtype, value.shape, value.tobytes()
    written = _jax.written_rule(value)
    if written is not None:
        fn, added = written
        return _of_function(fn, ()), _of_value(added)
    return _of_object(value)


def _of_object(value: Any) -> Any:
    """The key of an object of JAX, such as the context of an equation, or a sharding."""
    if dataclasses.is_dataclass(value) and type(value).__hash__ is None:
        return (type(value), *(_of_value(getattr(value, f.name)) for f in dataclasses.fields(value)))
    if isinstance(value, _FUNCTIONS):
        return _of_function(value, ())
    try:
        hash(value)
    except TypeError:
        return _Same(value)
    return type(value), value


# ------------------------------------------------------------------------------------------------------------ functions
def _of_function(fn: Any, path: tuple[Any, ...]) -> Any:
    """The key of a function of an author: its code, and all that it can read.

    A function that a loop makes again has the same key, if its variables have the same values. One that can read what may
    change, such as a dict, equals nothing: a program that was made earlier may have the old value.
    """
    for depth, outer in enumerate(path):
        if fn is outer:
            return "recursion", depth
    path = (*path, fn)
    if isinstance(fn, functools.partial):
        return functools.partial, _each((fn.func, fn.args, *fn.keywords.items()), path)
    if isinstance(fn, MethodType):
        return MethodType, _each((fn.__func__, fn.__self__), path)
    if isinstance(fn, jax.custom_jvp | jax.custom_vjp):
        return type(fn), _each((item for item in vars(fn).items() if not item[0].startswith("__")), path)
    if not isinstance(fn, FunctionType):
        return _of_read(fn, path)
    return fn.__code__, _each(reads(fn), path)


def _each(values: Iterable[Any], path: tuple[Any, ...]) -> Any:
    return tuple(_of_read(value, path) for value in values)


def _of_read(value: Any, path: tuple[Any, ...]) -> Any:
    """The key of a value that a function reads."""
    if isinstance(value, _PLAIN):
        return typed(value)
    if isinstance(value, tuple):
        return (tuple, _each(value, path))
    if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
        return _of_value(value)
    if isinstance(value, _FUNCTIONS):
        is_named = not isinstance(value, MethodType | functools.partial)
        is_constant = is_named and is_of_library(value) and not getattr(value, "__closure__", None)
        return _Same(value) if is_constant else _of_function(value, path)
    is_fixed = isinstance(value, _FIXED) or type(value).__module__.partition(".")[0] in _PACKAGES
    return _Same(value) if is_fixed and not isinstance(value, _jax.Tracer) else object()
