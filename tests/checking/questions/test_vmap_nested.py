from __future__ import annotations

import jax.numpy as jnp

from jaxprim.checking.case import Case
from jaxprim.checking.questions.vmap_nested import vmap_nested
from jaxprim.checking.reports.report import Evidence
from jaxprim.checking.subject import Subject

X = jnp.arange(1.0, 7.0).reshape(3, 2)


def case(fn, *operands):
    return Case.of(Subject.of(fn), operands, {}, 0)


def test_each_operand_in_a_level_of_its_own():
    found = [e for e in vmap_nested(case(lambda x, y: x * y, X, X)) if isinstance(e, Evidence)]
    assert all(e.ok for e in found)
    assert {e.against for e in found} >= {"vmap over x of vmap over the others, against a plain call"}
