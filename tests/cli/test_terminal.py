from __future__ import annotations

import dataclasses
import io

from reports import BAD, finding
from rich.console import Console

from jaxprim.checking.reports.report import Report
from jaxprim.cli import terminal


def printed(renderables, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    for each in renderables:
        console.print(each, soft_wrap=True)
    return console.file.getvalue().splitlines()


WHY = "8 x the error estimate of the differences and 1e-06 of the value, and 32 roundings of 1.2e-07"
LONG = Report("op", 7, (finding("fail", [dataclasses.replace(BAD, why=WHY)], "vjp-differences"),), "a_folder/" * 9)


def test_a_long_fact_is_wrapped_below_its_start():
    lines = printed(terminal.breadcrumbs(LONG, 60))
    first = next(i for i, line in enumerate(lines) if "off by:" in line)
    assert lines[first : first + 3] == [
        "    off by:    2, allowed 1e-06: 8 x the error estimate of",
        "               the differences and 1e-06 of the value, and",
        "               32 roundings of 1.2e-07",
    ]
    (again,) = [line for line in lines if "again:" in line]
    assert again.endswith("--only vjp-differences --seed 7")


def test_a_pipe_gets_whole_lines():
    assert any(line.endswith(WHY) for line in printed(terminal.breadcrumbs(LONG)))


def test_brackets_in_a_name_are_no_markup():
    assert printed([terminal.rules("op[red]", [])])[0].strip() == "op[red]"
