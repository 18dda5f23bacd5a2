"""The table of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rows import batches, control, devices, libraries, modes, remat, settings, wrapping
from rows.case import Case


@dataclass(frozen=True)
class Row:
    """One transformation or composition.

    Attributes:
        name: of the row.
        run: applies it to an op.
        truth: the same for the reference, where there is a better truth than applying the row to it (a loop).
        jit: whether it is run under ``jax.jit``, for every subset of perturbed operands.
        eager: whether it is run eagerly, with all operands perturbed. Where that says nothing more, it saves time.
        each: whether it is run eagerly for every subset.
    """

    name: str
    run: Callable[[Case], Any]
    truth: Callable[[Case], Any] | None = None
    jit: bool = True
    eager: bool = False
    each: bool = False

    def __repr__(self) -> str:
        return self.name


def rows_of(*functions: Callable[[Case], Any], **options: Any) -> list[Row]:
    return [Row(fn.__name__, fn, **options) for fn in functions]


# They differentiate once, and do no more.
FIRST_ORDER: tuple[Row, ...] = (
    Row("eager and jit", modes.apply, eager=True),
    *rows_of(modes.jvp, modes.vjp, modes.grad, modes.value_and_grad, modes.has_aux, eager=True),
    *rows_of(modes.linearize, modes.linear_transpose, eager=True),
)
MODES: tuple[Row, ...] = (
    *FIRST_ORDER,
    *rows_of(modes.jacfwd, modes.jacrev, eager=True),
    Row("forward over reverse", modes.forward_over_reverse),
    Row("forward over forward", modes.forward_over_forward),
    Row("reverse over reverse", modes.reverse_over_reverse),
    Row("reverse over forward", modes.reverse_over_forward),
    *rows_of(modes.hessian_vector, modes.third_forward, eager=True),
    *rows_of(modes.third_order),
)

BATCHES: tuple[Row, ...] = (
    Row("vmap patterns", batches.vmap_patterns, truth=batches.loop_patterns),
    *rows_of(batches.vmap_nothing, batches.vmap_leaves, batches.vmap_of_grad, eager=True),
    *rows_of(batches.nested_vmap, batches.crossed_vmap, batches.vmap_in_jit, batches.jvp_of_vmap),
    *rows_of(batches.vjp_of_vmap),
    *rows_of(batches.linearize_of_vmap, batches.vmap_of_jvp, batches.vmap_of_vjp, batches.vmap_of_linearize),
    *rows_of(batches.grad_of_vmap_of_grad, batches.named_axis),
)

CONTROL: tuple[Row, ...] = (
    *rows_of(control.scan_carry, control.scan_ys, control.scan_const, control.scan_under_vmap, control.lax_map),
    *rows_of(control.while_loop, control.while_vmapped, control.while_reverse, control.fori),
    *rows_of(control.cond, control.switch, control.cond_vmapped),
)

REMAT: tuple[Row, ...] = (
    *(Row(name, run, truth=remat.plain) for name, run in remat.policy_rows()),
    *rows_of(
        remat.checkpoint_forward,
        remat.checkpoint_around_loss,
        remat.checkpoint_without_cse_guard,
        remat.checkpoint_nested,
    ),
    *rows_of(remat.checkpoint_linearized, remat.checkpoint_in_scan, remat.checkpoint_of_scan),
    *rows_of(remat.checkpoint_under_vmap, remat.checkpoint_under_hessian),
)
if remat.HAS_OTHER_REMAT:
    REMAT += (
        Row("remat3", remat.remat3, truth=remat.remat3_truth),
        Row("remat3, saved", remat.remat3_saved, truth=remat.remat3_saved_truth),
    )

WRAPPING: tuple[Row, ...] = (
    *rows_of(wrapping.jit_in_grad_in_jit, wrapping.inlined_jit, wrapping.custom_jvp_around, wrapping.custom_vjp_around),
    *rows_of(wrapping.custom_vmap_around, wrapping.eval_shape, wrapping.make_jaxpr, wrapping.closure_convert),
    *rows_of(wrapping.op_twice),
    *rows_of(wrapping.taylor_mode, jit=False, eager=True),
    *rows_of(wrapping.checkified, jit=False, eager=True),
)

SETTINGS: tuple[Row, ...] = (
    *rows_of(settings.disable_jit, settings.without_checks, jit=False, eager=True, truth=settings.several),
    *rows_of(settings.checking_leaks, settings.debug_nans, jit=False, eager=True, truth=settings.twice),
    *rows_of(settings.x64_toggled, settings.threads, jit=False, eager=True),
)

DEVICES: tuple[Row, ...] = (
    Row("shard_map", devices.shard_map, truth=devices.shard_map_truth),
    Row("shard_map, gradient inside", devices.shard_map_grad_inside, truth=devices.shard_map_grad_inside_truth),
    Row("shard_map, psum", devices.shard_map_summed, truth=devices.shard_map_summed_truth),
    Row("explicit mesh", devices.explicit_mesh, truth=devices.shard_map_truth, jit=False, eager=True),
)

LIBRARIES: tuple[Row, ...] = (
    *rows_of(libraries.equinox_module, libraries.flax_module, libraries.optax_steps, jit=False, eager=True),
    Row("export", libraries.exported, truth=libraries.directly, jit=False, eager=True),
    Row(
        "export, symbolic shapes",
        libraries.exported_with_symbolic_shapes,
        truth=libraries.batched_directly,
        jit=False,
        eager=True,
    ),
)

ROWS: tuple[Row, ...] = (*MODES, *BATCHES, *CONTROL, *REMAT, *WRAPPING, *SETTINGS, *DEVICES, *LIBRARIES)
