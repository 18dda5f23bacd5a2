"""The tester, tested: each wrong primitive is caught, by the question that is meant for it."""

from __future__ import annotations

import pytest
from faults import FAULTS, Fault

from jaxprim import Example
from jaxprim.checking import shrink
from jaxprim.checking.questions import QUESTIONS, find_question
from jaxprim.checking.run import ask, cases
from jaxprim.checking.subject import Subject


@pytest.mark.parametrize("fault", FAULTS, ids=repr)
@pytest.mark.usefixtures("jax_defaults")
def test_fault_is_caught_by_its_question(fault: Fault, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shrink, "PATIENCE", 0.0)
    primitive, operands, *params = fault.build()
    example = Example(operands, *params)
    (finding,) = ask(cases(Subject.of(primitive, fault.reference), [example]), [find_question(fault.question)])
    assert finding.status == "fail", finding.text()
    assert finding.evidence[0].message or finding.evidence[0].leaf


def test_every_question_that_a_rule_can_fail_has_a_fault():
    # Which rule runs and how often a kernel does is jaxprim's own doing: tests/checking/questions has faults of it.
    # What reverse mode keeps is measured, and not judged.
    own = {"which-rule", "kernel-runs", "residuals"}
    assert {fault.question for fault in FAULTS} == {question.name for question in QUESTIONS} - own
