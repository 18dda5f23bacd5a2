"""Finite differences and the bound of their error."""

from __future__ import annotations

import numpy as np
import pytest

from jaxprim.kernels import stencil
from jaxprim.kernels.stencil import InaccurateError


def along(fn, x, v, dtype=np.float64):
    return stencil.pushforward(lambda xs: [np.asarray(fn(xs[0]))], [np.asarray(x, dtype)], [np.asarray(v, dtype)])[0]


@pytest.mark.parametrize("x", [1e-8, 1e-3, 1.0, 30.0, 1e6])
@pytest.mark.parametrize(
    ("fn", "slope"),
    [(np.sin, np.cos), (lambda x: x**3, lambda x: 3 * x**2), (np.tanh, lambda x: np.cosh(min(x, 300.0)) ** -2)],
)
def test_smooth_functions_at_any_scale(fn, slope, x):
    np.testing.assert_allclose(along(fn, x, 1.0), slope(x), rtol=1e-7, atol=1e-7)


def test_single_precision():
    x = np.linspace(0.5, 2, 4, dtype=np.float32)
    np.testing.assert_allclose(along(np.sin, x, x, np.float32), x * np.cos(x), rtol=1e-4)


def test_the_scale_of_the_function_is_found():
    np.testing.assert_allclose(along(lambda x: np.sin(1e5 * x), 1.0, 1.0), 1e5 * np.cos(1e5), rtol=1e-5)


def test_the_derivative_is_linear_in_the_direction():
    x, v, w = np.random.default_rng(0).standard_normal((3, 4))
    both = along(np.tanh, x, 2 * v + 3 * w)
    np.testing.assert_allclose(both, 2 * along(np.tanh, x, v) + 3 * along(np.tanh, x, w), rtol=1e-10, atol=1e-11)


def test_no_direction_no_derivative():
    assert along(np.sin, [1.0, 2.0], [0.0, 0.0]).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("fn", "x"), [(lambda x: np.floor(1e7 * x) / 1e7, 1.3), (np.round, 1.5)], ids=["stairs", "a jump"]
)
def test_what_is_not_smooth_is_refused(fn, x):
    with pytest.raises(InaccurateError):
        along(fn, x, 1.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("fn", "slope", "at"),
    [
        (lambda x: np.floor(30 * x) / x.dtype.type(30), lambda x: 0 * x, np.linspace(0.31, 2.5, 40)),
        (lambda x: np.abs(x - 1), lambda x: np.sign(x - 1), 1 + np.geomspace(1e-8, 0.1, 40)),
        (lambda x: np.maximum(x - 1, 0), lambda x: x > 1, 1 - np.geomspace(1e-8, 0.1, 40)),
    ],
    ids=["stairs", "a kink", "a corner"],
)
def test_what_is_not_smooth_is_refused_or_right(fn, slope, at, dtype):
    """Each of these had looked smooth at -2, -1, 1 and 2 steps: a kink between equal values, or as many stairs to a step."""
    found = 0
    for x in at.astype(dtype):
        if slope(x) != slope(np.nextafter(x, np.inf)) or slope(x) != slope(np.nextafter(x, -np.inf)):
            continue  # on the kink itself
        try:
            dot = along(fn, x, 1.0, dtype)
        except InaccurateError:
            continue
        np.testing.assert_allclose(dot, slope(x), atol=float(np.finfo(dtype).eps) ** (1 / 3))
        found += 1
    assert found > 10


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_on_a_kink_there_is_no_derivative(dtype):
    with pytest.raises(InaccurateError):
        along(np.abs, 0.0, 1.0, dtype)


def test_how_often_the_function_runs():
    runs = []
    along(lambda x: runs.append(1) or np.sin(x), 1.0, 1.0)
    assert len(runs) == 7


def test_nan_is_passed_on():
    with np.errstate(invalid="ignore"):
        assert np.isnan(along(np.sqrt, -1.0, 1.0))


def test_pullback_is_the_transpose():
    rng = np.random.default_rng(0)
    matrix, x, ct = rng.standard_normal((3, 2)), rng.standard_normal(2), rng.standard_normal(3)
    (got,) = stencil.pullback(lambda xs: [matrix @ np.sin(xs[0])], [x], [0], [ct])
    np.testing.assert_allclose(got, (matrix * np.cos(x)).T @ ct, rtol=1e-10)
