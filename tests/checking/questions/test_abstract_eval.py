from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxprim.checking.case import Case
from jaxprim.checking.questions.abstract_eval import abstract_eval
from jaxprim.checking.reports.report import Evidence
from jaxprim.checking.subject import Subject

X = jnp.array([0.5, 1.0, -2.0])


def case(fn, *operands):
    return Case.of(Subject.of(fn), operands, {}, 0)


def bad(question, it):
    return [item for item in question(it) if isinstance(item, Evidence) and not item.ok]


def differs_when_traced(x, a, b):
    return a if isinstance(x, jax.core.Tracer) else b


def test_types_that_differ_when_traced():
    for a, b, got, expected in [
        (X, X[:2], "float32[3]", "float32[2]"),
        (X.astype(jnp.float16), X, "float16[3]", "float32[3]"),
        (jnp.asarray(2.0), jnp.float32(2.0), "float32[] (weakly typed)", "float32[]"),
        ((X, X), X, "PyTreeDef((*, *))", "PyTreeDef(*)"),
    ]:
        (found,) = bad(abstract_eval, case(lambda x, a=a, b=b: differs_when_traced(x, a, b), X))
        assert (found.got, found.expected) == (got, expected)


def test_weak_types_agree():
    assert not bad(abstract_eval, case(lambda x: x * 2, 3.0))
