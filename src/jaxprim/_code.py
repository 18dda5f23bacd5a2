"""A digest of what an author's functions say: their code, and the values and functions that it reaches.

It is the same in every process that has the same code, whatever comments and line numbers say, and another one as soon
as a number in the code changes. What cannot be followed goes by its type, such as an object of a library.
"""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, cast

import numpy as np

from jaxprim._keys import typed

# What these say is known by their names; another version of JAX compiles anew.
_LIBRARIES = {"jax", "jaxlib", "numpy", "scipy", "jaxprim"} | sys.stdlib_module_names
_PLAIN = (int, float, complex, str, bytes, type(None), np.generic, range, slice)
_VALUES = (*_PLAIN, tuple, frozenset, CodeType)
_MOST = 5_000  # so many functions and values are looked at, which takes some ten milliseconds
_LARGEST = 1_000_000  # bytes of an array


def digest(things: Iterable[Any], inside: Callable[[Any], Iterable[Any] | None]) -> str:
    """The digest of functions and values.

    Args:
        things: the functions and values.
        inside: the parts of an object that the caller knows; None for any other.
    """
    found, todo = hashlib.sha256(), [*things]
    seen: dict[int, tuple[int, Any]] = {}  # with the thing itself, so that no other gets its id
    for _ in range(_MOST):
        if not todo:
            break
        thing = todo.pop()
        if id(thing) in seen:
            found.update(b"seen %d;" % seen[id(thing)][0])
            continue
        if not isinstance(thing, _VALUES):  # whether two equal values are one object is Python's choice
            seen[id(thing)] = len(seen), thing
        own = inside(thing)
        said, parts = (_name(type(thing)), own) if own is not None else _read(thing)
        parts = [*parts]
        found.update(f"{said} of {len(parts)};".encode(errors="surrogatepass"))
        todo += parts
    return found.hexdigest()


def _read(thing: Any) -> tuple[str, Iterable[Any]]:
    """What a thing says by itself, and its parts."""
    kind = _name(type(thing))
    if isinstance(thing, _PLAIN):
        return repr(typed(thing)), ()
    if isinstance(thing, CodeType):
        counts = thing.co_argcount, thing.co_posonlyargcount, thing.co_kwonlyargcount, thing.co_flags
        return f"{counts} {thing.co_code.hex()} {thing.co_names} {thing.co_exceptiontable.hex()}", thing.co_consts
    if isinstance(thing, FunctionType):
        return _name(thing), _of_function(thing)
    if isinstance(thing, MethodType):
        return kind, (thing.__func__, thing.__self__)
    if isinstance(thing, partial):
        given = cast("partial[Any]", thing)
        return kind, (given.func, given.args, given.keywords)
    if isinstance(thing, np.ndarray):
        array = cast("np.ndarray[Any, Any]", thing)
        is_read = array.nbytes <= _LARGEST and not array.dtype.hasobject
        return f"{array.dtype} {array.shape}", [array.tobytes()] if is_read else ()
    return kind if not isinstance(thing, type | ModuleType) else _name(thing), _of_container(thing)


def _of_container(thing: Any) -> Iterable[Any]:
    if isinstance(thing, Mapping):
        rows = cast("Mapping[Any, Any]", thing).items()
        return [part for row in rows for part in row]
    if isinstance(thing, tuple | list):
        return cast("list[Any]", thing)
    if isinstance(thing, set | frozenset):
        return sorted(_read(part)[0] for part in cast("set[Any]", thing))
    if is_of_library(thing if isinstance(thing, type) else type(thing)) or isinstance(thing, ModuleType):
        return [thing.__wrapped__] if hasattr(thing, "__wrapped__") else ()  # as of a jitted function
    if isinstance(thing, type):
        return [part for part in vars(thing).values() if isinstance(part, FunctionType)]
    fields = [field.name for field in dataclasses.fields(thing)] if dataclasses.is_dataclass(thing) else []
    values = [getattr(thing, name, None) for name in fields]
    return [type(thing), *values, *[part for row in getattr(thing, "__dict__", {}).items() for part in row]]


def _of_function(fn: FunctionType) -> Iterator[Any]:
    """What a function's code is, and what it reads. A library's function is known, but not what it closes over."""
    if not is_of_library(fn):
        yield fn.__code__
    yield from reads(fn)


def reads(fn: FunctionType) -> Iterator[Any]:
    """What a function reads: the variables that it closes over, defaults, global variables, attributes of modules.

    Of a library's function, only what it closes over.
    """
    held = [cell.cell_contents for cell in fn.__closure__ or () if not _is_empty(cell)]
    yield from held
    if is_of_library(fn):
        return
    yield fn.__defaults__
    yield tuple((fn.__kwdefaults__ or {}).items())
    names = sorted({name for code in _codes(fn.__code__) for name in code.co_names})
    values = [fn.__globals__[name] for name in names if name in fn.__globals__]
    yield from values
    for module in (*held, *values):
        if isinstance(module, ModuleType) and not is_of_library(module):
            yield from (getattr(module, name) for name in names if hasattr(module, name))


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _codes(const)


def _is_empty(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 it raises if the variable is not bound yet
    except ValueError:
        return True
    return False


def _name(thing: Any) -> str:
    name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", "")
    return f"{_module(thing)}.{name}"


def _module(thing: Any) -> str:
    return str(thing.__name__ if isinstance(thing, ModuleType) else getattr(thing, "__module__", ""))


def is_of_library(thing: Any) -> bool:
    """Whether a function, class or module is one of a library, which does not change while a program runs."""
    return _module(thing).partition(".")[0] in _LIBRARIES
