from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim.checking import values

KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("leaf", "expected"),
    [
        (jnp.ones(2), True),
        (jnp.ones(2, jnp.bfloat16), True),
        (1.0, True),
        (1j, True),
        (np.ones(2, np.complex64), True),
        (jnp.arange(2), False),
        (3, False),
        (True, False),
        (KEY, False),
    ],
)
def test_has_tangents(leaf, expected):
    assert values.has_tangents(leaf) is expected


def test_wide_takes_the_widest_type_of_a_kind():
    assert values.wide(jnp.ones(2, jnp.bfloat16)).dtype == np.float64
    assert values.wide(jnp.ones(2, jnp.complex64)).dtype == np.complex128
    assert values.wide(jnp.arange(2)).dtype.kind == "i"
    assert values.wide(KEY).dtype.kind == "u"
    assert values.wide(np.zeros(3, jax.dtypes.float0)).tolist() == [0, 0, 0]


def test_a_numpy_scalar_is_an_array_and_a_python_number_is_not():
    assert values.is_scalar(1.0)
    assert not values.is_scalar(np.float64(1.0))
    assert values.as_array(2.0) == 2.0
    assert isinstance(values.as_array(2.0), float)
    assert isinstance(values.as_array(np.float32(2.0)), jax.Array)


def test_doubled_keeps_what_has_no_tangents():
    with jax.enable_x64(True):
        assert values.doubled(jnp.ones(2, jnp.bfloat16)).dtype == jnp.float64
        assert values.doubled(jnp.ones(2, jnp.complex64)).dtype == jnp.complex128
        assert values.doubled(jnp.arange(2, dtype=jnp.int32)).dtype == jnp.int32
        assert values.doubled(KEY) is KEY


def test_epsilon_is_zero_where_arithmetic_is_exact():
    assert values.epsilon(jnp.ones(2, jnp.float16)) == 2.0**-10
    assert values.epsilon(1.0) == 2.0**-23
    assert values.epsilon(jnp.arange(2)) == 0
    assert values.epsilon(KEY) == 0
    assert values.tiny(jnp.arange(2)) == 0


def test_names():
    tree = {"w": [1.0, 2.0], "b": None}
    assert values.leaf_names(["x", "p"], [1.0, tree]) == ("x", "p['w'][0]", "p['w'][1]")
    assert values.result_names((1.0, 2.0)) == ("result[0]", "result[1]")


def test_describe():
    assert values.describe(jnp.ones((3, 2), jnp.bfloat16)) == "bfloat16[3,2]"
    assert values.describe(2.0) == "float"
