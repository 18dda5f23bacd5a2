"""What all commands do with a target that is wrong, and with what it prints."""

from __future__ import annotations

import pytest
from programs import EXAMPLES, RIGHT, run


def test_what_the_file_prints_does_not_drown_the_report(write):
    name = write("right.py", RIGHT + EXAMPLES)
    found = run("check", name, "--only", "jvp-zeros")
    assert "prints" not in found.output
    assert "printed lines hidden; `jaxprim check --show-output` shows them" in found.output
    shown = run("check", write("again.py", RIGHT + EXAMPLES), "--only", "jvp-zeros", "--show-output").output
    assert "the file prints" in shown
    assert "the rule prints" in shown


@pytest.mark.parametrize("command", [("explain",), ("fuzz", "--nest", "jit")], ids=["explain", "fuzz"])
def test_the_option_that_shows_what_was_printed_is_that_of_the_command(write, command: tuple[str, ...]):
    name = write("right.py", RIGHT + EXAMPLES)
    hidden = run(*command, name).output
    assert f"1 printed line hidden; `jaxprim {command[0]} --show-output` shows them" in hidden
    assert "the file prints" in run(*command, write("again.py", RIGHT + EXAMPLES), "--show-output").output


@pytest.mark.parametrize("command", ["check", "explain"])
@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("missing.py", "missing.py: no such file."),
        ("no_such_module", "no_such_module: no such file or module."),
        ("empty.py", "empty.py: no primitive in it."),
        ("right.py:nothing", "right.py: no primitive 'nothing' in it."),
        ("right.py:function", "'function' is a function, not a Primitive."),
    ],
)
def test_a_wrong_target_is_a_usage_error(write, command: str, target: str, message: str):
    write("empty.py", "x = 1\n")
    write("right.py", RIGHT + "def function(x):\n    return x\n")
    found = run(command, target)
    assert found.exit_code == 2
    assert message in found.output


@pytest.mark.parametrize("command", ["check", "explain"])
def test_a_file_that_raises_exits_4_with_its_own_lines_alone(write, command: str):
    found = run(command, write("broken.py", "def f():\n    1 / 0\n\nf()\n"))
    assert found.exit_code == 4
    assert "broken.py could not be imported:" in found.output
    assert "ZeroDivisionError" in found.output
    assert "importlib" not in found.output
