from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxprim.checking.case import Case
from jaxprim.checking.questions.jvp_differences import jvp_differences
from jaxprim.checking.reports.report import Evidence
from jaxprim.checking.subject import Subject


def case(fn, *operands):
    return Case.of(Subject.of(fn), operands, {}, 0)


def evidence(question, it):
    return [item for item in question(it) if isinstance(item, Evidence)]


def test_jvp_agrees_at_a_kink_within_the_slopes_and_not_beyond():
    def relu(slope_at_zero):
        fn = jax.custom_jvp(lambda x: jnp.maximum(x, 0))
        fn.defjvp(
            lambda primals, tangents: (
                fn(*primals),
                tangents[0] * jnp.where(primals[0] > 0, 1, jnp.where(primals[0] < 0, 0, slope_at_zero)),
            )
        )
        return fn

    x = jnp.array([-1.0, 0.0, 1.0])
    for slope in (0.0, 0.5, 1.0):
        assert all(item.ok for item in evidence(jvp_differences, case(relu(slope), x)))
    assert not all(item.ok for item in evidence(jvp_differences, case(relu(1.2), x)))
