"""Rows: JAX's settings, one process in several of them, many threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax

from rows.case import Case, batch, tangents


def several(case: Case) -> Any:
    """The value, both modes, a batch."""
    value = case.f(*case.args)
    return (
        value,
        jax.jvp(case.g, case.xs, tangents(case.xs)),
        case.grad()(*case.xs),
        jax.vmap(case.grad())(*batch(case.xs)),
    )


def twice(case: Case) -> Any:
    return several(case), several(case)


def disable_jit(case: Case) -> Any:
    with jax.disable_jit():
        return several(case)


def without_checks(case: Case) -> Any:
    with jax.enable_checks(False):
        return several(case)


def checking_leaks(case: Case) -> Any:
    with jax.checking_leaks():
        return jax.jit(lambda *args: several(Case(case.f, args, case.argnums)))(*case.args), several(case)


def debug_nans(case: Case) -> Any:
    with jax.debug_nans(True):
        return jax.jit(lambda *args: several(Case(case.f, args, case.argnums)))(*case.args), several(case)


def x64_toggled(case: Case) -> Any:
    """64 bits off, on and off again: the same function, of operands of the same types and of wider ones."""
    before = _value_and_gradient(case)
    with jax.enable_x64(True):
        wide = _value_and_gradient(case), _value_and_gradient(_wide(case))
    return before, wide, _value_and_gradient(case)


def _value_and_gradient(case: Case) -> Any:
    def run(args: Any) -> Any:
        c = Case(case.f, args, case.argnums)
        return c.f(*args), c.grad()(*c.xs)

    return jax.jit(run)(case.args), case.f(*case.args)


def _wide(case: Case) -> Case:
    wide = {"float32": "float64", "complex64": "complex128"}
    return Case(case.f, jax.tree.map(lambda x: x.astype(wide.get(x.dtype.name, x.dtype.name)), case.args), case.argnums)


def threads(case: Case) -> Any:
    """Six threads trace, compile and run it at once."""

    def work(index: int) -> Any:
        gradient = case.grad()
        return (jax.jit(gradient) if index % 2 else gradient)(*case.xs)

    with ThreadPoolExecutor(6) as pool:
        return list(pool.map(work, range(6)))
