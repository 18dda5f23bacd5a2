"""``def_host(fn, keep=make, of=("a",))``: what a host function sets up is kept between calls, found by its operands.

A set-up is whatever ``make`` returns: a factorization, a plan, a tree. It is found by the bytes of the operands and by the
static params that it is made from, so a call computes the same whether its set-up is new or was kept.
"""

from __future__ import annotations

import functools
import inspect
import os
import threading
import weakref
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from jaxprim import _origin
from jaxprim._errors import BadCall, an, message
from jaxprim._keys import typed
from jaxprim._trees import describe
from jaxprim._types import Kept

FEW = 16  # how many are kept if nothing is said
_LINE = '{0}.def_host(fn, keep=make, of=("a",))  # fn(made, a, b), where made = make(a)'


class KeptSetUps:
    """The set-ups of one host function. No two calls have the same one at the same time: each may work in its own."""

    def __init__(self, make: Callable[..., Any], most: int) -> None:
        self._make, self._most = make, most
        self._free: dict[Any, list[Any]] = {}  # by key, the one that was used longest ago first
        self._lock = threading.Lock()
        self._made = self._found = self._used = self._epoch = 0
        _ALL.add(self)

    @contextmanager
    def lease(self, values: Sequence[Any], params: Mapping[str, Any]) -> Generator[Any]:
        """A set-up that no other call has. It is kept afterwards, unless the call fails."""
        key, own = _key(values, params)
        with self._lock:
            free = self._free.get(key)
            made = free.pop() if free else None
            if free is not None and not free:
                del self._free[key]
            is_found, epoch = free is not None, self._epoch
            self._found += is_found
            self._used += 1
        try:
            if not is_found:  # outside of the lock: it may take long
                made = self._make(*own, **params)
                with self._lock:
                    self._made += 1
            yield made
        except BaseException:
            with self._lock:
                self._used -= 1
            raise
        with self._lock:
            self._used -= 1
            gone = self._give_back(key, made) if epoch == self._epoch else []
        del gone, made  # what frees them runs outside of the lock

    def _give_back(self, key: Any, made: Any) -> list[Any]:
        """Those that there is no more room for."""
        self._free[key] = [*self._free.pop(key, []), made]  # used last
        gone: list[Any] = []
        while sum(map(len, self._free.values())) > self._most:
            oldest = next(iter(self._free))
            gone.append(self._free[oldest].pop(0))
            if not self._free[oldest]:
                del self._free[oldest]
        return gone

    def counts(self) -> Kept:
        with self._lock:
            return Kept(self._made, self._found, self._used + sum(map(len, self._free.values())))

    def forget(self) -> None:
        """Drop all that no call uses now; those in use are dropped when they come back."""
        with self._lock:
            gone, self._free = self._free, {}
            self._epoch += 1
        del gone

    def after_fork(self) -> None:
        """Begin anew in the child: the lock may be held by a thread that is not here."""
        _of_parents.append(self._free)
        self._free, self._lock = {}, threading.Lock()
        self._made = self._found = self._used = 0
        self._epoch += 1


_ALL: weakref.WeakSet[KeptSetUps] = weakref.WeakSet()
_of_parents: list[Any] = []  # never freed: a library need not bear that its objects are used on both sides of a fork


def _after_fork() -> None:
    for each in list(_ALL):
        each.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _key(values: Sequence[Any], params: Mapping[str, Any]) -> tuple[Any, list[Any]]:
    """What a set-up is found by, and the operands that it is made from, in the key's own memory.

    The bytes count, and not the numbers: 0.0 and -0.0 are two. A set-up may refer to its operands, as a tree refers to its
    points, and their memory is the caller's, who may change it.
    """
    leaves, tree = jax.tree.flatten(list(values))
    arrays = [(str(leaf.dtype), leaf.shape, np.ascontiguousarray(leaf).tobytes()) for leaf in leaves]
    key = tree, tuple(arrays), tuple((name, typed(value)) for name, value in sorted(params.items()))
    own = [np.ndarray(leaf.shape, leaf.dtype, data) for leaf, (_, _, data) in zip(leaves, arrays, strict=True)]
    return key, jax.tree.unflatten(tree, own)


