from __future__ import annotations

import numpy as np
import pytest

from jaxprim.checking import compare, tolerances
from jaxprim.checking.tolerances import Tolerance


def within(size):
    return Tolerance(np.asarray(size), "because")


def test_the_worst_element_is_the_one_that_is_worst_in_units_of_its_tolerance():
    found = compare.compare(np.array([1.0, 5.0, 3.0]), np.array([1.1, 6.0, 3.0]), within([0.01, 10.0, 1.0]))
    assert not found.ok
    assert (found.index, found.got, found.expected) == ((0,), 1.0, 1.1)
    assert found.ratio == pytest.approx(10)
    assert (found.judged, found.bad, found.why) == (3, 1, "because")


@pytest.mark.parametrize(
    ("got", "expected", "ok"),
    [
        (np.nan, np.nan, True),
        (np.inf, np.inf, True),
        (np.inf, -np.inf, False),
        (np.nan, 1.0, False),
        (1.0, np.nan, False),
        (1.0, np.inf, False),
        (np.inf, 1.0, False),
    ],
)
def test_what_is_not_finite_agrees_with_its_like_alone(got, expected, ok):
    assert compare.compare(np.array([got]), np.array([expected]), within(1e300)).ok is ok


def test_integers_and_booleans_are_exact():
    big = np.array([2**60 + 1])
    assert compare.compare(big, big, tolerances.exact((1,))).ok
    assert not compare.compare(big, big - 1, tolerances.exact((1,))).ok
    assert not compare.compare(np.array([True]), np.array([False]), tolerances.exact((1,))).ok


def test_only_judged_elements_count():
    found = compare.compare(np.array([1.0, 9.0]), np.array([1.0, 2.0]), within(0.1), np.array([True, False]))
    assert found.ok
    assert found.judged == 1
    assert compare.compare(np.ones(2), np.zeros(2), within(0.1), np.zeros(2, bool)).judged == 0
    assert compare.compare(np.ones((0, 2)), np.ones((0, 2)), within(0.1)).judged == 0


def test_scalars():
    found = compare.compare(np.asarray(2.0), np.asarray(1.0), within(0.1))
    assert (found.index, found.bad) == ((), 1)


def test_a_value_beyond_the_range_of_a_dtype_is_infinite_there():
    assert compare.overflow(np.array([1e5, -1e5, 1.0]), 65504.0).tolist() == [np.inf, -np.inf, 1.0]


def test_errors_of_independent_elements_add_in_square():
    assert compare.root_sum_square(np.array([3.0]), 4.0) == 5.0
