"""The comparison with JAX's tests of its decorators: a small file of tests in the place of JAX's."""

from __future__ import annotations

import textwrap
from pathlib import Path

from benchmarks.custom_api import run
from benchmarks.custom_api.reasons import REASONS


def test_each_difference_has_its_reason() -> None:
    plain = {"A.same": "passed", "A.worse": "passed", "A.new": "passed", "A.skipped": "skipped", "A.better": "passed"}
    ours = {"A.same": "passed", "A.worse": "failed", "A.new": "failed", "A.skipped": "skipped", "A.better": "passed"}
    found = list(run.differences(plain, ours, {"A.worse": "a reason", "A.better": "another"}))
    assert found == [("A.better", run.OUTDATED), ("A.new", run.UNEXPLAINED), ("A.worse", "a reason")]
    assert "2 of 4 pass" in run.summary(plain, ours, found)


def test_the_decorators_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "custom_api_test.py"
    path.write_text(
        textwrap.dedent(
            """
            import unittest
            import jax

            class CustomVJPTest(unittest.TestCase):
              def test_forward_mode(self):
                f = jax.custom_vjp(lambda x: x)
                f.defvjp(lambda x: (x, None), lambda _, ct: (ct,))
                jax.jvp(f, (1.0,), (1.0,))

            class CustomVJP3Test(unittest.TestCase):
              def test_another_class(self): pass
            """
        )
    )
    assert run.run_apart(path, "jaxprim", "") == {"CustomVJPTest.test_forward_mode": "passed"}


def test_the_page_says_how_many() -> None:
    page = (Path(run.__file__).parents[2] / "docs" / "porting.md").read_text()
    rows = page.partition("| how many |")[2].partition("\n\n")[0].splitlines()[2:]
    counts = [int(row.split("|")[1]) for row in rows]
    assert sum(counts) == len(REASONS) == 154 - 117
