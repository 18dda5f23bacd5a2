"""What a public docstring must have. That its examples run is held by tests/test_docs.py, for all modules."""

from __future__ import annotations

import inspect

import pytest

import jaxprim

METHODS = {name: method for name, method in vars(jaxprim.Primitive).items() if inspect.isfunction(method)}
PUBLIC = {
    **{f"Primitive.{name}": method for name, method in METHODS.items() if not name.startswith("_")},
    "Primitive": jaxprim.Primitive,
    "Primitive.__call__": jaxprim.Primitive.__call__,
    "primitive": jaxprim.primitive,
    "record_rules": jaxprim.record_rules,
    "check": jaxprim.check,
    "Zero": jaxprim.Zero,
}
SHOWN_BY_OTHERS = {"Primitive.examples"}  # a look-up, with nothing to show


@pytest.mark.parametrize("name", sorted(set(PUBLIC) - SHOWN_BY_OTHERS))
def test_a_docstring_has_an_example(name):
    assert ">>> " in inspect.getdoc(PUBLIC[name])


@pytest.mark.parametrize("name", sorted(name for name in PUBLIC if name.startswith("Primitive.def_")))
def test_a_rules_docstring_says_what_it_takes(name):
    text = inspect.getdoc(PUBLIC[name])
    assert "(" in text.partition("Example:")[0]  # the form of the function that is given
    assert "Raises:" in text or name == "Primitive.def_examples"


def test_examples_need_nothing_but_their_own_lines():
    for name, thing in PUBLIC.items():
        example = inspect.getdoc(thing).partition("Example:")[2]
        for word in ("jnp.", "mlir."):
            assert word not in example or "import" in example, name
