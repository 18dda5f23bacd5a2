from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim.checking.answers import NotAsked, Note
from jaxprim.checking.case import Case
from jaxprim.checking.questions.purity import deterministic, pure
from jaxprim.checking.reports.report import Evidence
from jaxprim.checking.subject import Subject

X = jnp.array([0.5, 1.0, -2.0])


def case(fn, *operands):
    return Case.of(Subject.of(fn), operands, {}, 0)


def host(function):
    return lambda x: jax.pure_callback(function, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="sequential")


def test_the_last_bit_is_told_and_no_failure():
    rng = np.random.default_rng(0)

    def sum_in_another_order(x):
        return np.where(rng.integers(0, 2, x.shape), x, np.nextafter(x, np.inf, dtype=x.dtype))

    found = list(deterministic(case(host(sum_in_another_order), jnp.ones(50))))
    assert all(item.ok for item in found if isinstance(item, Evidence))
    assert "differs in the last bits" in next(item.text for item in found if isinstance(item, Note))


def test_an_operation_does_not_excuse_itself_by_its_own_noise():
    rng = np.random.default_rng(0)
    noisy = host(lambda x: (x + 0.1 * rng.normal(size=x.shape)).astype(x.dtype))
    assert any(not item.ok for item in deterministic(case(noisy, X)) if isinstance(item, Evidence))


def test_every_order_is_compared():
    against = {item.against for item in pure(case(jnp.sin, X)) if isinstance(item, Evidence)}
    assert against == {
        "an operand after the call, against before it",
        "after a call with other operands",
        "after a call with the same operands",
        "other operands, again",
        "called twice in one jit, the first call",
        "called twice in one jit, the second call",
        "pulled back after another forward pass",
    }


def test_state_beside_a_loop_is_seen():
    # Elsewhere a function with a loop over a closure is compiled, and what Python keeps is then a constant.
    kept = []

    def remembers(x):
        kept.append(1)
        return jax.lax.fori_loop(0, 2, lambda _, y: y + 0.01 * len(kept), x)

    found = [item for item in pure(case(remembers, X)) if isinstance(item, Evidence)]
    assert [item.ok for item in found if item.against == "other operands, again"] == [False]


def test_numbers_alone_cannot_be_written():
    with pytest.raises(NotAsked):
        list(pure(case(lambda x: x * 2, 1.0)))
