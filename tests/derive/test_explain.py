"""`explain()`: every rule is given (where), derived (from what), or missing (why, and what to write)."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

from jaxprim import Primitive

ORDER = ("abstract_eval", "jvp", "vjp", "transpose", "batching")


def statuses(op):
    return {info.rule: (info.status, info.origin if info.status == "derived" else "") for info in op.explain()}


def test_an_impl_alone():
    op = Primitive("op")
    op.def_impl(jnp.sin)
    found = statuses(op)
    assert found["impl"][0] == "given"
    assert {rule: found[rule] for rule in ORDER} == dict.fromkeys(ORDER, ("derived", "impl"))


def test_a_host_function_alone():
    op = Primitive("op")
    op.def_host(lambda x: x)
    found = statuses(op)
    assert [found[rule][0] for rule in ORDER] == ["missing", "missing", "missing", "missing", "derived"]


@pytest.mark.parametrize(
    ("define", "expected"),
    [
        (lambda op: op.def_jvp(lambda p, t: (op(*p), t[0])), {"jvp": ("given", ""), "vjp": ("derived", "jvp")}),
        (lambda op: op.def_vjp(lambda p: (op(*p), lambda b: b)), {"vjp": ("given", ""), "jvp": ("derived", "vjp")}),
        (
            lambda op: op.def_transpose(lambda b: b, linear="x"),
            {"transpose": ("given", ""), "jvp": ("derived", "transpose"), "vjp": ("derived", "transpose")},
        ),
        (lambda op: op.def_partials(lambda y, x: 1.0), {"jvp": ("given", ""), "vjp": ("given", "")}),
    ],
    ids=["jvp", "vjp", "transpose", "partials"],
)
def test_the_table_s_order_is_the_rule(define, expected):
    op = Primitive("op")
    op.def_impl(lambda x: x)
    define(op)
    assert {rule: statuses(op)[rule] for rule in expected} == expected


def test_a_choice_is_shown():
    op = Primitive("op")
    op.def_impl(lambda x: x)
    op.def_vjp(lambda p: (op(*p), lambda b: b))
    op.derive(jvp="impl")
    assert statuses(op)["jvp"] == ("derived", "impl")
    assert "chosen with derive(jvp='impl')" in str(op.explain())


def test_a_given_rule_names_its_file_and_line():
    op = Primitive("op")

    @op.def_impl
    def impl(x):
        return x

    (info,) = [info for info in op.explain() if info.rule == "impl"]
    file, _, line = info.origin.rpartition(":")
    assert file.endswith("test_explain.py")
    assert int(line) == impl.__code__.co_firstlineno
    assert info.origin in str(op.explain())


def test_a_missing_rule_says_why_and_what_to_write():
    op = Primitive("op")
    op.def_host(lambda x: x)
    for info in op.explain():
        if info.status == "missing":
            assert info.why
            assert info.write.startswith("@op.def_")
            assert info.write in str(op.explain())


def test_surrogates_operands_words_and_platforms_are_shown():
    op = Primitive("op", batching="sequential")
    op.def_impl(lambda x: x)
    op.def_kernel(lambda x: x, platform="cuda")
    op.def_jvp(x=lambda x_dot, y, x: x_dot)
    op.def_vjp(lambda p: (op(*p), lambda b: b), surrogate="clipped on purpose")
    shown = str(op.explain())
    for text in ("clipped on purpose", "per operand: x", "the word 'sequential'", "kernel[cuda]"):
        assert text in shown


def test_every_rule_stands_on_a_line_of_its_own():
    op = Primitive("op")
    op.def_impl(lambda x: x)
    first, *rest = str(op.explain()).splitlines()
    assert first == "op"
    assert [line.split()[0] for line in rest if line[2:3] != " "] == [info.rule for info in op.explain()]
