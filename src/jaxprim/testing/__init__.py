"""One test per question, in pytest: ``@jaxprim.testing.parametrize(scale)``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxprim._defaults import SEED
from jaxprim._errors import CheckFailed
from jaxprim._types import Example
from jaxprim.checking import options, run
from jaxprim.checking.case import Case
from jaxprim.checking.questions import QUESTIONS, Question, Speed
from jaxprim.checking.reports import expected
from jaxprim.checking.reports.report import Report
from jaxprim.checking.subject import Subject

if TYPE_CHECKING:
    import pytest

__all__ = ["Asked", "expected_failures", "parametrize", "questions_to"]


@dataclass
class _Asking:
    """A subject with its examples, shared by all questions, so that values are computed once."""

    subject: Subject
    given: Sequence[Example]
    seed: int
    where: str

    @cached_property
    def cases(self) -> list[Case]:
        return run.cases(self.subject, self.given or self.subject.examples(), self.seed)


@dataclass(frozen=True, repr=False)
class Asked:
    """A question about a primitive or a function. Calling it fails with the evidence, or skips with the reason."""

    asking: _Asking
    question: Question

    @property
    def name(self) -> str:
        """The name of the question."""
        return self.question.name

    @property
    def subject(self) -> str:
        """The name of the subject."""
        return self.asking.subject.name

    def report(self) -> Report:
        """The answer at every example, good or bad."""
        found = tuple(run.answer(self.question, case, first=True) for case in self.asking.cases)
        begun = run.begun(self.asking.subject, self.asking.seed)
        return replace(begun, findings=found, target=self.asking.where)

    def __repr__(self) -> str:
        return f"<{self.name} of {self.subject}>"

    def __call__(self) -> Report:
        """Ask the question. Raise CheckFailed if the answer is bad; skip the test if it does not apply."""
        import pytest

        __tracebackhide__ = True
        report = self.report()
        if not report.ok:
            raise CheckFailed("\n\n".join(report.breadcrumbs().values()))
        if all(finding.status == "skipped" for finding in report.findings):
            pytest.skip(report.findings[0].reason)
        return report

    def marks(self, records: expected.Records) -> list[pytest.MarkDecorator]:
        """A strict xfail where a failure is recorded: pytest reports when it no longer occurs."""
        import pytest

        reason = records.get(self.subject, {}).get(self.name)
        return [pytest.mark.xfail(reason=reason, strict=True, raises=CheckFailed)] if reason is not None else []


def questions_to(
    target: Callable[..., Any],
    examples: Iterable[Example | tuple[Any, ...]] = (),
    *,
    reference: Callable[..., Any] | None = None,
    seed: int = SEED,
    only: str | Iterable[str] | None = None,
    skip: str | Iterable[str] | None = None,
    speed: Speed = "normal",
    where: str = "",
) -> Iterator[Asked]:
    """The questions about one primitive or function, each to be called in a test of its own.

    Args:
        target: as for ``jaxprim.check``, like the options below.
        examples: tuples of operands, or ``jaxprim.Example`` objects; without any, the examples of ``def_examples``.
        reference: the same function in JAX or NumPy.
        seed: the random seed.
        only: the questions to ask.
        skip: the questions to leave out.
        speed: how many questions are asked.
        where: the target on the command line, such as ``"ops.py:scale"``; a failure shows how to reproduce it.

    Example:
        >>> import jax.numpy as jnp
        >>> [asked().ok for asked in questions_to(jnp.sin, [(1.0,)], only=["jit", "vjp-differences"])]
        [True, True]
    """
    given = [example if isinstance(example, Example) else Example(example) for example in examples]
    asking = _Asking(Subject.of(target, reference), given, seed, where)
    for question in options.questions(only, skip, speed):
        yield Asked(asking, question)


def parametrize(
    *targets: Callable[..., Any],
    examples: Iterable[Example | tuple[Any, ...]] = (),
    reference: Callable[..., Any] | None = None,
    seed: int = SEED,
    only: str | Iterable[str] | None = None,
    skip: str | Iterable[str] | None = None,
    speed: Speed = "normal",
    where: str = "",
) -> pytest.MarkDecorator:
    """Make one test of each question: a decorator for a test function with an argument ``question``, which it calls.

    Args:
        *targets: primitives that have examples, or any functions, with ``examples=``.
        examples: as for `questions_to`, like the others.
        reference: the same function in JAX or NumPy.
        seed: the random seed.
        only: the questions to ask.
        skip: the questions to leave out.
        speed: how many questions are asked.
        where: the target on the command line.

    Example:
        >>> import jaxprim
        >>> square = jaxprim.primitive(lambda x: x * x)
        >>> @parametrize(square, examples=[(3.0,)], only=["jit"])
        ... def test_square(question):
        ...     question()
    """
    import pytest

    records, given = expected_failures(Path()), list(examples)
    every = [
        asked
        for target in targets
        for asked in questions_to(
            target, given, reference=reference, seed=seed, only=only, skip=skip, speed=speed, where=where
        )
    ]
    return pytest.mark.parametrize(
        "question",
        [pytest.param(asked, id=f"{asked.subject}-{asked.name}", marks=asked.marks(records)) for asked in every],
    )


def expected_failures(folder: Path) -> expected.Records:
    """The failures recorded in the pyproject.toml of a folder or of a folder above it."""
    return expected.read(folder, [question.name for question in QUESTIONS])
