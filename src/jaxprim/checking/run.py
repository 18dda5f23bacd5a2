"""Ask the questions about a subject, one example after the other. Findings are yielded as they come."""

from __future__ import annotations

import platform
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import jax
import numpy as np

from jaxprim import _doctor, _jax
from jaxprim._defaults import SEED
from jaxprim._errors import JaxprimError
from jaxprim._origin import public, shorten
from jaxprim._types import Example
from jaxprim.checking import options, shrink
from jaxprim.checking.answers import NotAsked, Note, failed, first_line, why_refused, without_frames
from jaxprim.checking.case import Case
from jaxprim.checking.progress import watched
from jaxprim.checking.questions import Question, Speed
from jaxprim.checking.reports import measure
from jaxprim.checking.reports.report import Evidence, Finding, Report
from jaxprim.checking.reports.status import Status
from jaxprim.checking.subject import Subject

# At most this much passing evidence is kept, so that a report stays small. The evidence of `which-rule` in every context
# must fit, because the HTML page shows it.
KEPT = 16
# An exception from inside these is shown at the author's line that called them.
LIBRARIES = {"jax", "jaxlib", "jaxprim", "numpy", "contextlib", "functools"}

# At most this many lines of an exception's text are shown: some texts contain a whole stack.
LINES = 12


@public
@_jax.boundary
def report(
    target: Callable[..., Any],
    /,
    *operands: Any,
    reference: Callable[..., Any] | None = None,
    seed: int | None = None,
    only: str | Iterable[str] | None = None,
    skip: str | Iterable[str] | None = None,
    speed: Speed | None = None,
    accuracy: float | None = None,
    pictures: bool = False,
    **params: Any,
) -> Report:
    """Check a primitive, or any function that JAX can trace, and return the report, good or bad.

    In a test, use `check`, which raises.

    Args:
        target: a ``Primitive``, a ``jax.custom_jvp`` or ``jax.custom_vjp`` function, or a plain function.
        *operands: an example of its operands (pytrees of arrays and Python numbers), or any number of
            ``jaxprim.Example`` objects. Without any, a primitive is checked on its ``def_examples``.
        reference: the same function in JAX or NumPy, which must agree with the implementation.
        seed: the random seed, 0 by default.
        only: the names of the questions to ask; ``jaxprim questions`` lists them.
        skip: the names of questions to leave out.
        speed: ``"fast"``, ``"normal"`` (the default) or ``"thorough"``: how many questions are asked.
        accuracy: the relative error to which the target computes its function, such as the tolerance of an iterative
            solver. All tolerances follow it. Without it, `def_accuracy` or an `Example` may say it.
        pictures: also measure the pictures of ``report.html()``, which takes a few seconds.
        **params: the target's static params, and operands passed by name. If one of them has a name from above, pass an
            ``Example``, which keeps operands and params apart.

    Returns:
        A report: ``report.ok``, ``report.findings``, ``report.text()``, ``report.to_json()``, ``report.html()``.

    Raises:
        BadCall: there is no example, or no such question, or a keyword is ambiguous: the target takes it too.

    Example:
        >>> import jax.numpy as jnp, jaxprim
        >>> jaxprim.report(jnp.sin, jnp.array([1.0, 2.0])).ok
        True
        >>> [finding.question for finding in jaxprim.report(jnp.sin, 1.0, only=["jit", "vmap"]).findings]
        ['jit', 'vmap']
    """
    subject = Subject.of(target, reference)
    given = {
        "reference": reference, "seed": seed, "only": only, "skip": skip, "speed": speed, "accuracy": accuracy,
    }  # fmt: skip
    options.refuse_ambiguous(subject, operands, {name for name, value in given.items() if value is not None})
    options.refuse_accuracy(subject, accuracy)
    examples = inputs(subject, operands, params)
    chosen = options.questions(only, skip, speed or "normal")
    seed = SEED if seed is None else seed
    asked = cases(subject, examples, seed, accuracy)
    found = tuple(watched(ask(asked, chosen), len(asked) * len(chosen)))
    drawn = measure.pictures(asked[0], found) if pictures else ()
    return replace(begun(subject, seed), findings=found, pictures=drawn)


