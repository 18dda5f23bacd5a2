"""Failures that accuse one rule are one fault, and the failure that says most is shown."""

from __future__ import annotations

import dataclasses

from reports import BAD, RAISED, finding

from jaxprim.checking.reports.faults import faults

VJP = (("vjp", "ops.py:12"),)
JVP = (("jvp", "ops.py:7"),)
# A factor of 2 in each element of x, and its consequences.
CAUSE = finding("fail", [BAD, dataclasses.replace(BAD, got=6.0, expected=3.0)], "vjp-differences", rules=VJP)
SYMMETRY = finding("fail", [BAD], "symmetry", rules=VJP)
SECOND = finding("fail", [BAD], "second-order", rules=VJP)


def test_failures_that_accuse_one_rule_are_one_fault():
    (fault,) = faults([finding(), SYMMETRY, CAUSE, SECOND])
    assert fault.first is CAUSE
    assert fault.questions == ["symmetry", "second-order"]
    assert fault.sentence() == (
        "probably one fault: vjp rule, ops.py:12, cotangent of x[2,0]: factor 2: every number is 2 times the expected one"
    )


def test_two_rules_are_two_faults():
    other = finding("fail", [dataclasses.replace(BAD, rule="jvp")], "jvp-differences", rules=JVP)
    assert [fault.first for fault in faults([SYMMETRY, other, CAUSE])] == [CAUSE, other]


def test_a_comparison_of_two_rules_follows_from_the_one_that_is_wrong():
    both = finding("fail", [BAD], "dot-product", rules=JVP + VJP)
    (fault,) = faults([CAUSE, both])
    assert fault.questions == ["dot-product"]
    assert [fault.first for fault in faults([both])] == [both]


def test_an_exception_is_one_fault_whatever_it_stops():
    found = faults([finding("fail", [RAISED], "jit", rules=VJP), finding("fail", [RAISED], "vmap"), CAUSE])
    assert [fault.questions for fault in found] == [["vmap"], []]
    assert found[0].sentence() == "probably one fault: vjp rule, ops.py:12, ValueError: no"


def test_other_examples_are_named():
    (fault,) = faults([CAUSE, dataclasses.replace(CAUSE, example="x=float32[4]")])
    assert (fault.questions, fault.examples) == ([], ["x=float32[4]"])


def test_what_is_declared_is_not_put_together_with_what_is_wrong():
    surrogate = finding("surrogate", [BAD], "vjp-linear", rules=VJP, reason="declared surrogate: clipped")
    assert [fault.first.status for fault in faults([surrogate, CAUSE])] == ["fail", "surrogate"]
