"""The line that a check in Python shows: after two seconds, on a terminal, and gone at the end."""

from __future__ import annotations

import io

import pytest
from reports import finding

from jaxprim.checking import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock on which each finding takes 1.5 seconds."""
    ticks = iter(range(100))
    monkeypatch.setattr(progress.time, "monotonic", lambda: 1.5 * next(ticks))


FOUND = [finding(question=name) for name in ("jit", "vmap", "pure", "primal")]


@pytest.mark.usefixtures("clock")
def test_a_terminal_sees_a_line_that_goes_away():
    file = Terminal()
    assert list(progress.watched(FOUND, 4, file)) == FOUND
    first, second = "checking op: 2 of 4, 3 s, vmap", "checking op: 3 of 4, 4 s, pure"
    assert file.getvalue() == f"\r{first}\r{second}\r{' ' * len(second)}\r"


@pytest.mark.usefixtures("clock")
def test_a_file_gets_nothing():
    file = io.StringIO()
    assert list(progress.watched(FOUND, 4, file)) == FOUND
    assert file.getvalue() == ""


def test_a_short_check_shows_nothing():
    file = Terminal()
    assert list(progress.watched(FOUND, 4, file)) == FOUND
    assert file.getvalue() == ""
