"""Rows: ``jax.checkpoint``, under every policy and around everything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name

from rows.case import Case, loss, realified, tangents, transposed
from rows.control import _step

_known = jax.checkpoint_policies

POLICIES: dict[str, Any] = {
    "default": None,
    "everything_saveable": _known.everything_saveable,
    "nothing_saveable": _known.nothing_saveable,
    "dots_saveable": _known.dots_saveable,
    "checkpoint_dots": _known.checkpoint_dots,
    "dots_with_no_batch_dims_saveable": _known.dots_with_no_batch_dims_saveable,
    "checkpoint_dots_with_no_batch_dims": _known.checkpoint_dots_with_no_batch_dims,
    "offload_dot_with_no_batch_dims": _known.offload_dot_with_no_batch_dims("device", "pinned_host"),
    "save_anything_except_these_names": _known.save_anything_except_these_names("value"),
    "save_any_names_but_these": _known.save_any_names_but_these("other"),
    "save_only_these_names": _known.save_only_these_names("value"),
    "save_and_offload_only_these_names": _known.save_and_offload_only_these_names(
        names_which_can_be_saved=["value"],
        names_which_can_be_offloaded=[],
        offload_src="device",
        offload_dst="pinned_host",
    ),
    "save_from_both_policies": _known.save_from_both_policies(
        _known.dots_saveable, _known.save_only_these_names("value")
    ),
}


def _remat(case: Case, policy: Any = None, **options: Any) -> Case:
    """The op inside ``jax.checkpoint``, its value named."""
    named = lambda *args: checkpoint_name(case.f(*args), "value")
    return case.with_f(jax.checkpoint(named, policy=policy, **options))


def _policy(policy: Any, case: Case) -> Any:
    c = _remat(case, policy)
    return c.g(*c.xs), c.grad()(*c.xs)


def plain(case: Case) -> Any:
    """What every policy must give."""
    return case.g(*case.xs), case.grad()(*case.xs)


def policy_rows() -> list[tuple[str, Callable[[Case], Any]]]:
    return [(f"checkpoint, {name}", partial(_policy, policy)) for name, policy in POLICIES.items()]


def checkpoint_forward(case: Case) -> Any:
    c = _remat(case)
    return jax.jvp(c.loss, c.xs, tangents(c.xs))


def checkpoint_around_loss(case: Case) -> Any:
    return case.grad(jax.checkpoint(case.loss))(*case.xs)


def checkpoint_without_cse_guard(case: Case) -> Any:
    c = _remat(case, prevent_cse=False)
    return c.grad()(*c.xs)


def checkpoint_nested(case: Case) -> Any:
    c = _remat(_remat(case))
    return c.grad()(*c.xs)


def checkpoint_linearized(case: Case) -> Any:
    c = _remat(case)
    out, linear = jax.linearize(c.g, *c.xs)
    return out, linear(*tangents(c.xs)), transposed(linear, c.xs, out)


def checkpoint_in_scan(case: Case) -> Any:
    step = jax.checkpoint(partial(_step, case))
    run = lambda *xs: jax.lax.scan(lambda c, _: (step(c), None), xs, None, length=3)[0]
    return case.grad(lambda *xs: loss(run(*xs)))(*case.xs)


def checkpoint_of_scan(case: Case) -> Any:
    run = lambda *xs: jax.lax.scan(lambda c, _: (_step(case, c), None), xs, None, length=2)[0]
    return case.grad(jax.checkpoint(lambda *xs: loss(run(*xs))))(*case.xs)


def checkpoint_under_vmap(case: Case) -> Any:
    c = _remat(case)
    return jax.vmap(c.grad())(*jax.tree.map(lambda x: x[None], c.xs))


def checkpoint_under_hessian(case: Case) -> Any:
    c = realified(_remat(case))
    every = tuple(range(len(c.xs)))
    return jax.hessian(c.loss, argnums=every)(*c.xs)


# -------------------------------------------------------------------------- JAX's other implementation of checkpoint
HAS_OTHER_REMAT = hasattr(jax.config, "jax_remat3")  # JAX 0.10.2 brought it


@contextmanager
def other_remat(on: bool = True) -> Iterator[None]:
    """As under JAX_REMAT3=1."""
    before = jax.config.jax_remat3
    jax.config.update("jax_remat3", on)
    try:
        yield
    finally:
        jax.config.update("jax_remat3", before)


def remat3(case: Case) -> Any:
    with other_remat():
        return _policy(None, case), checkpoint_in_scan(case)


def remat3_truth(case: Case) -> Any:
    return plain(case), checkpoint_in_scan(case)


def remat3_saved(case: Case) -> Any:
    with other_remat():
        return _policy(POLICIES["save_only_these_names"], case), _policy(POLICIES["everything_saveable"], case)


def remat3_saved_truth(case: Case) -> Any:
    return plain(case), plain(case)
