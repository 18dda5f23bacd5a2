from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim.checking.case import Case
from jaxprim.checking.questions.vjp_differences import vjp_differences
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
