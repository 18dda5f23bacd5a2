"""`jaxprim fuzz`: what it prints, and its exit codes."""

from __future__ import annotations

import shlex

import pytest
from programs import EXAMPLES, RIGHT, WRONG, run

REFERENCE = "\ndef plain(x, factor):\n    return x * factor\n"


def test_fuzz_finds_a_wrong_rule_and_says_how_to_see_it_again(write):
    found = run("fuzz", write("wrong.py", WRONG), "--examples", "15", "--depth", "1")
    assert found.exit_code == 1, found.output
    assert "fail: scale in the nest: " in found.output
    again = found.output.partition("again:     jaxprim ")[2].splitlines()[0]
    assert run(*shlex.split(again)).exit_code == 1


def test_fuzz_of_a_right_rule(write):
    name = write("right.py", RIGHT + EXAMPLES + REFERENCE)
    found = run("fuzz", name, "--nest", "grad vmap:3", "--reference", "plain")
    assert found.exit_code == 0, found.output
    assert "scale: 1 nest agrees, 0 cannot be run (seed 0)" in found.output


@pytest.mark.parametrize(
    ("more", "arguments", "code", "message"),
    [
        ("", [], 3, "no example to check it on"),
        (EXAMPLES, ["--nest", "grad while_loop"], 3, "Reverse-mode differentiation does not work"),
        (EXAMPLES, ["--reference", "plane"], 2, "no function 'plane' in it"),
        (EXAMPLES, ["--nest", "gard"], 3, "'gard' is not a layer"),
    ],
)
def test_what_cannot_be_fuzzed(write, more: str, arguments: list[str], code: int, message: str):
    found = run("fuzz", write("right.py", RIGHT + more), *arguments)
    assert found.exit_code == code, found.output
    assert message in found.output
