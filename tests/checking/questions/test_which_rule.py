from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from types import SimpleNamespace

import jax.numpy as jnp
import pytest

from jaxprim import Primitive
from jaxprim.checking import run
from jaxprim.checking.answers import NotAsked, Note
from jaxprim.checking.case import Case
from jaxprim.checking.questions import which_rule
from jaxprim.checking.reports.report import Evidence
from jaxprim.checking.subject import Subject

X = jnp.array([0.5, 1.0, -2.0])


def sine(jvp=True, vjp=True):
    made = Primitive("sine")
    made.def_impl(lambda x: jnp.sin(x))
    if jvp:
        made.def_jvp(lambda primals, tangents: (made(*primals), tangents[0] * jnp.cos(*primals)))
    if vjp:
        made.def_vjp(lambda primals: (made(*primals), lambda y_bar: (y_bar * jnp.cos(*primals),)))
    return made


def ask(made):
    return list(which_rule.which_rule(Case.of(Subject.of(made), (X,), {}, 0)))


def test_each_mode_runs_its_rule_in_every_context():
    found = ask(sine())
    assert len(found) == 2 * len(which_rule.CONTEXTS)
    assert len(found) <= run.KEPT, "the page would say that no rule was given where it ran"
    assert all(item.ok for item in found), [item for item in found if not item.ok]


def test_only_given_rules_are_asked_for():
    notes, evidence = [], []
    for item in ask(sine(jvp=False)):
        (notes if isinstance(item, Note) else evidence).append(item)
    assert [note.text for note in notes] == ["the jvp rule is not given"]
    assert {item.rule for item in evidence} == {"vjp"}
    assert all(isinstance(item, Evidence) and item.ok for item in evidence)


def test_without_a_choice_there_is_nothing_to_ask():
    with pytest.raises(NotAsked, match="there is no choice"):
        ask(sine(jvp=False, vjp=False))
    with pytest.raises(NotAsked, match="a plain function"):
        ask(jnp.sin)


@pytest.mark.parametrize(
    ("counts", "got"),
    [({}, "no rule"), ({"jvp": 1}, "jvp x 1"), ({"jvp": 1, "vjp": 2}, "jvp x 1, vjp x 2")],
)
def test_a_mode_that_runs_another_rule_is_bad(monkeypatch, counts, got):
    @contextmanager
    def record_rules(*, quiet):
        yield SimpleNamespace(counts=Counter({("sine", rule, "file.py:1"): n for rule, n in counts.items()}))

    monkeypatch.setattr(which_rule, "record_rules", record_rules)
    reverse = [item for item in ask(sine()) if item.rule == "vjp"]
    assert [(item.ok, item.got, item.expected) for item in reverse] == [(False, got, "vjp, and not jvp")] * len(
        which_rule.CONTEXTS
    )
