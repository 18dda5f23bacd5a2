"""What came out, as data, and as the tables of docs/checking/survey.md."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import jaxprim
from jaxprim.checking.reports.report import rows

from .verdicts import VERDICTS


@dataclass(frozen=True)
class Answers:
    """What came out for one function in one precision; questions by their names.

    Attributes:
        name: the function's.
        bits: 32 or 64.
        speed: which questions were asked at the first point: ``"fast"``, ``"normal"`` or ``"thorough"``.
        points: at how many points it was asked.
        passed: questions that pass wherever they were asked.
        unasked: questions that had nothing to ask, and why.
        failed: questions that fail somewhere, and the worst evidence in one line.
        absent: why there is no such function here, such as a name that this version of JAX lacks.
        texts: the reports that are bad, in full.
    """

    name: str
    bits: int
    speed: str
    points: int = 0
    passed: Sequence[str] = ()
    unasked: Mapping[str, str] = field(default_factory=dict[str, str])
    failed: Mapping[str, str] = field(default_factory=dict[str, str])
    absent: str = ""
    texts: Sequence[str] = ()

    @staticmethod
    def of(name: str, bits: int, speed: str, reports: Sequence[jaxprim.Report]) -> Answers:
        found = rows([finding for report in reports for finding in report.findings])
        return Answers(
            name,
            bits,
            speed,
            len(reports),
            [row.question for row in found if row.status == "pass"],
            {row.question: row.representative.reason for row in found if row.status == "skipped"},
            {row.question: row.cells()[1] for row in found if row.status == "fail"},
            texts=[report.text() for report in reports if not report.ok],
        )

    def line(self) -> str:
        if self.absent:
            return f"{self.name}: not there: {self.absent}"
        told = f"{len(self.passed)} pass, {len(self.unasked)} skipped"
        told += f", FAIL: {', '.join(self.failed)}" if self.failed else ""
        return f"{self.name} ({self.bits} bits, {self.points} points): {told}"

    @property
    def unexpected(self) -> bool:
        """Whether it fails and no verdict says why."""
        return bool(self.failed) and self.name not in VERDICTS


def write(path: Path, answers: Answers) -> None:
    with path.open("a") as file:
        file.write(json.dumps(asdict(answers)) + "\n")


def read(path: Path) -> list[Answers]:
    """The answers that were kept; of two for the same function and precision, the later."""
    kept = [Answers(**json.loads(line)) for line in path.read_text().splitlines()]
    return list({(answers.name, answers.bits): answers for answers in kept}.values())


def tables(answers: Iterable[Answers]) -> Iterator[str]:
    """Two tables in Markdown: what passes, by library; and what fails, with the verdict."""
    answers = [a for a in answers if not a.absent]
    yield "| library | functions | every question that could be asked passes |"
    yield "|---|---|---|"
    for library in dict.fromkeys(_library(a.name) for a in answers):
        names = dict.fromkeys(a.name for a in answers if _library(a.name) == library)
        bad = {a.name for a in answers if a.failed}
        good = ", ".join(f"`{name.partition(' ')[2]}`" for name in names if name not in bad)
        yield f"| {library} | {len(names)} | {good} |"
    yield ""
    yield "| function | bits | fails | verdict |"
    yield "|---|---|---|---|"
    for name in dict.fromkeys(a.name for a in answers if a.failed):
        failed = [a for a in answers if a.name == name and a.failed]
        questions = ", ".join(dict.fromkeys(q for a in failed for q in a.failed))
        bits = ", ".join(str(a.bits) for a in failed)
        yield f"| `{name}` | {bits} | {questions} | {VERDICTS.get(name, '?')} |"


def _library(name: str) -> str:
    return name.partition(" ")[0]
