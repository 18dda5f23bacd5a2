"""Putting the questions to a subject, one example after the other; findings come as they are found."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .case import Case
from .questions import ORDINARY, Question
from .report import Evidence, Finding, Report
from .setting import NotAsked, Note
from .subject import Subject, first_line, refusal

SEED = 0
# Evidence that passes is kept only so far: a report stays small for an operation of many operands.
KEPT = 12

Inputs = tuple[tuple[Any, ...], Mapping[str, Any]]


def check(target: Callable[..., Any], *operands: Any, **params: Any) -> Report:
    """Check a primitive, or any function that JAX can trace, and report what was found.

    Args:
        target: a ``Primitive``, a ``jax.custom_jvp`` or ``jax.custom_vjp`` function, or a plain function.
        *operands: an example of its operands (pytrees of arrays and Python numbers). Without any, a primitive is
            checked on the examples that ``def_examples`` gave it.
        **params: its static params, and operands that go by name.

    Returns:
        A report: ``report.ok``, ``report.findings``, ``report.text()``, ``report.raise_if_bad()``.

    Example:
        >>> import jax.numpy as jnp, jaxprim
        >>> jaxprim.check(jnp.sin, jnp.array([1.0, 2.0])).ok
        True
    """
    subject = Subject.of(target)
    examples = [(operands, params)] if operands or params else subject.examples()
    return Report(subject.name, SEED, tuple(ask(subject, examples)))


def ask(
    subject: Subject, examples: Sequence[Inputs], seed: int = SEED, questions: Iterable[Question] = ORDINARY
) -> Iterator[Finding]:
    """Put questions to a subject at each example; yields each finding as soon as it is there."""
    questions = tuple(questions)
    for index, (operands, params) in enumerate(examples, start=1):
        case = Case.of(subject, operands, params, seed, f"example {index}: " if len(examples) > 1 else "")
        with np.errstate(all="ignore"):  # infinities and NaNs are compared, not computed with
            broken = case.failure()
        for position, question in enumerate(questions):
            yield find(question, case) if broken is None else _not_run(question, case, broken, first=position == 0)


def find(question: Question, case: Case) -> Finding:
    """Put one question to one case. An exception is an answer too: a bad one, unless it says that a rule is missing."""
    start = time.perf_counter()
    items: list[Evidence | Note] = []
    unasked = ""
    try:
        with np.errstate(all="ignore"):
            items.extend(question.ask(case))
    except NotAsked as error:
        unasked = str(error)
    except Exception as error:  # noqa: BLE001 - whatever an author's rule raises is what the report is about
        unasked = refusal(error) or ""
        if not unasked:
            items.append(_exception(question, case, error))
    return _finding(question, case, items, unasked, time.perf_counter() - start)


def _not_run(question: Question, case: Case, error: Exception, *, first: bool) -> Finding:
    """The answer of an implementation that fails: the first question reports how, no other can be asked."""
    reason = f"the implementation does not run: {first_line(error)}"
    return _finding(question, case, [_exception(question, case, error)] if first else [], reason, 0.0)


def _exception(question: Question, case: Case, error: Exception) -> Evidence:
    return Evidence(question.name, "raised", message=f"{type(error).__name__}: {error}", seed=case.seed, ok=False)


def _finding(question: Question, case: Case, items: list[Evidence | Note], unasked: str, seconds: float) -> Finding:
    evidence = sorted((i for i in items if isinstance(i, Evidence)), key=lambda e: (e.ok, -e.ratio if e.ok else 0.0))
    notes = tuple(dict.fromkeys([item.text for item in items if isinstance(item, Note)] + [unasked] * bool(unasked)))
    bad = [item for item in evidence if not item.ok]
    status, reason = "pass", ""
    if bad:
        status = "fail"
        departs = question.departs is not None and case.subject.departs(question.departs)
        if departs and not any(item.message for item in bad):
            status, reason = "departure", f"declared surrogate: {case.subject.surrogate}"
    elif not evidence:
        status, reason = "not asked", unasked or (notes[0] if notes else "there is nothing to compare")
    return Finding(
        question=question.name,
        subject=case.subject.name,
        example=case.label,
        status=status,
        evidence=tuple(evidence[: max(KEPT, len(bad))]),
        reason=reason,
        notes=notes,
        compared=len(evidence),
        seconds=seconds,
    )
