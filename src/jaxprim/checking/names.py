"""The names of the questions without the questions: a shell that completes one does not wait for the import of JAX."""

from __future__ import annotations

import re
from pathlib import Path

_QUESTION = re.compile(r"^@question\(.*?^def (\w+)", re.MULTILINE | re.DOTALL)


def names() -> list[str]:
    """The names of all questions in alphabetical order, read from the source."""
    files = (Path(__file__).parent / "questions").glob("*.py")
    found = (_QUESTION.findall(path.read_text(encoding="utf-8")) for path in files)
    return sorted(name.replace("_", "-") for each in found for name in each)
