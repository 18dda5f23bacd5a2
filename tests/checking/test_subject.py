from __future__ import annotations

import ast
import functools
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim import BadCall, Primitive
from jaxprim.checking import subject
from jaxprim.checking.subject import NoExamples, Subject
from jaxprim.kernels.signature import parse

X = jnp.ones(3)


def scale(x, factor=2.0, *more):
    return x * factor


def primitive():
    made = Primitive("scale")
    made.def_impl(lambda x, factor, *, power=1: x * factor**power)
    return made


def test_a_function_is_named_and_so_are_its_operands():
    subject = Subject.of(scale)
    assert subject.name == "scale"
    assert subject.operand_names((X, 1.0, 2.0), {}) == ("x", "factor", "more[0]")
    assert Subject.of(functools.partial(scale, factor=3.0)).name == "scale"
    assert Subject.of(np.sin).operand_names((X,), {}) in (("x",), ("operand0",), ("args[0]",))


def test_a_primitive_splits_its_call():
    operands, params = Subject.of(primitive()).split((X,), {"factor": 2.0})
    assert operands == (X, 2.0)
    assert params == {"power": 1}
    with pytest.raises(BadCall):
        Subject.of(primitive()).split((X,), {})


def test_rules():
    made = primitive()
    made.def_vjp(surrogate="why")(lambda primals: (made(*primals), lambda y_bar: (y_bar, None)))
    subject = Subject.of(made)
    assert subject.is_given("vjp")
    assert not subject.is_given("jvp")
    assert subject.surrogate == "why"
    assert subject.departs("vjp")
    assert subject.departs("jvp")  # it is derived from the surrogate
    assert Subject.of(scale).rule("vjp") is None
    assert not Subject.of(scale).departs("vjp")


def test_a_missing_rule_says_why():
    host = Primitive("host")
    host.def_host(lambda x: x)
    assert Subject.of(host).missing("jvp").startswith("no JVP rule: ")
    assert Subject.of(primitive()).missing("jvp") is None
    assert Subject.of(scale).missing("jvp") is None


def test_without_examples_it_says_what_to_write():
    with pytest.raises(NoExamples) as error:
        Subject.of(primitive()).examples()
    assert str(error.value) == (
        "scale: no example to check it on.\n"
        "  got:      no operands, and no def_examples\n"
        "  expected: at least one example of its operands\n"
        "  write:    @scale.def_examples\n"
        "            def _():\n"
        "                return [(x, ...)]  # each entry: the operands, or Example(operands, params)"
    )
    with pytest.raises(NoExamples, match=r"jaxprim\.check\(scale, x, \.\.\.\)"):
        Subject.of(scale).examples()


def test_the_sizes_of_a_signature_are_all_different():
    types = subject._types_of(parse("f(x: f32[n, d], w: T[d], k: i32[3]) -> f32[n]"))
    assert [(t.shape, str(t.dtype)) for t in types] == [((2, 3), "float32"), ((3,), "float32"), ((3,), "int32")]
    assert subject._types_of(parse("f(x: f32[n]; eps: f32) -> f32[n]")) is None


def test_a_primitive_without_kernels_declares_nothing():
    made = Primitive("made")
    made.def_impl(lambda x: x)
    assert subject._declared_types(made) is None


# ------------------------------------------------------------------------------------------------------------- the seam
SOURCE = Path(__file__).parents[2] / "src" / "jaxprim"
FILES = [path for folder in ("checking", "fuzzing") for path in sorted((SOURCE / folder).rglob("*.py"))]
# What only subject.py may import.
BEHIND = ("_primitive", "_rules", "_use", "derive", "kernels")


def shown(path):
    return str(path.relative_to(SOURCE))


def reaches_behind(source):
    """The lines that import what is behind the seam, or take the primitive out of a subject."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        parts = {name.split(".")[1] for name in names if name.startswith("jaxprim.")}
        if parts & set(BEHIND) or (isinstance(node, ast.Attribute) and node.attr in ("primitive", "_rules")):
            found.append(node.lineno)
    return found


@pytest.mark.parametrize("path", [path for path in FILES if path.name != "subject.py"], ids=shown)
def test_only_the_subject_knows_primitives_rules_and_kernels(path):
    assert reaches_behind(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "from jaxprim._rules import rules_of",
        "from jaxprim import _primitive",
        "import jaxprim.kernels.kernel",
        "def f():\n    from jaxprim.derive import report",
        "case.subject.primitive.examples()",
    ],
)
def test_a_file_that_reaches_behind_the_subject_is_caught(source):
    assert reaches_behind(source)


def test_the_subject_is_what_it_is_thought_to_be():
    assert reaches_behind((SOURCE / "checking" / "subject.py").read_text())
