"""Fill the memory of a kernel's results before the kernel runs, to see whether it reads what it never wrote.

The memory that XLA gives for a result holds what was there before. A kernel that adds to it, or leaves out a part of it,
often works by luck: new memory is mostly zero. So the checker runs a kernel several times, each time over memory with
other numbers. That memory is donated to a program that has the kernel's results alone, so XLA puts them there.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim import _jax

NAME = "kernel_call"  # the JAX primitive that all kernels share

# What the memory is filled with, one after the other. No sum or extreme of an unknown number and a result is the same over
# all of them. Integers may be used as places in an array, so they are small.
_REALS: tuple[float, ...] = (np.nan, 1e30, -1e30)
_INTEGERS = (101, 0, -101)

_round: ContextVar[int | None] = ContextVar("round", default=None)


def runs(program: Any, args: Sequence[Any]) -> Iterator[list[Any]]:
    """The results of a program whose kernels find their memory filled with one number, with another, and with a third."""
    for number in range(len(_INTEGERS)):
        with _filling(number):
            yield _jax.evaluate_inside(program, args, NAME)


@contextmanager
def _filling(number: int) -> Generator[None]:
    """Kernels that run eagerly meanwhile find their memory filled."""
    token = _round.set(number)
    try:
        yield
    finally:
        _round.reset(token)


def can_be_filled(primitive: Any) -> Any:
    """A JAX primitive that runs over filled memory where `runs` asks for it."""
    run = primitive.impl

    def over_memory(*args: Any, results: Sequence[Any], **params: Any) -> Any:
        number = _round.get()
        if number is None:
            return run(*args, results=results, **params)
        apply = lambda memory, *args: primitive.bind(*args, results=results, **params)
        return _on(apply, [_filled(aval, number) for aval in results], args)

    primitive.def_impl(over_memory)
    return primitive


def _on(apply: Callable[..., Any], memory: Sequence[Any], args: Sequence[Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a platform without donation
        return jax.jit(apply, donate_argnums=0, keep_unused=True)(memory, *args)


def _filled(aval: Any, number: int) -> jax.Array:
    if jnp.issubdtype(aval.dtype, jnp.inexact):
        value: Any = jnp.asarray(_REALS[number], jnp.finfo(aval.dtype).dtype)
    else:
        value = np.asarray(_INTEGERS[number]).astype(aval.dtype)
    return jnp.full(aval.shape, value, aval.dtype)
