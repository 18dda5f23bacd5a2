from __future__ import annotations

import numpy as np
import pytest

from jaxprim.checking.structures import structure_of

RNG = np.random.default_rng(0)
A = RNG.normal(size=(3, 3))
POSITIVE = A @ A.T + np.eye(3)
Q = np.linalg.qr(A)[0]


def drawn(value, *, hides=True):
    found = structure_of(value, hides=hides)
    if found is None:
        return None
    signs = RNG.choice([-1.0, 1.0], value.shape)
    return found.draw(value, 10 ** RNG.uniform(-0.5, 0.5, value.shape), signs)


@pytest.mark.parametrize("hides", [True, False])
def test_probabilities_are_always_kept(hides):
    one, rows, labels = np.array([0.2, 0.3, 0.5]), np.array([[0.25, 0.75], [0.5, 0.5]]), np.eye(3)[[0, 2]]
    for value in (one, rows, labels):
        new = drawn(value, hides=hides)
        assert np.all(new > 0)
        np.testing.assert_allclose(np.sum(new, -1), 1.0)
        assert not np.allclose(new, value)
    np.testing.assert_allclose(np.sum(drawn(np.full((2, 2), 0.25), hides=hides)), 1.0)


def test_definite_matrices_stay_definite():
    hermitian = POSITIVE + 1j * (A - A.T) / 10
    for value in (POSITIVE, hermitian):
        new = drawn(value)
        np.testing.assert_allclose(new, np.conj(new.T))
        assert np.all(np.linalg.eigvalsh(new) > 0)
        assert not np.allclose(new, value)


def test_grids_increase_and_keep_equal_steps():
    even, uneven = np.linspace(0.0, 1.0, 5), np.array([0.0, 0.1, 0.5, 2.0])
    for _ in range(3):
        assert np.ptp(np.diff(drawn(even))) < 1e-9
        assert np.all(np.diff(drawn(uneven)) > 0)
        assert np.all(np.diff(drawn(-uneven)) < 0)


def test_what_cannot_be_drawn_stays():
    for value in (Q, np.array([1.0, 0.0, 0.0, 1.0])[None] * np.ones((2, 1))):
        assert np.array_equal(drawn(value), value)


def test_plain_arithmetic_gets_no_structure_that_numbers_may_have_by_chance():
    for value in (POSITIVE, np.linspace(0.0, 1.0, 5), Q, np.array([1.0, 0.0, 1.0])):
        assert structure_of(value, hides=False) is None
    for value in (A, np.array([0.5, -1.0, 2.0]), np.array(2.0), np.ones(3), np.array([0.5, np.inf])):
        assert structure_of(value, hides=True) is None
