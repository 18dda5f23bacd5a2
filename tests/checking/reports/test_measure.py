"""What is measured is compared with what is known: the derivative of a cube, and the error of a wrong rule."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import jaxprim
from jaxprim import Example
from jaxprim.checking.questions import find_question
from jaxprim.checking.reports import measure
from jaxprim.checking.reports.svg import Heat, Lines
from jaxprim.checking.run import ask, cases
from jaxprim.checking.subject import Subject

X = jnp.array([0.5, -1.25, 2.0])


def drawn(fn, *operands):
    subject, examples = Subject.of(fn), [Example(operands)]
    asked = cases(subject, examples, 0)
    found = tuple(ask(asked, [find_question("abstract-eval")]))
    return {picture.title: picture for picture in measure.pictures(asked[0], found)}


@jax.custom_jvp
def cube(x):
    return x**3


# Wrong in the second element alone: 4 x^2.
cube.defjvp(lambda p, t: (cube(*p), jnp.array([3.0, 4.0, 3.0], p[0].dtype) * p[0] ** 2 * t[0]))


def test_the_jacobian_s_error_is_where_the_rule_is_wrong():
    heat = drawn(cube, X)["Error of the Jacobian by the JVP rule"]
    assert isinstance(heat, Heat)
    assert (heat.rows[1], heat.columns[1]) == ("result[1]", "x[1]")
    error = np.array(heat.values)
    assert abs(error[1, 1] - 1.25**2 / 12) < 1e-6  # (4 - 3) x^2, in units of 3 * 2^2
    error[1, 1] = 0
    assert np.max(error) < 1e-6


def test_both_rules_have_the_same_jacobian():
    pictures = drawn(cube, X)
    by_rows = pictures["Error of the Jacobian by the VJP rule"].values
    np.testing.assert_allclose(by_rows, pictures["Error of the Jacobian by the JVP rule"].values, atol=1e-7)


def test_differences_of_a_right_rule_fall_with_the_square_of_the_step():
    (curve, _) = drawn(lambda x: x**3, X)["Error against step size"].series
    error = dict(curve.points)
    assert error[2.0**-4] / error[2.0**-6] > 12  # 16, for a central difference
    assert min(curve.y) < 1e-8


def test_those_of_a_wrong_rule_do_not():
    (curve, _) = drawn(cube, X)["Error against step size"].series
    assert min(curve.y) > 1e-3


def test_the_error_over_the_range_is_in_units_in_the_last_place():
    x = jnp.array([0.3, -1.7, 2.9])
    lines = drawn(lambda x: x * x * x, x)["Error over the input range"]
    assert isinstance(lines, Lines)
    value = next(series for series in lines.series if series.name == "value")
    assert 0 < max(value.y) <= 1.5  # two roundings of half a unit, and their products
    rough = drawn(lambda x: x**3 * (1 + 1e-4 * (x.dtype == jnp.float32)), x)["Error over the input range"].series[0]
    assert max(rough.y) > 1e3


def test_nothing_is_measured_of_what_does_not_run():
    def broken(x):
        raise ValueError("no")

    assert drawn(broken, X) == {}
    assert jaxprim.report(broken, X, pictures=True).pictures == ()


def test_an_operation_of_integers_has_no_pictures_but_a_report():
    assert jaxprim.report(lambda n: n + 1, jnp.arange(3), pictures=True).ok
