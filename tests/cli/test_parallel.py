"""`jaxprim check --jobs`."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner
from programs import WRONG

from jaxprim.cli import main


def rounded(found: Any) -> Any:
    """Numbers to seven digits: the processes of --jobs compile with other options than these tests."""
    match found:
        case float():
            return f"{found:.6e}"
        case dict():
            return {key: rounded(value) for key, value in found.items() if key != "seconds"}
        case list():
            return [rounded(value) for value in found]
        case _:
            return found


def test_several_processes_find_the_same(write):
    name = write("wrong.py", WRONG)
    arguments = ["check", name, "--json", "--only", "jvp-differences", "--only", "abstract-eval"]
    one, two = (CliRunner().invoke(main, [*arguments, "--jobs", jobs]) for jobs in ("1", "2"))
    records = [json.loads(found.stdout)["reports"][0]["findings"] for found in (one, two)]
    assert rounded(records[0]) == rounded(records[1])
    assert "printed line" in two.stderr  # what the file and its rules print in another process is hidden too
