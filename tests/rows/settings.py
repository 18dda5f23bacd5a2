"""Rows: JAX's settings, one process in several of them, many threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax

from rows.case import Case, batch, tangents
from rows.control import scan_carry


def several(case: Case) -> Any:
    """The value, both modes, a batch."""
    value = case.f(*case.args)
    return value, jax.jvp(case.g, case.xs, tangents(case.xs)), case.grad()(*case.xs), jax.vmap(case.grad())(*batch(case.xs))


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
    out = []
    for on in (False, True, False):
        with jax.enable_x64(on):
            out.append(_wider(case, on))
            out.append(jax.jit(case.grad())(*case.xs))
    return out


def _wider(case: Case, on: bool) -> Any:
    wide = {"float32": "float64", "complex64": "complex128"}
    cast = lambda x: x.astype(wide.get(x.dtype.name, x.dtype.name)) if on else x  # noqa: E731
    c = Case(case.f, jax.tree.map(cast, case.args), case.argnums)
    return several(c)


def threads(case: Case) -> Any:
    """Eight threads trace, compile and run it at once."""

    def work(index: int) -> Any:
        if index % 2:
            return case.grad()(*case.xs)
        return jax.jit(lambda args: scan_carry(Case(case.f, args, case.argnums)))(case.args)

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(work, range(8)))
