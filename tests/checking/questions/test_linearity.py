from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from jaxprim.checking.case import Case
from jaxprim.checking.questions.linearity import jvp_linear, vjp_linear
from jaxprim.checking.subject import Subject

X = jnp.array([0.5, 1.0, -2.0])


def case(fn, *operands):
    return Case.of(Subject.of(fn), operands, {}, 0)


def with_jvp(push):
    fn = jax.custom_jvp(lambda x: 2 * x)
    fn.defjvp(lambda primals, tangents: (fn(*primals), push(tangents[0])))
    return fn


def with_vjp(pull):
    fn = jax.custom_vjp(lambda x: 2 * x)
    fn.defvjp(lambda x: (2 * x, None), lambda _, ct: (pull(ct),))
    return fn


BROKEN = {
    "affine": (lambda t: 2 * t + 1e-4, "zeros gives zeros"),
    "absolute": (lambda t: 2 * jnp.abs(t), "-4 times"),
    "clipped": (lambda t: jnp.clip(2 * t, -5, 5), "-4 times"),
    "a threshold": (lambda t: jnp.where(jnp.abs(t) < 0.1, 0, 2 * t), "0.000976562 times"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize(("question", "build"), [(jvp_linear, with_jvp), (vjp_linear, with_vjp)])
def test_what_is_not_linear_is_caught(question, build, name):
    broken, by = BROKEN[name]
    bad = [item for item in question(case(build(broken), X)) if not item.ok]
    assert any(by in item.against for item in bad)


@pytest.mark.parametrize(("question", "build"), [(jvp_linear, with_jvp), (vjp_linear, with_vjp)])
def test_what_is_linear_passes(question, build):
    found = list(question(case(build(lambda t: 2 * t[::-1]), X)))
    assert len(found) == 8  # four laws in two precisions
    assert all(item.ok for item in found)
