from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim.checking.case import Case
from jaxprim.checking.questions.first_order import dot_product, halve, jvp_differences, vjp_differences
from jaxprim.checking.reports.report import Evidence
from jaxprim.checking.subject import Subject


def case(fn, *operands):
    return Case.of(Subject.of(fn), operands, {}, 0)


def custom(impl, slope):
    fn = jax.custom_vjp(impl)
    fn.defvjp(lambda *x: (impl(*x), x), slope)
    return fn


def evidence(question, it):
    return [item for item in question(it) if isinstance(item, Evidence)]


def test_halving_finds_the_element():
    tangents = {0: np.ones((3, 4)), 2: np.ones(5)}
    wrong = {(2, (3,)): 5.0, (0, (1, 1)): 1.0}

    def gap(some):
        return sum(size * float(some[leaf][index]) for (leaf, index), size in wrong.items() if leaf in some)

    assert halve(tangents, gap) == (2, (3,))


def test_a_wrong_vjp_is_told_by_operand_and_element():
    def slope(residuals, y_bar):
        x, f = residuals
        return y_bar * f, jnp.sum(y_bar * x).at[...].multiply(1.0), None

    fn = custom(lambda x, f, n: x * f, lambda r, ct: ((ct * r[1]).at[4].mul(3.0), jnp.sum(ct * r[0]), None))
    found = evidence(vjp_differences, case(fn, jnp.linspace(1.0, 2.0, 50), jnp.float32(2), 3))
    first = found[0]
    assert not first.ok
    assert (first.leaf, first.index) == ("cotangent of x", (4,))
    assert first.got / first.expected == pytest.approx(3, rel=1e-4)
    assert all(item.ok for item in found if "f alone" in item.against)


def test_the_truth_about_a_complex_element_has_both_parts():
    fn = custom(lambda z: z * z, lambda r, ct: (2 * ct * jnp.conj(r[0]),))
    z = jnp.array([1 + 2j, 0.5 - 1j], jnp.complex64)
    it = case(fn, z)
    first = evidence(vjp_differences, it)[0]
    truth = 2 * it.cotangents(0)[0] * np.asarray(z)
    assert first.expected == pytest.approx(truth[first.index], rel=1e-5)


def test_jvp_agrees_at_a_kink_within_the_slopes_and_not_beyond():
    def relu(slope_at_zero):
        fn = jax.custom_jvp(lambda x: jnp.maximum(x, 0))
        fn.defjvp(
            lambda primals, tangents: (
                fn(*primals),
                tangents[0] * jnp.where(primals[0] > 0, 1, jnp.where(primals[0] < 0, 0, slope_at_zero)),
            )
        )
        return fn

    x = jnp.array([-1.0, 0.0, 1.0])
    for slope in (0.0, 0.5, 1.0):
        assert all(item.ok for item in evidence(jvp_differences, case(relu(slope), x)))
    assert not all(item.ok for item in evidence(jvp_differences, case(relu(1.2), x)))


def test_dot_product_without_conjugation():
    z = jnp.array([1 + 2j, 0.5 - 1j], jnp.complex64)
    for fn in (jnp.exp, jnp.conj, lambda z: jnp.abs(z) ** 2, jnp.real):
        found = evidence(dot_product, case(fn, z))
        assert found
        assert all(item.ok for item in found)