def begun(subject: Subject, seed: int) -> Report:
    """The report of a check that begins: what is checked, with what, when and where."""
    devices = dict.fromkeys(device.device_kind for device in jax.devices())
    about = (
        ("jaxprim", _doctor.version_of("jaxprim")),
        ("JAX", jax.__version__),
        ("Python", platform.python_version()),
        ("device", f"{len(jax.devices())} x {', '.join(devices)}"),
        ("64-bit types", "on" if jax.config.read("jax_enable_x64") else "off"),
        ("time", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
    )
    return Report(subject.name, seed, rules=subject.rules, about=about)


@public
@_jax.boundary
def check(
    target: Callable[..., Any],
    /,
    *operands: Any,
    reference: Callable[..., Any] | None = None,
    seed: int | None = None,
    only: str | Iterable[str] | None = None,
    skip: str | Iterable[str] | None = None,
    speed: Speed | None = None,
    accuracy: float | None = None,
    pictures: bool = False,
    **params: Any,
) -> Report:
    """Check a primitive, or any function that JAX can trace, and raise if a question fails.

    It takes the arguments of `report`, and asks the same questions.

    Returns:
        The report, if no question fails.

    Raises:
        CheckFailed: a question fails; the message is the text of the report.
        BadCall: as for `report`.

    Example:
        >>> import jax.numpy as jnp, jaxprim
        >>> jaxprim.check(jnp.sin, jnp.array([1.0, 2.0])).ok
        True
    """
    found = report(
        target, *operands, reference=reference, seed=seed, only=only, skip=skip, speed=speed, accuracy=accuracy, pictures=pictures,
        **params,
    )  # fmt: skip
    found.raise_if_bad()
    return found


def inputs(subject: Subject, operands: tuple[Any, ...], params: Mapping[str, Any]) -> Sequence[Example]:
    """The examples of a call: its operands, its `Example` objects, or the examples of the primitive."""
    if operands and all(isinstance(operand, Example) for operand in operands):
        options.refuse_params(subject, params)
        return list(operands)
    return [Example(operands, params)] if operands or params else subject.examples()


def cases(subject: Subject, examples: Sequence[Example], seed: int = SEED, accuracy: float | None = None) -> list[Case]:
    """The case of each example. If there are several, each has its number and refers to the similar ones."""
    numbers = [f"example {index}: " if len(examples) > 1 else "" for index in range(1, len(examples) + 1)]
    accuracies = [each.accuracy if accuracy is None else accuracy for each in examples]
    made = [
        Case.of(subject, each.operands, each.params, seed, number, known)
        for each, number, known in zip(examples, numbers, accuracies, strict=True)
    ]
    return [
        replace(
            case,
            others=tuple(other.point for other in made if other is not case and case.is_like(other)),
            measures_noise=False,
        )
        for case in made
    ]


def ask(cases: Iterable[Case], questions: Iterable[Question] | None = None) -> Iterator[Finding]:
    """Ask each question about all cases of a subject; yields each finding as soon as it is known."""
    questions, cases = options.questions() if questions is None else tuple(questions), tuple(cases)
    for position, question in enumerate(questions):
        for case in cases:
            yield answer(question, case, first=position == 0)


def answer(question: Question, case: Case, *, first: bool) -> Finding:
    """Ask one question about one case. If the implementation fails, the first question reports it, and no other applies."""
    with np.errstate(all="ignore"):  # infinities and NaNs are only compared
        broken = case.once("failure", case.failure)
    return find(question, case) if broken is None else _not_run(question, case, broken, first=first)


def find(question: Question, case: Case) -> Finding:
    """Ask one question about one case. If a number is off, it is asked again with the rounding errors of rules measured."""
    start = time.perf_counter()
    items, unasked = _items(question, case)
    if not case.measures_noise and any(not item.message for item in failed(items)):
        case = case.with_noise
        items, unasked = _items(question, case)
    items.extend(_smallest(question, case, failed(items)))
    return _finding(question, case, items, unasked, time.perf_counter() - start)


def _items(question: Question, case: Case) -> tuple[list[Evidence | Note], str]:
    """What a question yields, and why it was not asked. An exception is bad, unless it says that a rule is missing."""
    items: list[Evidence | Note] = []
    try:
        with np.errstate(all="ignore"):
            items.extend(question.ask(case))
    except NotAsked as error:
        return items, str(error)
    except Exception as error:  # noqa: BLE001 - the report shows any exception of an author's rule
        unasked = why_refused(error) or ""
        return [*items, *([] if unasked else [_exception(question, case, error)])], unasked
    return items, ""


def _smallest(question: Question, case: Case, bad: Sequence[Evidence]) -> Iterator[Note]:
    """A smaller input that fails too; only for the first failure at an example, because the search takes seconds."""
    departs = question.departs is not None and case.subject.departs(question.departs)
    if not bad or departs or question.invents or case.knows("smallest"):
        return
    words = case.once("smallest", lambda: shrink.smallest(question.ask, case, bad))
    if words:
        yield Note(f"it also fails at {words}")


def _not_run(question: Question, case: Case, error: Exception, *, first: bool) -> Finding:
    """The finding for an implementation that fails: the first question reports it, the others are skipped."""
    reason = f"the implementation does not run: {first_line(error)}"
    return _finding(question, case, [_exception(question, case, error)] if first else [], reason, 0.0)


def _exception(question: Question, case: Case, error: Exception) -> Evidence:
    return Evidence(question.name, "raised", message=describe_exception(error), seed=case.seed, ok=False)


def describe_exception(error: Exception) -> str:
    """The type and the text of an exception, and the author's line that raised it."""
    kind, text = type(error).__name__, str(error)
    said = list(without_frames(f"{kind}: {text}" if text else kind))
    return "\n".join([*said[:LINES], *["..."] * (len(said) > LINES), *_authors_line(error)])


def _authors_line(error: Exception) -> Iterator[str]:
    """The author's line that raised; jaxprim's own errors already name it."""
    if isinstance(error, JaxprimError):
        return
    frames = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__) if not _is_library(frame)]
    if frames:
        frame, line = frames[-1]
        yield f"raised at {shorten(frame.f_code.co_filename)}:{line}, in {frame.f_code.co_name}"


