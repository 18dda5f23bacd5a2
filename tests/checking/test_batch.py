from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim import Example, Primitive
from jaxprim.checking import run
from jaxprim.checking.answers import NotAsked
from jaxprim.checking.batch import Batch, patterns
from jaxprim.checking.case import Case
from jaxprim.checking.questions.vmap import vmap
from jaxprim.checking.subject import Subject

X = jnp.ones((3, 2))


def case(fn, *operands):
    return Case.of(Subject.of(fn), operands, {}, 0)


def test_patterns_batch_all_in_front_all_at_the_end_each_alone_and_mixed():
    found = patterns(case(lambda x, y: x * y, X, X))
    assert found == [(0, 0), (-1, -1), (0, None), (None, 0), (-1, 0)]


def test_python_numbers_are_never_batched():
    assert patterns(case(lambda x, f: x * f, X, 2.0)) == [(0, None), (-1, None)]
    with pytest.raises(NotAsked):
        list(vmap(case(jnp.sin, 2.0)))


def test_many_operands_are_batched_alone_three_at_most():
    found = patterns(case(lambda *xs: sum(xs), *[X] * 6))
    assert sum(1 for axes in found if sum(axis is not None for axis in axes) == 1) == 3


def test_a_batch_is_unlike_every_dimension():
    it = case(jnp.sin, X)
    assert Batch(it, it.native, (0,)).size == 4


def test_members_are_near_the_example_and_differ():
    it = case(lambda x, i: x[i], X[:, 0] * 2, jnp.array([0, 1]))
    batch = Batch(it, it.native, (0, None))
    values = np.array([np.asarray(row[0]) for row in batch.members])
    assert np.all(np.abs(values - 2) <= 0.0201)
    assert len(np.unique(values[:, 0])) == batch.size
    assert all(row[1] is batch.members[0][1] for row in batch.members)
    assert batch.label == "in_axes x=0, i=None"


OTHER_INDICES = [Example((jnp.array([1.0, 2.0, 4.0]), jnp.array(i))) for i in ([0, 1], [2, 0])]


def test_integers_of_another_example_are_taken_all_or_none():
    """The rows and columns of a sparse matrix belong together."""
    pairs = [Example((X, jnp.array([i]), jnp.array([i + 1]))) for i in range(2)]
    first, second = run.cases(Subject.of(lambda x, i, j: x[i, j - 1]), run.inputs(None, tuple(pairs), {}), 0)
    assert [row[1:] for row in Batch(first, first.native, (0, 0, None)).members] == [list(first.point.leaves[1:])] * 4
    rows = Batch(first, first.native, (None, 0, 0)).members
    assert [[int(i[0]) for i in row[1:]] for row in rows] == [[0, 1], [1, 2], [0, 1], [1, 2]]
    assert second.others == (first.point,)


@pytest.mark.parametrize(("other", "alike"), [((X, 3), True), ((X[:2], 2), False), ((X, 2.0), False)])
def test_examples_of_other_types_or_params_are_not_mixed(other, alike):
    power = Primitive("power")
    power.def_impl(lambda x, i, *, n=0: x**i + n)
    first, second, third = run.cases(Subject.of(power), [Example((X, 2)), Example(other), Example(other, {"n": 1})], 0)
    assert first.is_like(second) == alike
    assert not second.is_like(third)
