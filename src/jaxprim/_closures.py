"""Traced values that an author's functions close over.

A function that is made inside another one may read its variables, and under a transformation these are tracers. JAX may
run the function long after, when they mean nothing any more. So they are found when the operation is applied, and given
to it as operands. When the function runs, `with_values` traces it and puts the operands in their place:

    theta -> op(x, theta)        f(x), which reads theta  ->  f'(x, theta)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import jax
import numpy as np

from jaxprim import _jax
from jaxprim._avals import short
from jaxprim._errors import BadCall, message
from jaxprim._masks import expand
from jaxprim._origin import named

Fn = Callable[..., Any]
Ended = Callable[["ClosedOver", Fn], Exception]

# What holds no tracer, or is not looked into.
_PLAIN = (
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    type(None),
    type,
    ModuleType,
    BuiltinFunctionType,
    np.ndarray,
    np.generic,
)
# A method's object may lead to all of a program. So at most this many objects are looked at, and an attribute of an
# attribute of an object, but no further.
_MOST, _DEPTH = 2000, 2


@dataclass(frozen=True, eq=False)
class ClosedOver:
    """A traced value that a function closes over.

    Attributes:
        tracer: the value.
        name: the variable that holds it, or the object that leads to it.
        fn: the function.
    """

    tracer: Any
    name: str
    fn: Fn

    @property
    def fact(self) -> str:
        """What a message shows of it."""
        return f"{self.name}: {short(self.tracer.aval)}, read by {named(self.fn)}"


@dataclass(frozen=True)
class _Held:
    """A thing that a function closes over.

    Attributes:
        thing: the thing.
        name: the variable that leads to it; empty for the function itself.
        fn: the function with that variable.
        depth: how many attributes of objects lie between.
    """

    thing: Any
    name: str
    fn: Fn
    depth: int = 0

    def holds(self, thing: Any, name: str = "", fn: Fn | None = None, deeper: int = 0) -> _Held:
        """A part of it, which the first variable on the way names."""
        return _Held(thing, self.name or name, self.fn if self.name or fn is None else fn, self.depth + deeper)


def holds_nothing(fn: Fn) -> bool:
    """Whether a function surely closes over nothing: a plain ``def`` at the top level of a module."""
    return isinstance(fn, FunctionType) and not (fn.__closure__ or fn.__defaults__ or fn.__kwdefaults__ or vars(fn))


def closed_over(fns: Iterable[Fn]) -> list[ClosedOver]:
    """The traced values that functions close over, each once."""
    found: dict[int, ClosedOver] = {}
    seen: set[int] = set()
    todo = [_Held(fn, "", fn) for fn in reversed(list(fns))]  # the first function is looked at first
    while todo and len(seen) < _MOST:
        held = todo.pop()
        thing = held.thing
        if isinstance(thing, _jax.Tracer):
            if _jax.has_ended(thing):  # it has leaked; who reads it is told by JAX
                continue
            found.setdefault(id(thing), ClosedOver(thing, held.name, held.fn))
        elif id(thing) not in seen and not isinstance(thing, (*_PLAIN, jax.Array)):
            seen.add(id(thing))
            todo += _parts(held)
    return list(found.values())


def _parts(held: _Held) -> Iterator[_Held]:
    """What a thing holds."""
    thing = held.thing
    if isinstance(thing, FunctionType):
        yield from (held.holds(value, name, thing) for name, value in _variables(thing))
    elif isinstance(thing, MethodType):
        yield held.holds(thing.__self__, "self", thing.__func__)
        yield held.holds(thing.__func__)
    elif isinstance(thing, functools.partial):
        yield from map(held.holds, (thing.func, *thing.args, *thing.keywords.values()))
    elif isinstance(thing, dict):
        yield from map(held.holds, thing.values())
    elif isinstance(thing, list | tuple | set | frozenset):
        yield from map(held.holds, thing)
    elif (functions := getattr(type(thing), "_closes_over", None)) is not None:  # `custom_vjp`, `custom_jvp`
        yield from (_Held(fn, "", fn, held.depth) for fn in functions(thing))
        return
    elif held.depth < _DEPTH:
        yield from (held.holds(leaf, deeper=1) for leaf in _leaves(thing) if leaf is not thing)
    if held.depth < _DEPTH:
        attributes = list(getattr(thing, "__dict__", {}).items())
        yield from (held.holds(value, name, deeper=1) for name, value in attributes)


def _variables(fn: FunctionType) -> Iterator[tuple[str, Any]]:
    """The variables of outer functions that a function reads, and its defaults."""
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
        with suppress(ValueError):  # a variable that is not bound yet
            yield name, cell.cell_contents
    yield from (("", value) for value in fn.__defaults__ or ())
    yield from (fn.__kwdefaults__ or {}).items()


def _leaves(thing: Any) -> list[Any]:
    try:
        return jax.tree.leaves(thing)
    except Exception:  # noqa: BLE001 an author's class may raise anything
        return []


def with_values(fn: Fn, outer: Sequence[ClosedOver], values: Sequence[Any], ended: Ended) -> Fn:
    """A function with other values in the place of those that it closes over.

    Args:
        fn: the function.
        outer: what it closes over.
        values: what stands for that.
        ended: makes the error for a value whose transformation is over, so that JAX refuses to compute with it.
    """
    if not outer:
        return fn
    places = {id(closed.tracer): value for closed, value in zip(outer, values, strict=True)}

    def call(*args: Any) -> Any:
        try:
            jaxpr, consts, rebuild = _trace(fn, args)
        except jax.errors.UnexpectedTracerError as error:
            over = next((closed for closed in outer if _jax.has_ended(closed.tracer)), None)
            raise error if over is None else ended(over, fn) from None
        return rebuild(_jax.evaluate_open(jaxpr, [places.get(id(const), const) for const in consts]))

    return call


def reads(fn: Fn, args: Sequence[Any], outer: Sequence[ClosedOver]) -> list[bool]:
    """Which of the values that it closes over a function reads, at these arguments."""
    jaxpr, consts, _ = _trace(fn, args)
    read = set(map(id, _jax.prune(jaxpr, consts)[1]))
    return [id(closed.tracer) in read for closed in outer]


def first_differentiated(
    fn: Fn, args: Sequence[Any], outer: Sequence[ClosedOver], perturbed: Sequence[bool]
) -> ClosedOver | None:
    """The first of the perturbed values that a function reads at these arguments. The derivative in all others is zero."""
    if not any(perturbed):
        return None
    rows = zip(outer, perturbed, reads(fn, args, outer), strict=True)
    return next((closed for closed, is_perturbed, is_read in rows if is_perturbed and is_read), None)


def differentiated(owner: str, closed: ClosedOver, instead: str, why: str, rule: Fn, write: str) -> BadCall:
    """The error for a derivative in a closed-over value, of which a rule gives none."""
    return BadCall(
        message(
            f"{owner}: the value '{closed.name}', which it closes over, is differentiated.",
            got=closed.fact,
            expected=f"{instead}, for which the rule returns a derivative",
            why=why,
            rule=rule,
            write=write,
        )
    )


def ended(owner: str, closed: ClosedOver, rule: Fn, write: str) -> BadCall:
    """The error for a closed-over value that means nothing any more."""
    return BadCall(
        message(
            f"{owner}: the closed-over value '{closed.name}' belongs to a transformation that has ended.",
            got=closed.fact,
            expected="a value of a transformation that is still running",
            why="what differentiates here stands outside of the transformation in which the rule was made",
            rule=rule,
            write=write,
        )
    )


def _trace(fn: Fn, args: Sequence[Any]) -> tuple[Any, list[Any], Callable[[Sequence[Any]], Any]]:
    """A call as a jaxpr without inputs: all arrays that it reads are constants. With them, and what makes its result.

    What is no array in the result stays as it is: a symbolic zero, a function, a number of Python.
    """
    found: list[Any] = []

    def run() -> list[Any]:
        leaves, tree = jax.tree.flatten(fn(*args))
        kept = list(map(_is_array, leaves))
        # Of the arrays nothing stays here: a tracer that outlives its trace is a leak to `jax.checking_leaks`.
        found[:] = tree, kept, [None if is_kept else leaf for is_kept, leaf in zip(kept, leaves, strict=True)]
        return list(filter(_is_array, leaves))

    jaxpr, consts = _jax.trace_open(run, [], "closure")
    tree, kept, others = found
    return jaxpr, consts, lambda outs: tree.unflatten(expand(outs, kept, others.__getitem__))


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic) and leaf.dtype != _jax.float0
