"""Findings and a report that nothing was checked for: what tests of their forms share."""

from __future__ import annotations

import dataclasses

from jaxprim.checking.reports.report import Evidence, Finding, Report
from jaxprim.checking.reports.svg import Heat, Lines, Series

GOOD = Evidence("impl", "jit against eager", "result", (1,), 1.0, 1.0, 1e-8, 1e-6, "because", 0, judged=3)
BAD = Evidence(
    "vjp", "differences along x", "cotangent of x", (2, 0), 4.0, 2.0, 2.0, 1e-6, "because", 7, judged=6, bad=2, ok=False
)
RAISED = Evidence("vjp", "raised", message="ValueError: no\nsecond line", seed=7, ok=False)


def finding(status="pass", evidence=(GOOD,), question="jit", example="x=float32[3]", **more):
    return Finding(question, "op", example, status, tuple(evidence), compared=len(evidence), **more)


def everything():
    """A report with each kind of number, finding and picture."""
    odd = dataclasses.replace(BAD, got=1 - 2j, expected=float("inf"), error=float("inf"), eps=1e-7)
    words = Evidence("abstract eval", "the implementation", "result", got="float32[3]", expected="float64[3]", ok=False)
    pictures = (
        Lines("steps", "caption", "x", "step", "error", (Series("jvp", (0.5, 0.25), (1e-3, 1e-4)),)),
        Heat("jacobian", "caption", "x", ("y[0]",), ("x[0]", "x[1]"), ((0.0, float("inf")),)),
    )
    found = finding("fail", [odd, words, RAISED], operands=(("x", False),), notes=("a note",), seconds=0.5)
    return Report("op", 7, (found, finding(), finding("skipped", [], "vmap", reason="why")), "ops.py:op", pictures)
