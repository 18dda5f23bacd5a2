from __future__ import annotations

import numpy as np
import pytest

from jaxprim.checking import compare, tolerances
from jaxprim.checking.tolerances import Tolerance

EPS, TINY = 2.0**-23, 1.2e-38


def within(size):
    return Tolerance(np.asarray(size), "because")


@pytest.mark.parametrize("size", [1, 1000, 1_000_000])
def test_a_tolerance_does_not_grow_with_the_array(size):
    values = np.ones(size)
    tolerance = tolerances.rounding(values, EPS, TINY)
    assert compare.compare(values * (1 + 16 * EPS), values, tolerance).ok
    off = values.copy()
    off[size // 2] += 64 * EPS
    assert not compare.compare(off, values, tolerance).ok


def test_tolerances_add_up_with_their_reasons():
    total = within(1.0) + Tolerance(np.asarray(2.0), "of another")
    assert (float(total.size), total.why) == (3.0, "because, and of another")


def test_an_estimate_is_rarely_too_small_by_more_than_the_safety_factor():
    one, two, three = np.random.default_rng(0).normal(size=(3, 200_000))
    estimate = np.maximum(np.abs(one - two), np.abs(one - three))
    assert np.mean(np.abs(one - two) < 1 / tolerances.SAFETY) == pytest.approx(0.07, abs=0.01)
    assert np.mean(estimate < 1 / tolerances.SAFETY) == pytest.approx(0.005, abs=0.002)


def test_the_floor_of_differences():
    assert tolerances.floor_of_differences(2.0**-52) == 1e-6
    assert tolerances.floor_of_differences(EPS) == pytest.approx(1e-4, rel=0.05)


def test_the_largest_noise_of_a_rule():
    assert tolerances.largest_noise_of_rule(2.0**-52, example_is_coarser=True) == EPS
    assert tolerances.largest_noise_of_rule(2.0**-52, example_is_coarser=False) == 2.0**-33
    assert tolerances.largest_noise_of_rule(1e-5, example_is_coarser=False) == pytest.approx(1e-2)


def test_half_precision_is_compared_more_strictly():
    values = np.ones(3)
    strict = tolerances.in_half_precision(values, 1.0, 0 * values, 2.0**-7, 0.0)
    assert np.all(strict.size < tolerances.rounding(values + 1, 2.0**-7, 0.0).size / 4)
