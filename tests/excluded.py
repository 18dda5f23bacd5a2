"""The cells of the matrix that cannot work, each with its reason and the error that a user meets there."""

from __future__ import annotations

from dataclasses import dataclass

import jax
from rows.remat import HAS_OTHER_REMAT
from zoo import BOTH, COLLECTIVE, COMPLEX, IMPL, JVP, OPAQUE_BACKWARD, OPAQUE_RULES, TRACEABLE, TRANSPOSE, VJP

from jaxprim import RuleMissing


@dataclass(frozen=True)
class Excluded:
    """Why a cell is excluded.

    Attributes:
        reason: what forbids it.
        error: the type of the exception.
        message: a regular expression that its message matches.
        of_jax: whether it is JAX's own limit, so that the reference fails in the same way.
        since: the JAX version that brought the limit.
    """

    reason: str
    error: type[Exception]
    message: str
    of_jax: bool = False
    since: tuple[int, ...] = ()


def _cells(kinds: tuple[str, ...], rows: tuple[str, ...], why: Excluded) -> dict[tuple[str, str], Excluded]:
    return {(kind, row): why for kind in kinds for row in rows if jax.__version_info__ >= why.since}


EVERY_KIND = (BOTH, VJP, JVP, TRANSPOSE, IMPL, OPAQUE_BACKWARD, TRACEABLE, OPAQUE_RULES, COLLECTIVE, COMPLEX)
ON_HOST = tuple(kind for kind in EVERY_KIND if kind not in (IMPL, TRACEABLE, COLLECTIVE))

UNBOUNDED = Excluded(
    "Reverse mode needs the values of every step, and how many steps a `while` takes is not known.",
    ValueError,
    "Reverse-mode differentiation does not work for lax.while_loop",
    of_jax=True,
)
COLLECTIVE_IN_SHARD_MAP = Excluded(
    "JAX refuses a collective over a vmapped axis inside `shard_map` with `check_vma`.",
    AssertionError if jax.__version_info__ >= (0, 8, 2) else TypeError,
    r"^\s"
    if jax.__version_info__ >= (0, 8, 2)
    else "_psum_invariant_abstract_eval.. got an unexpected keyword argument",
    of_jax=True,
)
COLLECTIVE_IN_EXPLICIT_MESH = Excluded(
    "JAX cannot lower a collective over a vmapped axis of an array that is sharded explicitly.",
    ValueError,
    "Length of sharding.spec .3. must be equal to aval's ndim .2.",
    of_jax=True,
    since=(0, 11),
)
COLLECTIVE_IN_JET = Excluded("JAX has no jet rule for collectives.", KeyError, "psum", of_jax=True)
SAVED_COMPLEX = Excluded(
    "JAX's `checkpoint` rounds what a policy saves by an operation that complex numbers do not have.",
    TypeError,
    "reduce_precision does not accept dtype complex64",
    of_jax=True,
)
OPAQUE_PULLBACK = Excluded(
    "The derivative of a pullback that is a host function alone: nothing says what it is.",
    RuleMissing,
    "wave_backward: forward-mode differentiation .jvp. needs a rule that is missing",
)
OPAQUE_PUSHFORWARD = Excluded(
    "The derivative of a JVP rule that is a host function alone: nothing says what it is.",
    RuleMissing,
    "wave_(forward|backward): forward-mode differentiation .jvp. needs a rule that is missing",
)
HOST_CALLBACK = Excluded(
    "A host function is Python in this process: no bytes can hold it.",
    NotImplementedError,
    "serialization of host_callbacks is not yet implemented",
)
COLLECTIVE_OF_SYMBOLIC_SIZE = Excluded(
    "JAX cannot export a mean over a vmapped axis whose size is symbolic.",
    Exception,
    "Symbolic dimension 'b' used in a context that requires a constant",
    of_jax=True,
)

# Rows that differentiate what reverse mode ran.
OF_REVERSE = (
    "forward over reverse",
    "reverse over reverse",
    "hessian_vector",
    "third_order",
    "grad_of_vmap_of_grad",
    "checkpoint_under_hessian",
)
# Rows that differentiate what forward mode ran.
OF_FORWARD = ("forward over forward", "reverse over forward", "third_forward", "third_order", "taylor_mode")

EXCLUDED: dict[tuple[str, str], Excluded] = {
    **_cells(EVERY_KIND, ("while_reverse",), UNBOUNDED),
    **_cells((OPAQUE_BACKWARD, OPAQUE_RULES), OF_REVERSE, OPAQUE_PULLBACK),
    **_cells((OPAQUE_RULES,), OF_FORWARD, OPAQUE_PUSHFORWARD),
    **_cells((COLLECTIVE,), ("shard_map", "shard_map, gradient inside", "shard_map, psum"), COLLECTIVE_IN_SHARD_MAP),
    **_cells((COLLECTIVE,), ("explicit mesh",), COLLECTIVE_IN_EXPLICIT_MESH),
    **_cells(ON_HOST, ("export", "export, symbolic shapes"), HOST_CALLBACK),
    **_cells((COLLECTIVE,), ("export, symbolic shapes",), COLLECTIVE_OF_SYMBOLIC_SIZE),
    **_cells((COLLECTIVE,), ("taylor_mode",), COLLECTIVE_IN_JET),
    **_cells((COMPLEX,), ("checkpoint, everything_saveable",), SAVED_COMPLEX),
    **_cells((COMPLEX,), ("remat3, saved",) if HAS_OTHER_REMAT else (), SAVED_COMPLEX),
    **_cells((COMPLEX,), ("checkpoint, save_anything_except_these_names",), SAVED_COMPLEX),
}