def _is_library(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__", "").partition(".")[0] in LIBRARIES


def _finding(question: Question, case: Case, items: list[Evidence | Note], unasked: str, seconds: float) -> Finding:
    """The finding made from the evidence and the notes of one answer."""
    # Bad evidence stays in the order of asking. Passing evidence follows, the worst first.
    evidence = sorted((i for i in items if isinstance(i, Evidence)), key=lambda e: (e.ok, -e.ratio if e.ok else 0.0))
    notes = dict.fromkeys([item.text for item in items if isinstance(item, Note)] + [unasked] * bool(unasked))
    status, reason = _status(question, case.subject, evidence, next(iter(notes), ""), unasked)
    bad = failed(evidence)
    return Finding(
        question=question.name,
        subject=case.subject.name,
        example=case.label,
        status=status,
        evidence=_kept(evidence, case),
        reason=reason,
        notes=(*notes, *_origins(bad, case.subject)),
        compared=len(evidence),
        seconds=seconds,
        operands=_by_operand(evidence, case.point.names),
        rules=tuple(dict.fromkeys(_accused(bad, case.subject))),
    )


def _status(
    question: Question, subject: Subject, evidence: Sequence[Evidence], note: str, unasked: str
) -> tuple[Status, str]:
    """The status that follows from the evidence, and its reason if it needs one."""
    bad = [item for item in evidence if not item.ok]
    if not evidence:
        return "skipped", unasked or note or "there is nothing to compare"
    if not bad:
        return "pass", ""
    declared = question.departs is not None and subject.departs(question.departs)
    # A surrogate may give other numbers than the derivative. It may not raise, or return other types.
    if declared and not any(item.message for item in bad):
        return "surrogate", f"declared surrogate: {subject.surrogate}"
    return "fail", ""


def _kept(evidence: Sequence[Evidence], case: Case) -> tuple[Evidence, ...]:
    """The evidence that the report keeps: everything bad, and the worst of the rest."""
    bad = sum(not item.ok for item in evidence)
    return tuple(_with_spacing(item, case) for item in evidence[: max(KEPT, bad)])


def _origins(bad: Iterable[Evidence], subject: Subject) -> Iterator[str]:
    """A note if a wrong rule is derived from another rule, which is then the one to repair."""
    for name in dict.fromkeys(item.rule for item in bad):
        info = subject.rule(name)
        if info is not None and info.status == "derived" and info.origin != "impl":
            yield f"the {name} rule is derived from the {info.origin} rule"


def _accused(bad: Iterable[Evidence], subject: Subject) -> Iterator[tuple[str, str]]:
    """The author's rules that bad comparisons are about, with their places; for a derived rule, the rule it comes from."""
    for name in dict.fromkeys(name for item in bad for name in item.rule.split(" and ")):
        info = subject.rule(name.replace(" ", "_"))
        while info is not None and info.status == "derived":
            info = subject.rule(info.origin)
        if info is not None and info.status == "given":
            yield info.rule, info.origin


def _with_spacing(item: Evidence, case: Case) -> Evidence:
    """The evidence with the eps of its precision, unless it has one already or does not compare numbers."""
    if item.eps or not isinstance(item.got, float | complex):
        return item
    in_double = case.truth.double and f"({case.truth.label})" in item.against
    return replace(item, eps=(case.truth if in_double else case.native).eps)


def _by_operand(evidence: Iterable[Evidence], names: Sequence[str]) -> tuple[tuple[str, bool], ...]:
    """The operands with comparisons of their own, and whether all of these pass."""
    right: dict[str, bool] = {}
    for item in evidence:
        about = [name for name in names if item.is_about(name)]
        if len(about) == 1 and not item.message:
            right[about[0]] = right.get(about[0], True) and item.ok
    return tuple((name, right[name]) for name in names if name in right)
