"""Known failures of a project, recorded in its pyproject.toml with a reason.

[tool.jaxprim.expected-failures.soft_max]
vjp-differences = "clipped on purpose, see issue 12"
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxprim._errors import JaxprimError, message
from jaxprim.checking.reports.findings import Finding
from jaxprim.checking.reports.report import rows

TABLE = "[tool.jaxprim.expected-failures.NAME]"

# For each subject, the questions that fail, and why.
Records = Mapping[str, Mapping[str, str]]


class BadRecord(JaxprimError, ValueError):
    """The table of expected failures is malformed."""


def read(start: Path, questions: Collection[str]) -> Records:
    """The records of the nearest pyproject.toml in a folder or above it.

    Raises:
        BadRecord: a record is malformed, or names an unknown question.
    """
    for folder in (start.resolve(), *start.resolve().parents):
        path = folder / "pyproject.toml"
        if path.is_file():
            return _records(path, questions)
    return {}


def _records(path: Path, questions: Collection[str]) -> Records:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise BadRecord(f"{path}: {error}") from error
    found: Any = content.get("tool", {}).get("jaxprim", {}).get("expected-failures", {})
    for subject, reasons in found.items():
        for question, reason in (reasons if isinstance(reasons, dict) else {"": reasons}).items():
            _require(path, subject, question, reason, questions)
    return found


def _require(path: Path, subject: str, question: str, reason: object, questions: Collection[str]) -> None:
    if question in questions and isinstance(reason, str) and reason:
        return
    raise BadRecord(
        message(
            f"{path.name}: not an expected failure.",
            got=f"{subject}: {question + ' = ' if question else ''}{reason!r}",
            expected="the name of a question (`jaxprim questions` lists them), and the reason as text",
            write=f'{TABLE.replace("NAME", subject)}\n            vjp-differences = "why"',
        )
    )


def apply(findings: Sequence[Finding], records: Records) -> tuple[Finding, ...]:
    """Turn a recorded failure into an xfail, and a pass of a recorded question into an xpass.

    A record applies to a question at every example, so it is an xpass only if no example fails.
    """
    failing = {row.question for row in rows(findings) if row.status == "fail"}
    return tuple(_apply(f, records.get(f.subject, {}), failing) for f in findings)


def _apply(finding: Finding, reasons: Mapping[str, str], failing: set[str]) -> Finding:
    reason = reasons.get(finding.question)
    if reason is None:
        return finding
    if finding.status == "fail":
        return replace(finding, status="xfail", reason=f"recorded in pyproject.toml: {reason}")
    if finding.status == "pass" and finding.question not in failing:
        why = f'nothing is wrong now; remove `{finding.question} = "{reason}"` from pyproject.toml'
        return replace(finding, status="xpass", reason=why)
    return finding
