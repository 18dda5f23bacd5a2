from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim.checking import probes


def test_a_stream_follows_from_the_seed_and_its_labels_alone():
    draw = lambda *labels: probes.stream(3, *labels).normal()
    assert draw("a", 1) == draw("a", 1)
    assert len({draw("a", 1), draw("a", 2), draw("b", 1), probes.stream(4, "a", 1).normal()}) == 4


@pytest.mark.parametrize("dtype", [float, complex])
def test_a_unit_probe_is_nowhere_near_zero(dtype):
    found = np.abs(probes.unit(probes.stream(0), np.zeros(1000, dtype)))
    assert found.min() >= 0.5
    assert found.max() <= 1.5


def test_a_complex_probe_is_neither_real_nor_imaginary():
    found = probes.signs(probes.stream(0), (1000,), True)
    assert np.allclose(np.abs(found), 1)
    assert np.minimum(np.abs(found.real), np.abs(found.imag)).min() > 0.15
    assert len(set(zip(found.real > 0, found.imag > 0, strict=True))) == 4


def test_typical_ignores_zeros_and_what_is_not_finite():
    assert probes.typical(np.array([0, 2, -2, np.inf, np.nan])) == 2
    assert probes.typical(np.zeros(3)) == 1
    assert probes.typical(np.zeros(0)) == 1


def test_a_relative_direction_is_in_proportion_and_an_even_one_is_not():
    value = np.array([1e-8, 0.0, 1e8])
    relative = np.abs(probes.relative_direction(probes.stream(0), value)) / probes.typical(value)
    even = np.abs(probes.even_direction(probes.stream(0), value)) / probes.typical(value)
    assert relative[0] < 1e-12
    assert relative[1] >= 0.5
    assert even.min() >= 0.5


def test_moved_keeps_the_type_of_a_leaf():
    assert type(probes.move(2.0, np.asarray(0.5))) is float
    moved = probes.move(jnp.ones(2, jnp.bfloat16), np.array([1.0, 2.0]))
    assert moved.dtype == jnp.bfloat16
    assert moved.tolist() == [2.0, 3.0]


def test_nearby_changes_each_element_a_little_and_keeps_integers():
    near = probes.nearby(probes.stream(0), jnp.array([1.0, -100.0, 0.0]), 0.01)
    assert 0.005 <= abs(near[0] - 1) <= 0.0101
    assert 0.49 <= abs(near[1] + 100) <= 1.01
    assert near[2] == 0
    index = jnp.array([2, 0])
    assert probes.nearby(probes.stream(0), index, 0.01) is index


def test_nearby_moves_an_array_of_zeros_up():
    assert np.all(np.asarray(probes.nearby(probes.stream(0), jnp.zeros(4), 0.01)) > 0)


def test_nearby_splits_keys():
    keys = jax.random.split(jax.random.key(0), 3)
    near = probes.nearby(probes.stream(0), keys, 0.01)
    assert near.shape == keys.shape
    assert not np.any(np.all(jax.random.key_data(near) == jax.random.key_data(keys), axis=-1))
