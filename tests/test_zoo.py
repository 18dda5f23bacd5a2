"""The matrix: every op of the zoo under every row of the table, compared with its reference."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from excluded import EXCLUDED
from jax_versions import IS_OLDER_JAX, ROWS_ALONE
from rows.case import Case, batch, loss, tangents
from rows.table import BATCHES, DEVICES, FIRST_ORDER, MODES, ROWS, Row
from zoo import (
    COLLECTIVE,
    COMPLEX,
    FMA_RULES,
    INSIDE,
    LITERALS,
    OPAQUE_BACKWARD,
    OPAQUE_RULES,
    TRACEABLE,
    TRANSPOSE,
    WITH_LITERALS,
    ZOO,
    Entry,
    numbers,
)

from jaxprim import Primitive

Subsets = tuple[tuple[int, ...], ...]


def subsets(row: Row, entry: Entry) -> Subsets:
    """Sets of perturbed operands, all operands first: every set for the rows that differentiate once and do no more.

    Elsewhere all operands, and one of the other sets: the one whose turn it is. So each entry meets each of its sets in
    many rows, and each row meets sets of each kind.
    """
    if not (row.jit or row.each):
        return (entry.diff,)
    others = tuple(s for n in range(len(entry.diff) - 1, 0, -1) for s in combinations(entry.diff, n))
    if others and row not in FIRST_ORDER:
        others = (others[(ROWS.index(row) + EVERY_ENTRY.index(entry)) % len(others)],)
    return (entry.diff, *others)


def close(got: Any, want: Any) -> None:
    """Same tree, same types, same numbers."""
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for (path, g), w in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want), strict=True):
        where = jax.tree_util.keystr(path)
        assert (np.shape(g), g.dtype) == (np.shape(w), w.dtype), where
        if g.dtype != jax.dtypes.float0:
            tolerance = 1e-9 if g.dtype in (np.float64, np.complex128) else 2e-4
            np.testing.assert_allclose(g, w, rtol=tolerance, atol=tolerance, err_msg=where)


def jitted(run: Any, f: Any, args: Any, chosen: Subsets) -> Any:
    """The row under jit, for these sets of perturbed operands in one program."""
    return jax.jit(lambda args: [run(Case(f, args, argnums)) for argnums in chosen])(args)


def eagerly(run: Any, f: Any, args: Any, chosen: Subsets) -> Any:
    return [run(Case(f, args, argnums)) for argnums in chosen]


def truth(row: Row, entry: Entry, chosen: Subsets) -> Any:
    """The reference under the row, or the better truth that the row names."""
    return _truth(row.truth or row.run, row.jit or row.truth is not None, entry.reference, entry.args, chosen)


@cache
def _truth(run: Any, jit: bool, reference: Any, args: Any, chosen: Subsets) -> Any:
    return (jitted if jit else eagerly)(run, reference, args(), chosen)


def run(row: Row, entry: Entry, f: Any) -> Any:
    """The row, without comparing."""
    return (jitted if row.jit else eagerly)(row.run, f, entry.args(), (entry.diff,))


def compare(row: Row, entry: Entry) -> None:
    chosen = subsets(row, entry)
    want = truth(row, entry, chosen)
    if row.eager or row.each:
        some = chosen if row.each else chosen[:1]
        close(eagerly(row.run, entry.f, entry.args(), some), want[: len(some)])
    if row.jit:
        close(jitted(row.run, entry.f, entry.args(), chosen), want)


# One op of each basic kind, under every row. Kinds that are mixtures of others (and an op with a collective, whose kind is
# another's), and others of a kind, with operands of another form, are under the rows that differentiate once. Of each of
# these two groups, two are under each other row that treats operands one by one, and one is under each row of the rest, in
# turn. What cannot work is always asked.
#
# What an older JAX may do in another way is to call the rules of JAX's own that a primitive has. So there the rows that
# differentiate once are asked of each basic kind and each mixture, the others that treat operands one by one of two basic
# kinds, a mixture and an op of another form, and the rest of two. tests/releases.py runs all rows of all kinds on each JAX.
FIRST_OF_KIND = {entry.kind: entry for entry in reversed(ZOO)}
MIXED = [FIRST_OF_KIND[kind] for kind in (TRACEABLE, OPAQUE_BACKWARD, OPAQUE_RULES, COMPLEX, COLLECTIVE)]
OTHER_FORMS = [entry for entry in ZOO if entry is not FIRST_OF_KIND[entry.kind]]
BASIC = [entry for entry in ZOO if entry not in (*MIXED, *OTHER_FORMS)]
ONE_BY_ONE = (*MODES, *BATCHES, *DEVICES)
EVERY_ENTRY = (*ZOO, *INSIDE, *WITH_LITERALS)


def in_turn(row: Row, entries: Sequence[Entry], count: int = 1) -> list[Entry]:
    """Those of these whose turn it is in this row."""
    first = ROWS.index(row) * count
    return [entries[(first + i) % len(entries)] for i in range(count)]


def asked(row: Row) -> list[Entry]:
    """The entries that are under this row."""
    if ROWS_ALONE:
        return [*BASIC, *MIXED]
    if row in FIRST_ORDER:
        return [*BASIC, *MIXED, *(in_turn(row, OTHER_FORMS) if IS_OLDER_JAX else OTHER_FORMS)]
    if not IS_OLDER_JAX:
        count = 2 if row in ONE_BY_ONE else 1
        cannot = [entry for entry in MIXED if (entry.kind, row.name) in EXCLUDED]
        return [*BASIC, *in_turn(row, MIXED, count), *in_turn(row, OTHER_FORMS, count), *cannot]
    if row in ONE_BY_ONE:
        return [*in_turn(row, BASIC, 2), *in_turn(row, MIXED), *in_turn(row, OTHER_FORMS)]
    return [ZOO[0], *in_turn(row, BASIC[1:])]


CELLS = [(row, entry) for row in ROWS for entry in ZOO if entry in asked(row)]


@pytest.mark.parametrize(("row", "entry"), CELLS, ids=repr)
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


# Two of these under each row where what is inside makes a difference, in turn.
SOME_ROWS = [
    row
    for row in (FIRST_ORDER if IS_OLDER_JAX else (*MODES, *BATCHES))
    if not row.name.startswith(("third", "value", "has_aux"))
]
CELLS_INSIDE = [(row, entry) for row in SOME_ROWS for entry in in_turn(row, INSIDE, 2)]


@pytest.mark.parametrize(("row", "entry"), CELLS_INSIDE, ids=repr)
def test_what_is_inside(row: Row, entry: Entry) -> None:
    compare(row, entry)


# Each way to give the rules under each of these rows, with another operand as the literal in each.
ROWS_OF_LITERALS = [row for row in ROWS if row.name in ("jvp", "vjp", "forward over reverse", "checkpoint_under_vmap")]
CELLS_OF_LITERALS = [
    (row, entry)
    for r, row in enumerate(ROWS_OF_LITERALS)
    for i, entry in enumerate(WITH_LITERALS)
    if (i % len(FMA_RULES) + r) % len(LITERALS) == i // len(FMA_RULES)
]


@pytest.mark.parametrize(("row", "entry"), CELLS_OF_LITERALS, ids=repr)
def test_integer_literals(row: Row, entry: Entry) -> None:
    """A rule that was written for floats serves integers: ``fma(x, 2, z)``."""
    compare(row, entry)


def test_every_entry_is_in_the_matrix() -> None:
    """And each way to give the rules, with each operand as a literal."""
    assert {entry for _, entry in (*CELLS, *CELLS_INSIDE, *CELLS_OF_LITERALS)} == set(EVERY_ENTRY)


def test_every_excluded_cell_is_in_the_matrix() -> None:
    kinds, names = {entry.kind for entry in ZOO}, {row.name for row in ROWS}
    assert all(kind in kinds and row in names for kind, row in EXCLUDED)


# --------------------------------------------------------------------------------------------- for some ops alone
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.vmap], ids=["eager", "jit", "vmap"])
def test_linear_transpose_of_the_op(wrap: Any) -> None:
    """An op that was declared linear is transposed without being linearized."""
    entry = next(entry for entry in ZOO if entry.kind == TRANSPOSE)
    x, n = batch(entry.args()) if wrap is jax.vmap else entry.args()
    apply = lambda f: wrap(lambda x: jax.linear_transpose(lambda x: f(x, n[()] if n.ndim == 0 else n[0]), x)(x))(x)
    close(apply(entry.f), apply(entry.reference))


@pytest.mark.parametrize("entry", list(FIRST_OF_KIND.values()), ids=repr)
def test_the_first_use_of_an_op_leaks_no_tracer(entry: Entry, no_leaks: None) -> None:
    """The matrix has the row `checking_leaks`, but there another row may have traced the rules already."""
    case = Case(entry.build(), entry.args(), entry.diff)

    @jax.jit
    def backward(xs: Any) -> Any:
        out, pullback = jax.vjp(case.g, *xs)
        return out, pullback(tangents(out))

    close(backward(case.xs)[0], entry.reference(*entry.args()))


def test_out_axes_none_of_a_result_that_no_batched_operand_reaches() -> None:
    op = Primitive("two_results")
    op.def_impl(lambda x, y: (jnp.sin(x), jnp.cos(y)))
    x, ys = numbers(3), numbers(2, 3)
    for f in (op, jax.jit(op)):
        sin, cos = jax.vmap(f, in_axes=(None, 0), out_axes=(None, 0))(x, ys)
        close((sin, cos), (jnp.sin(x), jnp.cos(ys)))
        batched = lambda x, ys, f=f: jax.vmap(f, in_axes=(None, 0), out_axes=(None, 0))(x, ys)
        gradient = jax.grad(lambda x, ys, batched=batched: loss(batched(x, ys)), argnums=(0, 1))(x, ys)
        close(gradient, jax.grad(lambda x, ys: loss((jnp.sin(x), jnp.cos(ys))), argnums=(0, 1))(x, ys))
