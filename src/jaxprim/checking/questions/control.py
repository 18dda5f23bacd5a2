"""Questions about control flow: an operation in the body of a loop, behind a condition, or recomputed, is the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxprim.checking.case import Case
from jaxprim.checking.questions.usual import Flat, Transform, everywhere
from jaxprim.checking.setting import Answer
from jaxprim.checking.values import is_key

POLICIES = (
    "everything_saveable",
    "nothing_saveable",
    "dots_saveable",
    "dots_with_no_batch_dims_saveable",
)


def control_flow(case: Case) -> Answer:
    """Value, JVP and VJP inside scan, cond, a while loop and a checkpoint, against a plain call."""
    places: Mapping[str, Transform] = {
        "scan": scanned,
        "cond": lambda function: conditional(function, case.native.results),
        "while_loop": lambda function: looped(function, case.native.results),
        "checkpoint": _recomputed,
    }
    # JAX has no reverse mode through a loop whose length is not known.
    yield from everywhere(case, places, rules={"while_loop": ("impl", "jvp")})


def checkpoint(case: Case) -> Answer:
    """Value, JVP and VJP under ``jax.checkpoint`` with each policy, and inside a scan."""
    places: dict[str, Transform] = {f"checkpoint, {name}": _with_policy(name) for name in POLICIES}
    places["checkpoint inside scan"] = lambda function: scanned(_recomputed(function))
    places["scan inside checkpoint"] = lambda function: _recomputed(scanned(function))
    yield from everywhere(case, places, rules=dict.fromkeys(places, ("jvp", "vjp")))


def _recomputed(function: Flat) -> Flat:
    return jax.checkpoint(function)


def _with_policy(name: str) -> Transform:
    policy = getattr(jax.checkpoint_policies, name)
    return lambda function: jax.checkpoint(function, policy=policy)


def scanned(function: Flat) -> Flat:
    """The function at each of two equal slices of its operands; the second result."""

    def scan(*leaves: Any) -> list[Any]:
        twice = [jnp.stack([jnp.asarray(leaf)] * 2) if not is_key(leaf) else None for leaf in leaves]

        def body(carry: Any, slices: Sequence[Any]) -> Any:
            every = [leaf if s is None else s for leaf, s in zip(leaves, slices, strict=True)]
            return carry, list(function(*every))

        found = jax.lax.scan(body, jnp.int32(0), twice, length=2)[1]
        return [leaf[1] for leaf in found]

    return scan


def conditional(function: Flat, results: Sequence[Any]) -> Flat:
    """The function behind a condition that the compiler does not know."""

    def cond(*leaves: Any) -> list[Any]:
        def otherwise(*leaves: Any) -> list[Any]:
            del leaves
            return [_nothing(leaf) for leaf in results]

        unknown = jax.lax.optimization_barrier(jnp.array(True))
        return jax.lax.cond(unknown, lambda *leaves: list(function(*leaves)), otherwise, *leaves)

    return cond


def looped(function: Flat, results: Sequence[Any]) -> Flat:
    """The function in a loop of two rounds."""

    def loop(*leaves: Any) -> list[Any]:
        def body(carry: Any) -> Any:
            return carry[0] + 1, list(function(*leaves))

        first = [_nothing(leaf) for leaf in results]
        return jax.lax.while_loop(lambda carry: carry[0] < 2, body, (jnp.int32(0), first))[1]

    return loop


def _nothing(like: Any) -> Any:
    """Zeros of a type; keys have none."""
    return like if is_key(like) else jnp.zeros(like.shape, like.dtype)
