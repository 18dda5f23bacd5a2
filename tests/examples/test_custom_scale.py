"""The tutorial's code: what it prints, in its order, and the same operation under other transformations."""

from __future__ import annotations

import jax
import numpy as np

X = np.array([1.0, 2.0, 3.0], np.float32)


def test_prints_what_the_tutorial_says(example):
    lines = [line for line in example.printed.splitlines() if not line.startswith("Custom ")]
    assert lines == [
        "Primal output: [2. 4. 6.]",
        "Tangent output: [0.7 1.4 2.1]",
        "Gradient w.r.t. x: [ 8. 16. 24.]",
        "Gradient w.r.t. factor: 56.0",
        "Gradient checks passed!",
    ]


def test_both_rules_print_when_they_run(example):
    lines = example.printed.splitlines()
    assert sum(line.startswith("Custom JVP: x=[1. 2. 3.], factor=2.0") for line in lines) > 0
    assert sum(line.startswith("Custom VJP Backward: y_bar=[ 4.  8. 12.]") for line in lines) == 2


def test_other_transformations(example):
    xs = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    expected = {
        "jit": 2 * X,
        "vmap over x": 2 * xs,
        "vmap over factor": [X, 10 * X],
        "hessian": 8 * np.eye(3),
        "scan": [2 * xs[0], 2.5 * xs[1]],
        "grad of scan": xs.sum(),
        "grad of checkpoint": 8 * X,
    }
    found = example.transformations()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_fixed_figures_are_the_tutorials(example):
    out, dot = jax.jvp(example.apply_scale, (X, 2.0), (example.x_tangent, 0.5))
    np.testing.assert_allclose(out, [2, 4, 6], rtol=1e-6)
    np.testing.assert_allclose(dot, [0.7, 1.4, 2.1], rtol=1e-6)


def test_check(example):
    assert example.custom_scale_p.check().ok