def host_with_set_ups(
    name: str, fn: Callable[..., Any], make: Callable[..., Any], of: Sequence[str] | str, most: int
) -> Callable[..., Any]:
    """A host function that gets its set-up first: ``fn(made, *operands, **params)``.

    Raises:
        BadCall: ``of`` names what the function does not take, or an argument has another type.
    """
    names = (of,) if isinstance(of, str) else tuple(of)
    refuse = functools.partial(_refused, name, fn)
    if not callable(make):
        raise refuse("keep= takes a function.", describe(make), "a function of the operands in of=")
    if isinstance(most, bool) or not isinstance(most, int) or most < 0:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise refuse("most= takes a number.", repr(most), "how many set-ups are kept, 0 or more")
    parameters = list(inspect.signature(fn).parameters.values())
    if not parameters or parameters[0].kind is inspect.Parameter.KEYWORD_ONLY:
        raise refuse(
            "its host function has no argument for the set-up.", str(inspect.signature(fn)), "the set-up first"
        )
    signature = inspect.Signature(parameters[1:])
    kinds = {p.name: p.kind for p in parameters[1:]}
    unknown = next((each for each in names if each not in kinds), None)
    if unknown is not None or not names:
        got = f"{an('operand')} '{unknown}'" if unknown is not None else "none"
        raise refuse("of= names what a set-up is made from.", got, f"some of {', '.join(kinds) or 'its operands'}")
    set_ups = KeptSetUps(make, most)

    @functools.wraps(fn)
    def run(*operands: Any, **params: Any) -> Any:
        given = signature.bind(*operands, **params).arguments
        static = {each: given[each] for each in names if kinds[each] is inspect.Parameter.KEYWORD_ONLY}
        values = [given[each] for each in names if each not in static]
        with set_ups.lease(values, static) as made:
            return fn(made, *operands, **params)

    run.__signature__ = signature  # pyright: ignore[reportAttributeAccessIssue]
    vars(run).update(set_ups=set_ups, notes=(f"keeps {_origin.name_of(make)}({', '.join(names)})",))
    return run


def refuse_ignored(name: str, fn: Any, keep: Any, of: Any, most: Any, aliases: Any) -> None:
    """Refuse what says nothing for a host function, or says nothing alone.

    Raises:
        BadCall: an option was given.
    """
    rule = fn if callable(fn) else None
    if aliases is not None:
        raise BadCall(
            message(
                f"{name}: a host function does not work in place.",
                got=f"aliases={aliases!r}",
                expected="a host function that returns a new array",
                why="JAX copies what Python returns, so the copy that aliases= saves would be made all the same",
                rule=rule,
                write="y = x.copy()  # then change y, and return it",
            )
        )
    idle = f"of={of!r}" if of != () else f"most={most!r}" if most != FEW else None
    if keep is None and idle is not None:
        raise _refused(name, fn, "of= and most= have no meaning without keep=.", idle, "keep=, which makes a set-up")


def _refused(name: str, fn: Callable[..., Any], what: str, got: str, expected: str) -> BadCall:
    return BadCall(message(f"{name}: {what}", got=got, expected=expected, rule=fn, write=_LINE.format(name)))


def set_ups_of(name: str, rule: Any, made: str) -> KeptSetUps:
    """The set-ups of a host function.

    Raises:
        BadCall: it keeps none.
    """
    found = getattr(rule.author, "set_ups", None) if rule is not None else None
    if not isinstance(found, KeptSetUps):
        raise BadCall(
            message(
                f"{name}: it keeps no set-ups.",
                expected="a host function that was given with keep=",
                defined=made,
                write=_LINE.format(name),
            )
        )
    return found
