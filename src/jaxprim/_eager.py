"""`EagerCalls`: call a primitive or kernel outside of any trace, with one look-up and JAX's C++ dispatch.

`jax.jit` compiles an eager call once, and repeats it in a few microseconds. The work before that costs more: binding
arguments to a signature, filling in defaults, making keys of static params. So we first look the call up as the caller
wrote it: the number of positional operands, and each keyword with its value. A hit means that the same call was bound
before, so we can run it at once. Different spellings of the same call share one entry, which is also stored under the
canonical spelling: all operands by position, all static params in order.

An operand passed by name cannot be part of a key, because its value would be, so such a call is bound each time.

Inside a trace the same entry provides the static params, and the operation is staged instead. We ask JAX's trace state
for that and not the operands, because an outer `jit` also stages operations on constants.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxprim import _jax
from jaxprim._errors import JaxprimError
from jaxprim._keys import typed
from jaxprim._rules import make_room
from jaxprim._signature import Bound

# The most compiled calls that are kept for one operation. Each set of static params needs one of its own.
MOST_COMPILED = 1024

Spelling = tuple[Any, ...]  # how many operands by position, then (keyword, value) pairs


class Entry:
    """The entry of all calls that mean the same.

    Attributes:
        params: the static params, defaults filled in.
        run: the compiled function of the operands; None before the first eager call.
    """

    __slots__ = ("params", "run")

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params
        self.run: Callable[..., Any] | None = None


class EagerCalls:
    """The calls of one operation.

    Args:
        table: where the entries are kept. Its owner clears it when the operation changes.
        bind: splits positional and keyword arguments into operands and hashable static params, or refuses them.
        apply: ``apply(operands, params)`` stages the operation in the trace around it.
        compiled: ``compiled(params)`` makes the function of the operands that eager calls run.
        explain: ``explain(args, kwargs)`` raises an error that names the argument that caused a TypeError, if one did.
    """

    def __init__(
        self,
        table: dict[Spelling, Entry],
        *,
        bind: Callable[[tuple[Any, ...], Mapping[str, Any]], Bound],
        apply: Callable[[tuple[Any, ...], Mapping[str, Any]], Any],
        compiled: Callable[[Mapping[str, Any]], Callable[..., Any]],
        explain: Callable[[tuple[Any, ...], Mapping[str, Any]], None],
    ) -> None:
        self._table, self._bind, self._apply = table, bind, apply
        self._compiled, self._explain = compiled, explain

    def call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run the operation, or stage it inside a trace."""
        try:
            key = _spelling(len(args), kwargs) if kwargs else (len(args),)
            try:
                found = self._table.get(key)
            except TypeError:  # not hashable: an operand by name, or a param that `bind` replaces or refuses
                found = key = None
            operands = args
            if found is None:
                found, operands = self._enter(key, args, kwargs)
            if not _jax.trace_state_clean():
                return self._apply(operands, found.params)
            run = found.run
            if run is None:
                run = found.run = self._compiled(found.params)
            return run(*operands)
        except TypeError as error:
            if not isinstance(error, JaxprimError):
                self._explain(args, kwargs)
            raise
        except ValueError as error:
            if _jax.is_runtime_error(error):
                raise jax.errors.JaxRuntimeError(str(error)) from None
            raise

    def _enter(
        self, key: Spelling | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Entry, tuple[Any, ...]]:
        """Bind a call with a new spelling; returns its entry and its operands."""
        operands, params = self._bind(args, kwargs)
        make_room(self._table, MOST_COMPILED - 1)  # for two spellings
        found = self._table.setdefault(_spelling(len(operands), dict(sorted(params.items()))), Entry(params))
        if key is not None and len(operands) == len(args):
            self._table[key] = found
        return found, operands


def jit_as(name: str, fn: Callable[..., Any]) -> Callable[..., Any]:
    """A compiled function with the name that profiles and jaxprs show."""
    fn.__name__ = fn.__qualname__ = name
    return jax.jit(fn)


def _spelling(count: int, keywords: Mapping[str, Any]) -> Spelling:
    return (count, *((name, typed(value)) for name, value in keywords.items()))
