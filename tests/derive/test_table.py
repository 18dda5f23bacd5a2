"""The derivation table: its order is the rule, and only given rules are derived from."""

from __future__ import annotations

import pytest

from jaxprim import BadCall, Primitive, RuleMissing
from jaxprim.derive import TABLE
from jaxprim.derive.table import choose, missing


def given(*names):
    op = Primitive("op")
    for name in names:
        {
            "impl": lambda: op.def_impl(lambda x: x),
            "host": lambda: op.def_host(lambda x: x),
            "jvp": lambda: op.def_jvp(lambda p, t: (p[0], t[0])),
            "vjp": lambda: op.def_vjp(lambda p: (p[0], lambda bar: bar)),
            "transpose": lambda: op.def_transpose(lambda bar: bar, linear="x"),
        }[name]()
    return op


@pytest.mark.parametrize(
    ("names", "wanted", "source"),
    [
        (("impl",), "jvp", "impl"),
        (("impl", "vjp"), "jvp", "vjp"),
        (("impl", "vjp", "transpose"), "jvp", "transpose"),
        (("impl", "jvp"), "vjp", "jvp"),
        (("impl", "transpose"), "vjp", "transpose"),
        (("host",), "batching", "host"),
        (("host",), "lowering", "host"),
    ],
)
def test_the_first_row_that_applies(names, wanted, source):
    assert choose(given(*names)._rules, wanted).source == source


def test_a_given_rule_is_never_derived():
    assert choose(given("impl", "jvp")._rules, "jvp").status == "given"


def test_nothing_to_derive_from():
    op = given("host")
    assert choose(op._rules, "vjp").status == "missing"
    assert isinstance(missing(op._rules, "vjp"), RuleMissing)


def test_a_choice_must_be_a_row():
    op = given("impl")
    for row in TABLE:
        op.derive(**{row.missing: row.have})
    with pytest.raises(BadCall):
        op.derive(jvp="batching")
    with pytest.raises(BadCall):
        op.derive(nothing="impl")
