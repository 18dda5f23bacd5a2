"""`jaxprim questions`."""

from __future__ import annotations

from programs import run


def test_questions_lists_every_question():
    found = run("questions")
    assert found.exit_code == 0
    assert "dot-product" in found.output
    assert "Are the two rules each other's transpose" in " ".join(found.output.split())
