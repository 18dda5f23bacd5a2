from __future__ import annotations

import numpy as np
import pytest

from jaxprim.checking import noise

DOUBLE, SINGLE = 2.0**-52, 2.0**-23


def along(fn, x, t, dtype=np.float64):
    """g(h) = fn(x + h t) in a dtype, as the checker evaluates an implementation."""
    x, t = np.asarray(x), np.asarray(t)

    def g(h):
        with np.errstate(all="ignore"):
            return [np.asarray(fn((x + h * t).astype(dtype))).astype(np.result_type(x, np.float64))]

    return g


@pytest.mark.parametrize(("size", "eps"), [(1e-10, DOUBLE), (1e-5, DOUBLE), (1e-4, SINGLE)])
def test_noise_is_measured(size, eps):
    rng = np.random.default_rng(0)
    found = noise.measure_noise(lambda h: [np.sin(1 + h * np.linspace(0, 1, 50)) + size * rng.normal(size=50)], eps)[0]
    assert 0.3 * size < np.median(found) < 3 * size


def test_a_smooth_function_has_no_more_noise_than_its_roundings():
    x = np.linspace(0.1, 2, 50)
    assert np.all(noise.measure_noise(along(np.exp, x, x), DOUBLE)[0] < 4 * DOUBLE * np.exp(x))


def test_a_step_function_hidden_behind_a_smooth_factor_is_noise():
    x = np.array([1e-2])
    cosm = lambda x: (np.float32(1) - np.cos(x)) / x**2
    assert noise.measure_noise(along(cosm, x, x, np.float32), SINGLE)[0] > 1e-5


def test_integers_have_no_noise():
    assert noise.measure_noise(lambda h: [np.arange(3)], DOUBLE)[0].tolist() == [0, 0, 0]
