from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, find, given, settings
from hypothesis.errors import NoSuchExample

from jaxprim.testing import strategies

SMALL = settings(max_examples=30, deadline=None, database=None, derandomize=True)
KINDS = ("float32", "float64", "bfloat16", "float16", "complex64", "complex128", "int32", "int64", "uint8", "bool")


def smallest(strategy, condition=lambda found: True):
    return find(strategy, condition, settings=settings(SMALL, suppress_health_check=list(HealthCheck)))


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("at_corners", [False, True])
def test_values_are_of_the_dtype(dtype, at_corners):
    with jax.enable_x64(True):

        @SMALL
        @given(strategies.arrays(dtype, (2, 3), at_corners=at_corners, finite=False))
        def holds(x):
            assert (x.dtype, x.shape) == (jnp.dtype(dtype), (2, 3))

        holds()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "complex64"])
def test_corners_are_drawn_and_can_be_left_out(dtype):
    found = smallest(strategies.arrays(dtype, (), at_corners=True, finite=False), lambda x: bool(jnp.isnan(x)))
    assert np.isnan(np.asarray(found, np.complex64))

    @SMALL
    @given(strategies.arrays(dtype, (3,), at_corners=True))
    def all_finite(x):
        assert bool(jnp.all(jnp.isfinite(x)))

    all_finite()


def test_corners_of_a_dtype():
    assert np.signbit(strategies.corners("float32")[1])
    assert float("inf") in strategies.corners("float16", finite=False)
    assert strategies.corners("uint8") == [0, 1, 255]
    assert strategies.corners("bool") == [False, True]


def test_ordinary_values_lie_between_the_bounds_and_are_exact_in_every_dtype():
    @SMALL
    @given(strategies.values("bfloat16", low=-2, high=3))
    def holds(x):
        assert -2 <= x <= 3
        assert float(jnp.asarray(x, "bfloat16")) == x

    holds()


def test_shapes_include_single_numbers_and_arrays_without_elements():
    assert smallest(strategies.shapes()) == ()
    assert 0 in smallest(strategies.shapes(), lambda shape: 0 in shape)
    with pytest.raises(NoSuchExample):
        smallest(strategies.shapes(empty=False), lambda shape: 0 in shape)


def test_dtypes_of_64_bits_only_where_there_are_any():
    assert {str(d) for d in strategies.dtypes().elements} == {"float32", "bfloat16", "float16"}
    with jax.enable_x64(True):
        assert "complex128" in {str(d) for d in strategies.dtypes(real=False, complex_=True).elements}


def test_operands_like_others():
    key = jax.random.key(0)

    @SMALL
    @given(strategies.like(jnp.ones(3), {"w": jnp.ones((2, 2), "bfloat16"), "n": 3}, 2.0, key))
    def holds(operands):
        x, weights, factor, same = operands
        assert (x.dtype, x.shape, weights["w"].dtype, weights["w"].shape) == ("float32", (3,), "bfloat16", (2, 2))
        assert (type(factor), type(weights["n"]), same) == (float, int, key)

    holds()


def test_what_fails_shrinks_to_what_people_read():
    found = smallest(strategies.arrays("float32", (2,)), lambda x: bool(x[0] > 1.5))
    np.testing.assert_array_equal(found, np.float32([1.5625, 0]))
