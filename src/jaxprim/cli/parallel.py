"""Run a check in several processes. Each imports the target; findings come in the order of asking."""

from __future__ import annotations

import io
import multiprocessing
import signal
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import NamedTuple

from jaxprim.checking import run, targets
from jaxprim.checking.case import Case
from jaxprim.checking.questions import Question, find_question
from jaxprim.checking.reports.report import Finding
from jaxprim.checking.subject import Subject

# In a worker: the cases of each primitive, with the values computed for them.
_cases: dict[tuple[str, int, int], list[Case]] = {}


class _Task(NamedTuple):
    target: str
    position: int  # of the primitive in the target, because two may have the same name
    example: int
    seed: int
    accuracy: float | None
    question: str
    first: bool


class Workers:
    """A pool of processes that answer questions about the primitives of a target."""

    def __init__(self, pool: ProcessPoolExecutor, target: str) -> None:
        self.pool, self.target = pool, target

    def ask(
        self, position: int, examples: int, seed: int, accuracy: float | None, questions: Sequence[Question]
    ) -> Iterator[tuple[Finding, str]]:
        """The findings about a primitive at its examples, each with the output printed meanwhile."""
        tasks = [
            _Task(self.target, position, example, seed, accuracy, question.name, number == 0)
            for number, question in enumerate(questions)
            for example in range(examples)
        ]
        return self.pool.map(_answer, tasks)


@contextmanager
def workers(target: str, jobs: int) -> Generator[Workers]:
    """A pool of spawned processes: a fork of a process that runs JAX may hang. Ctrl-C ends them at once."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_leave_interrupts) as pool:
        try:
            yield Workers(pool, target)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _leave_interrupts() -> None:
    """A terminal sends Ctrl-C to every process of the group. The first process takes it, and ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _answer(task: _Task) -> tuple[Finding, str]:
    output = io.StringIO()
    with redirect_stdout(output), redirect_stderr(output):
        case = _cases_of(task)[task.example]
        found = run.answer(find_question(task.question), case, first=task.first)
    return found, output.getvalue()


def _cases_of(task: _Task) -> list[Case]:
    key = (task.target, task.position, task.seed)
    if key not in _cases:
        subject = Subject.of(targets.find(task.target)[task.position])
        _cases[key] = run.cases(subject, subject.examples(), task.seed, task.accuracy)
    return _cases[key]
