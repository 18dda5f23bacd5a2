from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxprim.checking.case import Case
from jaxprim.checking.questions.jit import jit
from jaxprim.checking.reports.report import Evidence
from jaxprim.checking.subject import Subject

X = jnp.array([0.5, 1.0, -2.0])


def case(fn, *operands):
    return Case.of(Subject.of(fn), operands, {}, 0)


def bad(question, it):
    return [item for item in question(it) if isinstance(item, Evidence) and not item.ok]


def differs_when_traced(x, a, b):
    return a if isinstance(x, jax.core.Tracer) else b


def test_an_implementation_that_differs_under_jit():
    (found,) = bad(jit, case(lambda x: x * differs_when_traced(x, 1.001, 1.0), X))
    assert found.rule == "impl"
