"""The findings of a check: the answer to one question, with its comparisons."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jaxprim._origin import public
from jaxprim.checking import tolerances
from jaxprim.checking.reports import hints
from jaxprim.checking.reports.status import BAD, Status

# At most this many bad comparisons are shown in full, each at a different place.
SHOWN = 2


@dataclass(frozen=True)
class Evidence:
    """One comparison, shown at the element with the largest error in units of its tolerance.

    Attributes:
        rule: the rule that was compared, such as ``"jvp"`` or ``"impl"``.
        against: the other side of the comparison: the direction, the precision, the transformation.
        leaf: the operand or result that was compared, such as ``"x"`` or ``"result[1]"``.
        index: the worst element in that leaf.
        got: the value from the rule there.
        expected: the true value there.
        error: the distance between the two.
        tolerance: the largest allowed distance.
        why: the reason for the tolerance.
        seed: the random seed of this comparison.
        judged: how many elements were compared.
        bad: how many of them exceeded their tolerance.
        message: replaces the numbers: an exception, or a difference that is not numeric.
        eps: the spacing of numbers near 1 in the precision of this comparison; 0 if it is exact or unknown.
    """

    rule: str
    against: str
    leaf: str = ""
    index: tuple[int, ...] = ()
    got: complex | str | None = None
    expected: complex | str | None = None
    error: float = 0.0
    tolerance: float = 0.0
    why: str = ""
    seed: int | None = None
    judged: int = 1
    bad: int = 0
    message: str = ""
    ok: bool = True
    eps: float = 0.0

    @property
    def ratio(self) -> float:
        """The error in units of the tolerance."""
        if self.error == 0:
            return 0.0 if self.ok else math.inf
        return self.error / self.tolerance if self.tolerance else math.inf

    @property
    def ulp(self) -> float | None:
        """The error in units in the last place of the expected number; None if undefined."""
        if not self.eps or isinstance(self.expected, str | None) or not math.isfinite(abs(self.expected)):
            return None
        return self.error / (self.eps * 2.0 ** math.floor(math.log2(abs(self.expected)))) if self.expected else None

    @property
    def quotient(self) -> complex | None:
        """``got / expected``, or None if that is not finite."""
        if isinstance(self.got, str | None) or isinstance(self.expected, str | None) or not self.expected:
            return None
        found = self.got / self.expected
        return found if math.isfinite(abs(found)) else None

    def is_about(self, operand: str) -> bool:
        """Whether this comparison is about only this operand: its cotangent, or a derivative along it."""
        return (
            self.leaf == f"cotangent of {operand}"
            or self.leaf.endswith(f"> over {operand}")
            or f"along {operand} alone" in self.against
        )

    @property
    def where(self) -> str:
        """The worst element, such as ``x[2,0]``."""
        return self.leaf + (f"[{','.join(map(str, self.index))}]" if self.index else "")

    def brief(self) -> str:
        """The comparison in a few words."""
        if self.message:
            return self.message.splitlines()[0]
        if not self.why or self.why == tolerances.EXACT:
            return "as expected" if self.ok else f"got {self.got}, expected {self.expected}"
        return f"error {self.error:.1e}, allowed {self.tolerance:.1e}, {self.where}"

    def facts(self) -> Iterator[tuple[str, str]]:
        """The comparison as labelled facts. The first one says what was compared with what."""
        yield self.rule, self.against
        if self.message:
            yield "error", self.message
        if self.leaf:
            yield "at", self.where + (f" ({self.bad} of {self.judged} elements are off)" if self.judged > 1 else "")
        digits = 9 if self.ok or _look_different(self.got, self.expected) else 17
        if self.got is not None:
            yield "got", number(self.got, digits) + self._times()
        if self.expected is not None:
            yield "expected", number(self.expected, digits)
        if self.why:
            yield "off by", f"{self._distance()}, allowed {self.tolerance:.2g}: {self.why}"
        if self.seed is not None:
            yield "seed", str(self.seed)

    def lines(self) -> Iterator[str]:
        """The comparison as text: one labelled fact per line."""
        (rule, against), *facts = self.facts()
        yield f"{rule}: {against}"
        for label, fact in facts:
            yield from labelled(label, fact)

    def _distance(self) -> str:
        ulp = self.ulp
        return f"{self.error:.3g}" + (f" ({ulp:.2g} ulp)" if ulp is not None and math.isfinite(ulp) else "")

    def _times(self) -> str:
        """``got / expected``, because a factor of exactly 2 or -1 is telling."""
        return f"  (got / expected = {number(self.quotient, 6)})" if self.quotient is not None else ""


def labelled(label: str, fact: str) -> Iterator[str]:
    """A labelled fact, its further lines aligned with the first."""
    first, *rest = fact.splitlines() or [""]
    yield f"  {label + ':':<11}{first}"
    yield from (" " * 13 + line for line in rest)


def _look_different(got: complex | str | None, expected: complex | str | None) -> bool:
    return got is None or expected is None or number(got) != number(expected)


def number(value: complex | str, digits: int = 9) -> str:
    """A number with at most this many digits."""
    if isinstance(value, str):
        return value
    if isinstance(value, complex):
        return f"{value.real:.{digits}g}{value.imag:+.{digits}g}j"
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


@public
@dataclass(frozen=True)
class Finding:
    """The answer to one question about one example.

    Attributes:
        question: the question's stable name.
        subject: the name of the primitive or function.
        example: which example, such as ``"x=float32[3], factor=float"``.
        status: ``"pass"``; ``"fail"``; ``"skipped"``: the question does not apply; ``"surrogate"``: the rule differs
            from the derivative, as its author declared; ``"xfail"``: it fails as pyproject.toml records; ``"xpass"``:
            it passes, though a failure is recorded. All but the first two have a reason.
        evidence: the comparisons: first the bad ones, in the order of asking, then the others, the worst first.
        reason: why the question was skipped, why the rule differs, or the recorded reason.
        notes: other facts for the reader.
        compared: how many comparisons were made; ``evidence`` keeps the worst.
        seconds: how long the answer took.
        operands: the operands with comparisons of their own, and whether all of these pass.
        rules: the rules that the bad comparisons accuse, each with the file and line where it was written. A derived
            rule stands for the rule that it is derived from.
    """

    question: str
    subject: str
    example: str
    status: Status
    evidence: tuple[Evidence, ...] = ()
    reason: str = ""
    notes: tuple[str, ...] = ()
    compared: int = 0
    seconds: float = 0.0
    operands: tuple[tuple[str, bool], ...] = ()
    rules: tuple[tuple[str, str], ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the question did not fail; also true if it was skipped."""
        return self.status not in BAD

    @property
    def worst(self) -> Evidence | None:
        """The evidence with the largest error in units of its tolerance."""
        return max(self.evidence, key=lambda item: (not item.ok, item.ratio), default=None)

    @property
    def excerpt(self) -> tuple[Evidence, ...]:
        """The bad evidence to show: each place once."""
        bad = [item for item in self.evidence if not item.ok]
        return tuple(list({item.where: item for item in reversed(bad)}.values())[::-1][:SHOWN])

    @property
    def hints(self) -> tuple[str, ...]:
        """Likely causes, from patterns in all wrong numbers, or else in those of one operand."""
        bad = [item for item in self.evidence if not item.ok and not item.message]
        if any(item.against == hints.OTHER_MEMORY for item in bad):
            return (hints.UNWRITTEN,)
        found = self._causes(bad)
        if found:
            return found
        wrong = [name for name, right in self.operands if not right]
        by_operand = {name: self._causes([item for item in bad if item.is_about(name)]) for name in wrong}
        return tuple(f"{name}: {cause}" for name, causes in by_operand.items() for cause in causes)

    def _causes(self, evidence: Sequence[Evidence]) -> tuple[str, ...]:
        return tuple(hints.causes([(item.got, item.expected) for item in evidence], self.example))

    def text(self) -> str:
        """The finding as text, with its bad comparisons."""
        head = f"{self.status}: {self.question} of {self.subject} at {self.example}"
        reason = [f"  reason: {self.reason}"] if self.reason else []
        if self.status == "xpass":
            return "\n".join([head, *reason])
        bad = sum(not item.ok for item in self.evidence)
        body = [f"  {line}" for item in self.excerpt for line in item.lines()]
        left = bad - len(self.excerpt)
        more = (
            [f"  and {left} more comparison{'s' * (left > 1)} that {'are' if left > 1 else 'is'} off"] if left else []
        )
        accused = [f"  rule: {rule}, {place}" for rule, place in self.rules]
        said = [f"  hint: {hint}" for hint in self.hints] + [f"  note: {note}" for note in self.notes]
        return "\n".join([head, *reason, *accused, *body, *more, *said])
