from __future__ import annotations

import jax.numpy as jnp

from jaxprim.checking import contexts
from jaxprim.checking.against_plain_call import compare_in
from jaxprim.checking.answers import Note
from jaxprim.checking.case import Case
from jaxprim.checking.subject import Subject

X = jnp.array([0.5, 1.0, -2.0])


def compare(places, rules=None):
    return list(compare_in(Case.of(Subject.of(jnp.sin), (X,), {}, 0), places, rules))


def test_value_and_both_derivatives_are_compared():
    found = compare({"scan": contexts.scan})
    assert [(item.rule, item.against, item.ok) for item in found] == [
        (rule, "scan, against a plain call", True) for rule in ("impl", "jvp", "vjp")
    ]


def test_a_context_that_changes_what_a_function_gives_is_bad():
    doubled = lambda function: lambda *xs: [2 * y for y in function(*xs)]
    assert [item.ok for item in compare({"doubled": doubled})] == [False] * 3


def test_a_context_that_jax_cannot_differentiate_is_a_note_and_the_others_are_compared():
    places = {"while_loop": lambda function: contexts.while_loop(function, [X]), "scan": contexts.scan}
    found = compare(places)
    (note,) = [item.text for item in found if isinstance(item, Note)]
    assert note.startswith("not asked in while_loop: JAX has no such rule for it: ")
    assert [item.rule for item in found if not isinstance(item, Note)] == ["impl", "impl", "jvp", "jvp", "vjp"]
    assert not any(isinstance(item, Note) for item in compare(places, {"while_loop": ("impl", "jvp")}))
