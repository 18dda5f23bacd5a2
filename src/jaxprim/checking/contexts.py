"""Places inside a program: a loop, a branch, a batch, a checkpoint. Questions and fuzzing layers are made of them.

A context takes a function of arrays that returns a list of arrays, and returns a function of the same arrays. `scan`,
`cond`, `while_loop`, `checkpoint` and `vmap` return the results of the function itself, so that they can be compared with a
plain call. The `repeat` functions apply a step to a state a given number of times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxprim.checking.values import is_key

# A function of all operand leaves that returns a list of leaves, and a transform of such functions.
Flat = Callable[..., Any]
Transform = Callable[[Flat], Flat]

POLICIES = (
    "everything_saveable",
    "nothing_saveable",
    "dots_saveable",
    "dots_with_no_batch_dims_saveable",
)


# -------------------------------------------------------------------------------------------------------------- loops
def scan(function: Flat) -> Flat:
    """The function in the body of a scan over two equal slices of its operands; returns the second result."""

    def call(*leaves: Any) -> list[Any]:
        twice = [jnp.stack([jnp.asarray(leaf)] * 2) if not is_key(leaf) else None for leaf in leaves]

        def body(carry: Any, slices: Sequence[Any]) -> Any:
            every = [leaf if s is None else s for leaf, s in zip(leaves, slices, strict=True)]
            return carry, list(function(*every))

        found = jax.lax.scan(body, jnp.int32(0), twice, length=2)[1]
        return [leaf[1] for leaf in found]

    return call


def while_loop(function: Flat, results: Sequence[Any]) -> Flat:
    """The function in a loop of two rounds whose number JAX does not know. ``results`` give the result types."""
    return lambda *leaves: repeat_while(lambda _: list(function(*leaves)), [_nothing(leaf) for leaf in results], 2)


def repeat_scan(step: Callable[[Any], Any], state: Any, rounds: int) -> Any:
    """Apply a step a number of times, in the carry of a scan."""
    return jax.lax.scan(lambda carry, _: (step(carry), None), state, None, length=rounds)[0]


def repeat_while(step: Callable[[Any], Any], state: Any, rounds: int) -> Any:
    """Apply a step a number of times, in a loop whose number of rounds JAX does not know."""
    body = lambda carry: (carry[0] + 1, step(carry[1]))
    return jax.lax.while_loop(lambda carry: carry[0] < rounds, body, (jnp.int32(0), state))[1]


def repeat_fori(step: Callable[[Any], Any], state: Any, rounds: int) -> Any:
    """Apply a step a number of times, in a loop whose number of rounds JAX knows."""
    return jax.lax.fori_loop(0, rounds, lambda _, state: step(state), state)


# ----------------------------------------------------------------------------------------------------------- branches
def unknown_to_the_compiler(*_: Any) -> Any:
    """A predicate that is always true, but that XLA cannot fold."""
    return jax.lax.optimization_barrier(jnp.array(True))


def cond(function: Flat, otherwise: Flat, predicate: Callable[..., Any] = unknown_to_the_compiler) -> Flat:
    """The function in the branch that is taken, another one in the other; the predicate sees the operands."""
    taken = _listed(function)
    other = taken if otherwise is function else _listed(otherwise)  # JAX traces one function once
    return lambda *leaves: jax.lax.cond(predicate(*leaves), taken, other, *leaves)


def _listed(function: Flat) -> Flat:
    return lambda *leaves: list(function(*leaves))


def zeros(results: Sequence[Any]) -> Flat:
    """A function that returns zeros of the types of these results, whatever its operands."""
    return lambda *_: [_nothing(leaf) for leaf in results]


def _nothing(like: Any) -> Any:
    """Zeros of the type of ``like``; a key stays as it is, since keys have no zeros."""
    return like if is_key(like) else jnp.zeros(like.shape, like.dtype)


# ------------------------------------------------------------------------------------------- checkpoints and batches
def checkpoint(function: Flat, policy: str | None = None) -> Flat:
    """The function under ``jax.checkpoint``, by the name of a policy."""
    return jax.checkpoint(function, policy=None if policy is None else getattr(jax.checkpoint_policies, policy))


def vmap(function: Flat, axes: Sequence[int | None] | None = None) -> Flat:
    """The function under ``vmap`` over a batch of one; returns its only member. An axis is 0 or None."""

    def call(*leaves: Any) -> list[Any]:
        in_axes = tuple(axes or [0] * len(leaves))
        some = [jnp.expand_dims(leaf, 0) if a == 0 else leaf for leaf, a in zip(leaves, in_axes, strict=True)]
        return [leaf[0] for leaf in jax.vmap(function, in_axes=in_axes)(*some)]

    return call
