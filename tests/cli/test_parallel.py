"""`jaxprim check --jobs`."""

from __future__ import annotations

import json

from click.testing import CliRunner
from programs import WRONG

from jaxprim.cli import main


def test_several_processes_find_the_same(write):
    name = write("wrong.py", WRONG)
    arguments = ["check", name, "--json", "--only", "jvp-differences", "--only", "abstract-eval"]
    one, two = (CliRunner().invoke(main, [*arguments, "--jobs", jobs]) for jobs in ("1", "2"))
    records = [json.loads(found.stdout)["reports"][0]["findings"] for found in (one, two)]
    for finding in [*records[0], *records[1]]:
        finding.pop("seconds")
    assert records[0] == records[1]
    assert "printed line" in two.stderr  # what the file and its rules print in another process is hidden too
