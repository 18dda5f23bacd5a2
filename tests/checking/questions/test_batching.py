from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim.checking.case import Case
from jaxprim.checking.questions.batching import Batch, patterns, vmap, vmap_jvp, vmap_vjp
from jaxprim.checking.setting import NotAsked
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
    assert Batch(case(jnp.sin, X), (0,)).size == 4


def test_members_are_near_the_example_and_differ():
    it = case(lambda x, i: x[i], X[:, 0] * 2, jnp.array([0, 1]))
    batch = Batch(it, (0, None))
    values = np.array([np.asarray(row[0]) for row in batch.members])
    assert np.all(np.abs(values - 2) <= 0.0201)
    assert len(np.unique(values[:, 0])) == batch.size
    assert all(row[1] is batch.members[0][1] for row in batch.members)
    assert batch.label == "in_axes x=0, i=None"


@pytest.mark.parametrize("question", [vmap, vmap_jvp, vmap_vjp])
def test_a_right_function_with_keys_integers_and_several_results(question):
    def fn(key, x, i):
        return jax.random.split(key), x[i] * 2, i + 1

    found = list(question(case(fn, jax.random.key(0), X[:, 0], jnp.array([0, 2]))))
    assert found
    assert all(item.ok for item in found), next(item for item in found if not item.ok)
