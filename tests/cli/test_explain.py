"""`jaxprim explain`."""

from __future__ import annotations

from programs import EXAMPLES, RIGHT, run


def test_a_module_by_name(write):
    write("package/__init__.py", "")
    write("package/ops.py", RIGHT + EXAMPLES)
    found = run("explain", "package.ops:scale")
    assert found.exit_code == 0, found.output
    assert "batching       derived" in found.output


def test_explain_shows_given_derived_and_missing(write):
    text = 'from jaxprim import Primitive\nhost = Primitive("host")\n@host.def_host\ndef _(x):\n    return x\n'
    found = run("explain", write("host.py", text))
    assert found.exit_code == 0, found.output
    assert "host           given    host.py:3" in found.output
    assert "jvp            missing" in found.output
    assert "write: @host.def_jvp" in found.output
