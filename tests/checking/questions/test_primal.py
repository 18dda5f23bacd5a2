from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxprim.checking.case import Case
from jaxprim.checking.questions.primal import primal
from jaxprim.checking.reports.report import Evidence
from jaxprim.checking.subject import Subject

X = jnp.array([0.5, 1.0, -2.0])


def case(fn, *operands):
    return Case.of(Subject.of(fn), operands, {}, 0)


def bad(question, it):
    return [item for item in question(it) if isinstance(item, Evidence) and not item.ok]


def test_primal_outputs_of_both_rules():
    fn = jax.custom_jvp(jnp.sin)
    fn.defjvp(lambda primals, tangents: (jnp.cos(*primals), tangents[0] * jnp.cos(*primals)))
    assert {item.rule for item in bad(primal, case(fn, X))} >= {"jvp"}
    assert not bad(primal, case(jnp.sin, X))
