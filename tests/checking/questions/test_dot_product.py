from __future__ import annotations

import jax.numpy as jnp

from jaxprim.checking.case import Case
from jaxprim.checking.questions.dot_product import dot_product
from jaxprim.checking.reports.report import Evidence
from jaxprim.checking.subject import Subject


def case(fn, *operands):
    return Case.of(Subject.of(fn), operands, {}, 0)


def evidence(question, it):
    return [item for item in question(it) if isinstance(item, Evidence)]


def test_dot_product_without_conjugation():
    z = jnp.array([1 + 2j, 0.5 - 1j], jnp.complex64)
    for fn in (jnp.exp, jnp.conj, lambda z: jnp.abs(z) ** 2, jnp.real):
        found = evidence(dot_product, case(fn, z))
        assert found
        assert all(item.ok for item in found)
