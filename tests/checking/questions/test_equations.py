from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim import Primitive
from jaxprim.checking.answers import NotAsked, Note
from jaxprim.checking.case import Case
from jaxprim.checking.questions.equations import equation, linear_solve
from jaxprim.checking.reports.findings import Evidence
from jaxprim.checking.subject import Subject

X = jnp.array([1.0, 4.0, 9.0])


def asked(op, *operands):
    case = Case.of(Subject.of(op), operands, {}, 0)
    return [*equation(case), *linear_solve(case)]


def root(**options):
    op = Primitive("root")
    op.def_impl(jnp.sqrt)
    op.def_implicit(lambda y, a: y * y - a, **options)
    return op


def badly_scaled():
    scale = np.array([1e-6, 1.0, 1e6], "float32")
    op = Primitive("scaled")
    op.def_impl(lambda b: b / scale)
    op.def_implicit(lambda y, b: scale * y - b)
    return op


def not_holomorphic():
    op = Primitive("conjugate")
    op.def_impl(jnp.conj)
    op.def_implicit(lambda y, z: jnp.conj(y) - z)
    return op


def minimum_with_a_count():
    op = Primitive("minimum")
    op.def_impl(lambda a: (a / 2, jnp.int32(3)))
    op.def_implicit(minimum=lambda y, a: jnp.sum(y[0] ** 2 - a * y[0]), solve="cg")
    return op


def at_zero():
    op = Primitive("zero")
    op.def_impl(lambda a: a - a)
    op.def_implicit(lambda y, a: y * (1 + y * y))
    return op


@pytest.mark.parametrize(
    ("op", "x"),
    [
        (root(), X),
        (root(solve="diagonal"), X),
        (badly_scaled(), X),
        (not_holomorphic(), jnp.array([1 + 2j, 2 - 1j], "complex64")),
        (minimum_with_a_count(), X),
        (at_zero(), X),
    ],
    ids=["dense", "diagonal", "scaled", "not holomorphic", "minimum", "at zero"],
)
def test_a_right_equation_passes(op, x):
    found = [item for item in asked(op, x) if isinstance(item, Evidence)]
    assert len(found) >= 3
    assert [item for item in found if not item.ok] == []


def test_a_missing_transposed_solve_is_told():
    notes = [
        item.text
        for item in asked(root(solve=lambda matvec, b: b / matvec(jnp.ones_like(b))), X)
        if isinstance(item, Note)
    ]
    assert notes == ["there is no transposed solve, so reverse mode is refused"]


def test_other_operations_are_not_asked():
    op = Primitive("double")
    op.def_impl(lambda x: 2 * x)
    for target in (op, jnp.sin):
        with pytest.raises(NotAsked, match="no rule is given by def_implicit"):
            asked(target, X)


def test_many_unknowns_make_no_matrix():
    case = Case.of(Subject.of(root(solve="diagonal")), (jnp.ones(1000),), {}, 0)
    assert all(item.ok for item in linear_solve(case) if isinstance(item, Evidence))
    assert not [item for item in jax.live_arrays() if item.shape == (1000, 1000)]
