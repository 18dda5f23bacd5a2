"""The cells of the matrix that cannot work, each with its reason and the error that a user meets there."""

from __future__ import annotations

from dataclasses import dataclass

from jaxprim import RuleMissing
from zoo import BOTH, IMPL, JVP, OPAQUE_BACKWARD, OPAQUE_RULES, TRACEABLE, TRANSPOSE, VJP


@dataclass(frozen=True)
class Excluded:
    """Why a cell is excluded.

    Attributes:
        reason: what forbids it.
        error: the type of the exception.
        message: a regular expression that its message matches.
    """

    reason: str
    error: type[Exception]
    message: str


def _cells(kinds: tuple[str, ...], rows: tuple[str, ...], why: Excluded) -> dict[tuple[str, str], Excluded]:
    return {(kind, row): why for kind in kinds for row in rows}


EVERY_KIND = (BOTH, VJP, JVP, TRANSPOSE, IMPL, OPAQUE_BACKWARD, TRACEABLE, OPAQUE_RULES)

UNBOUNDED = Excluded(
    "Reverse mode needs the values of every step, and how many steps a `while` takes is not known.",
    ValueError,
    "Reverse-mode differentiation does not work for lax.while_loop",
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

# Rows that differentiate what reverse mode ran.
OF_REVERSE = ("forward over reverse", "reverse over reverse", "hessian_vector", "third_order", "grad_of_vmap_of_grad")
# Rows that differentiate what forward mode ran.
OF_FORWARD = ("forward over forward", "reverse over forward", "third_forward", "third_order")

EXCLUDED: dict[tuple[str, str], Excluded] = {
    **_cells(EVERY_KIND, ("while_reverse",), UNBOUNDED),
    **_cells((OPAQUE_BACKWARD, OPAQUE_RULES), OF_REVERSE, OPAQUE_PULLBACK),
    **_cells((OPAQUE_RULES,), OF_FORWARD, OPAQUE_PUSHFORWARD),
}
