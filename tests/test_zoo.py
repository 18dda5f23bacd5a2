"""The matrix: every op of the zoo under every row of the table, compared with its reference."""

from __future__ import annotations

from functools import cache
from itertools import combinations
from typing import Any

import jax
import numpy as np
import pytest

from excluded import EXCLUDED
from rows.case import Case
from rows.table import ROWS, Row
from zoo import ZOO, Entry


def subsets(entry: Entry) -> Subsets:
    """Every set of perturbed operands, all of them first."""
    return tuple(s for n in range(len(entry.diff), 0, -1) for s in combinations(entry.diff, n))


def close(got: Any, want: Any) -> None:
    """Same tree, same types, same numbers."""
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for (path, g), w in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want), strict=True):
        where = jax.tree_util.keystr(path)
        assert (np.shape(g), g.dtype) == (np.shape(w), w.dtype), where
        if g.dtype != jax.dtypes.float0:
            tolerance = 1e-9 if g.dtype in (np.float64, np.complex128) else 2e-4
            np.testing.assert_allclose(g, w, rtol=tolerance, atol=tolerance, err_msg=where)


Subsets = tuple[tuple[int, ...], ...]


def jitted(run: Any, f: Any, args: Any, chosen: Subsets) -> Any:
    """The row under jit, for these sets of perturbed operands in one program."""
    return jax.jit(lambda args: [run(Case(f, args, argnums)) for argnums in chosen])(args)


def eagerly(run: Any, f: Any, args: Any, chosen: Subsets) -> Any:
    return [run(Case(f, args, argnums)) for argnums in chosen]


@cache
def truth(row: Row, reference: Any, args: Any, chosen: Subsets) -> Any:
    """The reference under the row, or the better truth that the row names."""
    apply = jitted if row.jit or row.truth else eagerly
    return apply(row.truth or row.run, reference, args(), chosen)


def run(row: Row, entry: Entry, f: Any) -> Any:
    """The row, without comparing."""
    return (jitted if row.jit else eagerly)(row.run, f, entry.args(), subsets(entry)[:1])


def compare(row: Row, entry: Entry) -> None:
    chosen = subsets(entry) if row.jit or row.each else subsets(entry)[:1]
    want = truth(row, entry.reference, entry.args, chosen)
    if row.eager or row.each:
        some = chosen if row.each else chosen[:1]
        close(eagerly(row.run, entry.f, entry.args(), some), want[: len(some)])
    if row.jit:
        close(jitted(row.run, entry.f, entry.args(), chosen), want)


@pytest.mark.parametrize("entry", ZOO, ids=repr)
@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_matrix(row: Row, entry: Entry) -> None:
    excluded = EXCLUDED.get((entry.kind, row.name))
    if excluded is None:
        compare(row, entry)
        return
    with pytest.raises(excluded.error, match=excluded.message):
        run(row, entry, entry.f)
    if excluded.of_jax:
        with pytest.raises(excluded.error, match=excluded.message):
            run(row, entry, entry.reference)


def test_every_excluded_cell_is_in_the_matrix() -> None:
    kinds, names = {entry.kind for entry in ZOO}, {row.name for row in ROWS}
    assert all(kind in kinds and row in names for kind, row in EXCLUDED)
