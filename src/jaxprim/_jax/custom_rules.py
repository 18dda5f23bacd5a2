"""The author's functions behind an equation of ``jax.custom_jvp`` or ``jax.custom_vjp``.

JAX wraps them anew each time that it traces, so two traces of one function have two different equations. What the author
wrote is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jax._src import linear_util as lu
from jax._src.util import Unhashable

from jaxprim._jax import words


def written_rule(value: Any) -> tuple[Callable[..., Any], tuple[Any, ...]] | None:
    """The function that a param of an equation wraps, and what JAX's wrappers add to it; None for any other value.

    What they add decides, for instance, which arguments are static, and has their values.
    """
    if not isinstance(value, lu.WrappedFun):
        return None
    inner = _behind_thunk(value.f)
    if inner is not None:
        return written_rule(inner)
    return value.f, tuple(_added(argument) for _, arguments in value.transforms for argument in arguments)


def _behind_thunk(fn: Any) -> Any:
    """What a function of JAX traces when it is first called, if it is one of those."""
    if getattr(fn, "__qualname__", "") == words.MEMOIZED:
        fn = _variable(fn, "fn")
    if getattr(fn, "__qualname__", "").startswith(words.TRACES_LATER):
        return next((held for name in words.RULE_VARIABLES if (held := _variable(fn, name)) is not None), None)
    return None


def _variable(fn: Any, name: str) -> Any:
    """A variable of an outer function that a function reads."""
    found = dict(zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True))
    return found[name].cell_contents if name in found else None


def _added(argument: Any) -> Any:
    """An argument of a wrapper, without what belongs to one trace: where it stores its results, and for whom it traces."""
    if isinstance(argument, tuple):
        return tuple(map(_added, argument))
    if isinstance(argument, Unhashable):
        return argument.val
    is_of_one_trace = type(argument).__name__ == words.DEBUG_INFO or words.STORES in getattr(
        argument, "__qualname__", ""
    )
    return None if is_of_one_trace else argument
