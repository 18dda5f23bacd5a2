"""The pytest plugin: ``pytest --jaxprim`` makes a test of each question about each primitive with examples.

It is outside the package because pytest loads it in every run, and importing jaxprim would import JAX.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from _pytest._code.code import TerminalRepr, TracebackStyle

    from jaxprim import Primitive, Report
    from jaxprim.checking.questions import Speed
    from jaxprim.checking.reports.expected import Records
    from jaxprim.testing import Asked

SPEEDS = ("fast", "normal", "thorough")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the plugin."""
    group = parser.getgroup("jaxprim", "checking jaxprim primitives")
    group.addoption(
        "--jaxprim", action="store_true", help="check the primitives with examples in all Python files given"
    )
    group.addoption("--jaxprim-seed", type=int, default=0, metavar="N", help="random seed (0)")
    group.addoption("--jaxprim-speed", choices=SPEEDS, default="normal", help="how many questions to ask (normal)")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Files that mention jaxprim; no other is imported."""
    if not parent.config.getoption("--jaxprim") or file_path.suffix != ".py":
        return None
    if "jaxprim" not in file_path.read_text(encoding="utf-8", errors="replace"):
        return None
    return PrimitivesOfFile.from_parent(parent, path=file_path)


class PrimitivesOfFile(pytest.File):
    """A file and its primitives. Imported primitives are checked in the file that defines them."""

    def collect(self) -> Iterator[pytest.Collector]:
        """The primitives that have examples."""
        from jaxprim.checking import targets
        from jaxprim.checking.subject import Subject

        try:
            found = targets.primitives(targets.load(str(self.path)))
        except targets.ImportFailed as error:
            raise self.CollectError(str(error)) from None
        for primitive in found:
            if Subject.of(primitive).has_examples and not targets.is_imported(primitive, self.path):
                yield QuestionsOfPrimitive.of(self, primitive)


class QuestionsOfPrimitive(pytest.Collector):
    """A primitive and the questions about it."""

    primitive: Primitive

    @classmethod
    def of(cls, parent: pytest.Collector, primitive: Primitive) -> QuestionsOfPrimitive:
        """The node of a primitive."""
        node: QuestionsOfPrimitive = cls.from_parent(parent, name=primitive.name)
        node.primitive = primitive
        return node

    def collect(self) -> Iterator[pytest.Item]:
        """One test per question."""
        from jaxprim import testing

        seed, speed = _choices(self.config)
        where = f"{os.path.relpath(self.path)}:{self.name}"
        for asked in testing.questions_to(self.primitive, seed=seed, speed=speed, where=where):
            yield QuestionItem.of(self, asked, testing.expected_failures(self.config.rootpath))


class QuestionItem(pytest.Item):
    """One question about one primitive, at all its examples."""

    asked: Asked

    @classmethod
    def of(cls, parent: pytest.Collector, asked: Asked, records: Records) -> QuestionItem:
        """The test of a question, with an xfail mark if a failure is recorded."""
        item: QuestionItem = cls.from_parent(parent, name=asked.name)
        item.asked = asked
        for mark in asked.marks(records):
            item.add_marker(mark)
        return item

    def runtest(self) -> None:
        """Ask the question."""
        self.asked()

    def repr_failure(
        self, excinfo: pytest.ExceptionInfo[BaseException], style: TracebackStyle | None = None
    ) -> str | TerminalRepr:
        """A failed check shows its evidence, without a traceback through the checker."""
        from jaxprim import CheckFailed

        return str(excinfo.value) if isinstance(excinfo.value, CheckFailed) else super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """The location and the name of the test for pytest."""
        return self.path, None, f"{self.asked.subject}: {self.asked.name}"


def _choices(config: pytest.Config) -> tuple[int, Speed]:
    """The seed and the speed that the command line asks for."""
    speed: Speed = config.getoption("--jaxprim-speed") or "normal"
    return int(config.getoption("--jaxprim-seed") or 0), speed


@pytest.fixture
def jaxprim_check(pytestconfig: pytest.Config) -> Callable[..., Report]:
    """``jaxprim_check(f, *operands, **params)`` checks a primitive or a function, and fails with the evidence.

    It takes the arguments of ``jaxprim.check``. The seed and the speed come from the command line.
    """
    from jaxprim import check

    def run(target: Callable[..., Any], /, *operands: Any, **options: Any) -> Report:
        seed, speed = _choices(pytestconfig)
        choices: dict[str, Any] = {"seed": seed, "speed": speed, **options}
        return check(target, *operands, **choices)

    return run
