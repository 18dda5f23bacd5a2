from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from jaxprim.checking import contexts

X = jnp.array([0.5, 1.0, -2.0])

PLACES = {
    "scan": contexts.scan,
    "cond": lambda function: contexts.cond(function, contexts.zeros([X])),
    "while_loop": lambda function: contexts.while_loop(function, [X]),
    "checkpoint": contexts.checkpoint,
    "checkpoint with a policy": lambda function: contexts.checkpoint(function, "dots_saveable"),
    "vmap": contexts.vmap,
    "vmap with axes": lambda function: contexts.vmap(function, (0,)),
}


@pytest.mark.parametrize("put", PLACES.values(), ids=PLACES)
def test_a_place_runs_the_function(put):
    ran: list[int] = []

    def function(x):
        ran.append(1)
        return [x * 2]

    (found,) = jax.jit(put(function))(X)
    assert ran
    assert jnp.array_equal(found, 2 * X)


@pytest.mark.parametrize("repeat", [contexts.repeat_scan, contexts.repeat_while, contexts.repeat_fori])
def test_a_step_is_repeated(repeat):
    (found,) = jax.jit(lambda x: repeat(lambda state: (state[0] * 2,), (x,), 3))(X)
    assert jnp.array_equal(found, 8 * X)


def test_the_other_branch():
    put = contexts.cond(lambda x: [x], contexts.zeros([X]), predicate=lambda x: jnp.sum(x) > 0)
    assert jnp.array_equal(jax.jit(put)(X)[0], jnp.zeros(3))
    assert jnp.array_equal(jax.jit(put)(-X)[0], -X)
