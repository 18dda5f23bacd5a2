from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from jaxprim.checking.case import Case
from jaxprim.checking.questions.control import POLICIES, checkpoint, conditional, control_flow, looped, scanned
from jaxprim.checking.reports.report import Evidence
from jaxprim.checking.subject import Subject

X = jnp.array([0.5, 1.0, -2.0])


def asked(question, fn, *operands):
    return [e for e in question(Case.of(Subject.of(fn), operands, {}, 0)) if isinstance(e, Evidence)]


PLACES = {
    "scan": scanned,
    "cond": lambda function: conditional(function, [X]),
    "while_loop": lambda function: looped(function, [X]),
}


@pytest.mark.parametrize("put", PLACES.values(), ids=PLACES)
def test_a_place_runs_the_function(put):
    ran: list[int] = []

    def function(x):
        ran.append(1)
        return [x * 2]

    (found,) = jax.jit(put(function))(X)
    assert ran
    assert jnp.array_equal(found, 2 * X)


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
