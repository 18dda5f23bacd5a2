from __future__ import annotations

import numpy as np
import pytest

from jaxprim.checking import differences

DOUBLE, SINGLE = 2.0**-52, 2.0**-23


def along(fn, x, t, dtype=np.float64):
    """g(h) = fn(x + h t) in a dtype, as the checker evaluates an implementation."""
    x, t = np.asarray(x), np.asarray(t)

    def g(h):
        with np.errstate(all="ignore"):
            return [np.asarray(fn((x + h * t).astype(dtype))).astype(np.result_type(x, np.float64))]

    return g


def derivative(fn, x, t, eps=DOUBLE, dtype=np.float64):
    return differences.derivative(along(fn, x, t, dtype), eps)[0]


@pytest.mark.parametrize(
    ("fn", "slope", "x"),
    [
        (np.sin, np.cos, [0.1, 1.0, -3.0]),
        (np.exp, np.exp, [1e-3, 2.0, -20.0]),
        (lambda x: 1 / x, lambda x: -1 / x**2, [1e-12, 1.0, 1e12]),
        (lambda x: np.sin(1e3 * x), lambda x: 1e3 * np.cos(1e3 * x), [1.0, 2.0]),
        (lambda x: x**5, lambda x: 5 * x**4, [1.0, -2.0]),
    ],
)
def test_double_precision_is_accurate_and_knows_how_accurate(fn, slope, x):
    t = 0.7 * np.asarray(x)
    found = derivative(fn, x, t)
    truth = slope(np.asarray(x)) * t
    assert np.all(found.judged)
    assert np.all(np.abs(found.value - truth) <= 4 * found.error + 1e-13 * np.abs(truth))
    assert np.all(found.error <= 1e-8 * np.abs(truth))


def test_single_precision_says_so_in_its_error():
    x = np.linspace(0.2, 2.0, 200)
    found = derivative(np.sin, x, x, SINGLE, np.float32)
    miss = np.abs(found.value - np.cos(x) * x)
    assert np.all(found.judged)
    assert np.all(miss <= 8 * found.error)
    assert np.median(found.error) < 1e-4


def test_a_float32_computation_behind_a_float64_interface_is_noticed():
    x = np.linspace(0.2, 2.0, 200)
    found = derivative(lambda x: np.sin(x.astype(np.float32)), x, x)
    assert np.all(np.abs(found.value - np.cos(x) * x) <= 8 * found.error)
    assert 1e-7 < np.median(found.error) < 1e-4


def test_the_derivative_along_a_complex_direction_is_real_linear_alone():
    z, t = np.array([1 + 2j, -0.5j]), np.array([0.3 - 1j, 2 + 1j])
    assert np.allclose(derivative(np.conj, z, t, dtype=complex).value, np.conj(t), rtol=1e-9)
    assert np.allclose(derivative(np.exp, z, t, dtype=complex).value, np.exp(z) * t, rtol=1e-9)


def test_a_kink_at_the_point_is_recognised_with_both_slopes():
    found = derivative(lambda x: np.maximum(x, 0) * np.exp(x), [0.0, 1.0, -1.0], [2.0, 1.0, 1.0])
    assert found.judged.tolist() == [True, True, True]
    assert found.slack.nonzero()[0].tolist() == [0]
    assert found.value[0] - found.slack[0] == pytest.approx(0, abs=1e-3)
    assert found.value[0] + found.slack[0] == pytest.approx(2, abs=1e-3)
    assert found.kinks == 1


def test_a_jump_at_the_point_and_a_point_outside_the_domain_are_not_judged():
    found = derivative(np.floor, [1.0, 1.5], [1.0, 1.0])
    assert found.judged.tolist() == [False, True]
    found = derivative(np.sqrt, [0.0, 4.0], [1.0, 1.0])
    assert found.judged.tolist() == [False, True]
    assert found.value[1] == pytest.approx(0.25)


def test_steps_that_are_all_too_large_for_the_function_do_not_agree_on_a_wrong_slope():
    # Near a singular matrix: the pole is at a distance of 1e-6.
    found = derivative(lambda x: 1 / (x - 1 + 1e-6), [1.0], [1.0])
    assert found.judged.all()
    assert found.value[0] == pytest.approx(-1e12, rel=1e-4)


def test_two_scales_with_a_slope_each_are_not_judged():
    # A solver that takes its first guess for the answer within its tolerance: it does not see a factor below 1e-6.
    solver = lambda x: np.tanh(x + np.where(np.abs(x) > 1e-6, 0.7 * x, 0))
    assert derivative(solver, [0.0, 1.0], [0.6, 0.9]).judged.tolist() == [False, True]


@pytest.mark.parametrize("rate", [0.76, 1.0, 1.37])
def test_a_factor_in_single_precision_does_not_hide_behind_one_in_double_precision(rate):
    x, y = np.array([0.3, 1.2]), np.array([1.5, -0.7])

    def along(h):
        return [np.sin((x * (1 + rate * h)).astype(np.float32)).astype(float) * (y * (1 - 0.7 * h))]

    (found,) = differences.derivative(along, DOUBLE)
    truth = rate * x * np.cos(x) * y - 0.7 * np.sin(x) * y
    assert found.judged.all()
    assert np.all(np.abs(found.value - truth) <= 8 * found.error + 1e-6 * np.abs(truth))


def test_a_kink_where_other_elements_make_the_first_steps_wide():
    # The steps for the element at 0 follow the size of the others: 30 here, over which an exponential is no line.
    found = derivative(lambda x: np.where(x > 0, x, np.expm1(x)), [0.0, 30.0], [30.0, 30.0])
    assert found.kinks == 0  # of one slope on both sides
    found = derivative(lambda x: np.where(x > 0, x, 1.7 * np.expm1(x)), [0.0, 30.0], [30.0, 30.0])
    assert found.slack[0] == pytest.approx(30 * 0.7 / 2, rel=1e-2)


def test_value_and_slope_may_both_be_zero():
    found = derivative(lambda x: x * x, [0.0], [1.0])
    assert found.judged.all()
    assert found.value[0] == 0


def test_what_noise_does_to_an_entry_of_the_table():
    """An entry is a sum of weights times D(h_k), each of deviation s sqrt(2) / 2 h_k."""
    ladder = np.array([step for step in differences.steps(DOUBLE) if step != differences.CHECKING_STEP])
    deviations, previous = [], []
    for k, step in enumerate(ladder):
        row = [np.eye(len(ladder))[k]]
        for j, before in enumerate(previous[: differences.COLUMNS - 1], start=1):
            row.append(row[-1] + (row[-1] - before) / ((ladder[k - j] / step) ** 2 - 1))
        previous = row
        deviations += [step * np.linalg.norm(weights / (np.sqrt(2) * ladder)) for weights in row]
    assert max(deviations) == pytest.approx(0.76, abs=0.01)
    assert pytest.approx(2 * max(deviations), rel=0.02) == differences.NOISE_OF_ENTRY
    assert 5 / np.sqrt(2) < differences.NOISE_OF_CHECK
    assert 6 * np.sqrt(6) < differences.CLEAR_OF_NOISE * differences.NOISE_OF_SLOPE


def test_nothing_to_differentiate():
    found = derivative(np.sin, np.zeros((0, 3)), np.zeros((0, 3)))
    assert found.value.shape == (0, 3)
