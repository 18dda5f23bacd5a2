"""A checker whose answers are known, to test the bench."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any


@dataclass
class Finding:
    question: str
    ok: bool


@dataclass
class Report:
    findings: list[Finding]

    @property
    def ok(self) -> bool:
        return all(finding.ok for finding in self.findings)


def check(target: Any, *operands: Any, seed: int, heard: Any = None, **params: Any) -> Report:
    print("what a tool prints is not an answer")
    name = getattr(target, "name", "")
    if name == "x_exp":
        os._exit(3)
    if name == "steep":
        time.sleep(60)
    if name == "cube":
        raise ValueError("the stub breaks")
    findings = [Finding("values", True), Finding("first order", name != "gaussian")]
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        findings.append(Finding(f"seed {seed} kept", False))
    if heard:
        heard(findings[0])
    return Report(findings)
