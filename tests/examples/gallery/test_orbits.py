from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax_versions import IS_OLDER_JAX
from tools import cxx

pytestmark = [cxx, pytest.mark.skipif(IS_OLDER_JAX, reason="compiles derivatives; nothing in them depends on JAX")]
END = 0.5


def test_the_value_is_that_of_jax(example):
    start, mass = example.two_bodies()
    wanted = example.in_jax(start, mass, end=END)
    np.testing.assert_allclose(example.orbits(start, mass, end=END), wanted, rtol=1e-12, atol=1e-12)


def test_a_shift_in_time_is_the_same_at_the_end(example):
    """J(x) F(x) = F(f(x)): the flow of an equation without time carries its field along."""
    start, mass = example.two_bodies()
    flow = jax.jit(lambda x: jax.jvp(lambda x: example.orbits(x, mass, end=END), (x,), (example.field(x, mass),)))
    end, along = flow(start)
    np.testing.assert_allclose(along, example.field(end, mass), rtol=1e-7, atol=1e-7)


def test_momentum_is_kept_and_forward_and_reverse_mode_agree(example):
    start, mass = example.two_bodies()
    fn = jax.jit(lambda x, m, u: jax.vjp(lambda x, m: example.orbits(x, m, end=END), x, m)[1](u))
    momentum = jnp.zeros((2, 6)).at[:, 3].set(mass)  # the cotangent of sum_i m_i v_i, along the first axis
    np.testing.assert_allclose(fn(start, mass, momentum)[0], momentum, atol=1e-12)
    rng = np.random.default_rng(0)
    u, w, m_dot = (jnp.asarray(rng.normal(size=shape)) for shape in ((2, 6), (2, 6), (2,)))
    x_bar, m_bar = fn(start, mass, u)
    forward = jax.jit(lambda x, m: jax.jvp(lambda x, m: example.orbits(x, m, end=END), (x, m), (w, m_dot))[1])
    assert float(jnp.vdot(u, forward(start, mass))) == pytest.approx(
        float(jnp.vdot(x_bar, w) + m_bar @ m_dot), rel=1e-12
    )


def test_no_rule_is_written(example):
    rows = {row.rule: row.status for row in example.orbits.explain().rows}
    assert (rows["jvp"], rows["vjp"]) == ("derived", "derived")
