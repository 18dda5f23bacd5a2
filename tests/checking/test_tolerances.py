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
