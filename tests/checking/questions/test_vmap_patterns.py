from __future__ import annotations

import jax.numpy as jnp
import pytest

from jaxprim.checking.answers import NotAsked, Note
from jaxprim.checking.case import Case
from jaxprim.checking.questions.vmap_nested import vmap_nested
from jaxprim.checking.questions.vmap_patterns import vmap_patterns
from jaxprim.checking.questions.vmap_sizes import vmap_sizes
from jaxprim.checking.subject import Subject

X = jnp.arange(1.0, 7.0).reshape(3, 2)


def case(fn, *operands):
    return Case.of(Subject.of(fn), operands, {}, 0)


def test_every_choice_of_axes_or_as_many_as_one_program_can_hold():
    found = list(vmap_patterns(case(lambda x, y: x * y, X, X)))
    assert len(found) == 4**2 - 1
    assert "in_axes x=1, y=-1" in {item.against.partition("loop, ")[2] for item in found}
    for count, said in ((3, "26 of 63 choices of axes are tried"), (4, "6 of 255 choices of axes are tried")):
        many = list(vmap_patterns(case(lambda *xs: sum(xs), *[X] * count)))
        assert [note.text for note in many if isinstance(note, Note)] == [said]


@pytest.mark.parametrize("question", [vmap_patterns, vmap_sizes, vmap_nested])
def test_python_numbers_are_not_batched(question):
    with pytest.raises(NotAsked):
        list(question(case(lambda x: x, 1.0)))
