"""The table of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rows import batches, control, modes
from rows.case import Case


@dataclass(frozen=True)
class Row:
    """One transformation or composition.

    Attributes:
        name: of the row.
        run: applies it to an op.
        truth: the same for the reference, where there is a better truth than applying the row to it (a loop).
        jit: whether it is run under ``jax.jit``, for every subset of perturbed operands.
        eager: whether it is run eagerly, with all operands perturbed. Where it does not matter this saves time.
    """

    name: str
    run: Callable[[Case], Any]
    truth: Callable[[Case], Any] | None = None
    jit: bool = True
    eager: bool = False

    def __repr__(self) -> str:
        return self.name


def rows_of(*functions: Callable[[Case], Any], **options: Any) -> list[Row]:
    return [Row(fn.__name__, fn, **options) for fn in functions]


ROWS: tuple[Row, ...] = (
    Row("eager and jit", modes.apply, eager=True),
    *rows_of(modes.jvp, modes.vjp, modes.grad, modes.value_and_grad, modes.has_aux, eager=True),
    *rows_of(modes.linearize, modes.linear_transpose, modes.jacfwd, modes.jacrev, eager=True),
    Row("forward over reverse", modes.forward_over_reverse, eager=True),
    Row("forward over forward", modes.forward_over_forward),
    Row("reverse over reverse", modes.reverse_over_reverse),
    Row("reverse over forward", modes.reverse_over_forward),
    *rows_of(modes.hessian_vector, modes.third_forward, eager=True),
    *rows_of(modes.third_order),
    Row("vmap patterns", batches.vmap_patterns, truth=batches.loop_patterns),
    *rows_of(batches.vmap_nothing, batches.vmap_leaves, batches.vjp_of_vmap, batches.vmap_of_grad, eager=True),
    *rows_of(batches.nested_vmap, batches.crossed_vmap, batches.vmap_in_jit, batches.jvp_of_vmap),
    *rows_of(batches.linearize_of_vmap, batches.vmap_of_jvp, batches.vmap_of_vjp, batches.vmap_of_linearize),
    *rows_of(batches.grad_of_vmap_of_grad, batches.named_axis),
    *rows_of(control.scan_carry, control.scan_ys, control.scan_const, control.scan_under_vmap, control.lax_map),
    *rows_of(control.while_loop, control.while_reverse, control.fori),
    *rows_of(control.cond, control.switch, control.cond_vmapped),
)
