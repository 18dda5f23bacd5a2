from __future__ import annotations

import jax.numpy as jnp

from jaxprim.checking.case import Case
from jaxprim.checking.contexts import POLICIES
from jaxprim.checking.questions.control_flow import checkpoint, control_flow
from jaxprim.checking.reports.report import Evidence
from jaxprim.checking.subject import Subject

X = jnp.array([0.5, 1.0, -2.0])


def asked(question, fn, *operands):
    return [e for e in question(Case.of(Subject.of(fn), operands, {}, 0)) if isinstance(e, Evidence)]


def test_reverse_mode_is_not_asked_of_a_loop_without_an_end():
    found = asked(control_flow, lambda x, i: (x[i], i), X, jnp.array([0, 1]))
    assert all(item.ok for item in found)
    places = {(item.rule, item.against.split(",")[0]) for item in found}
    assert places == {(r, p) for r in ("impl", "jvp", "vjp") for p in ("scan", "cond", "while_loop", "checkpoint")} - {
        ("vjp", "while_loop")
    }


def test_every_policy():
    found = asked(checkpoint, jnp.sin, X)
    assert all(item.ok for item in found)
    assert {item.against for item in found} >= {f"checkpoint, {name}, against a plain call" for name in POLICIES}
