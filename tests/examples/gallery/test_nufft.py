from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tools import needs
from truth import along

import jaxprim

pytestmark = needs("finufft")
close = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9)
shapes = pytest.mark.parametrize("modes", [(5,), (4, 3), (2, 3, 4)], ids=str)


def system(modes, m=3, seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(size=shape) + 1j * rng.normal(size=shape)
    return rng.uniform(-3, 3, (m, len(modes))), draw(m), draw(*modes)


def matrix(points, modes, sign=1):
    """exp(i s k.x), a row for each frequency: the definition."""
    grids = np.meshgrid(*[np.arange(-(n // 2), (n + 1) // 2) for n in modes], indexing="ij")
    return np.exp(1j * sign * np.stack(grids, -1).reshape(-1, len(modes)) @ points.T)


def slow1(points, strengths, modes, sign=1):
    return (matrix(points, modes, sign) @ strengths).reshape(modes)


def slow2(points, spectrum, modes, sign=1):
    return matrix(points, modes, sign).T @ spectrum.ravel()


@shapes
@pytest.mark.parametrize("sign", [1, -1])
def test_values(example, modes, sign):
    x, c, f = system(modes)
    close(example.nufft1(x, c, modes=modes, sign=sign), slow1(x, c, modes, sign))
    close(example.nufft2(x, f, modes=modes, sign=sign), slow2(x, f, modes, sign))


@shapes
def test_derivatives_against_differences(example, modes):
    x, c, f = system(modes)
    x_dot, c_dot, f_dot = system(modes, seed=1)
    for op, slow, v, v_dot, bar in ((example.nufft1, slow1, c, c_dot, f), (example.nufft2, slow2, f, f_dot, c)):
        truth = along(functools.partial(slow, modes=modes), (x, v), (x_dot, v_dot))
        fast = functools.partial(op, modes=modes, sign=1)
        close(jax.jvp(fast, (x, v), (x_dot, v_dot))[1], truth)
        pull = jax.jit(lambda x, v, bar, fast=fast: jax.vjp(fast, x, v)[1](bar))
        x_bar, v_bar = pull(x, v, bar)
        assert x_bar.dtype == "float64"
        close(np.sum(x_bar * x_dot) + np.sum(v_bar * v_dot).real, np.sum(bar * truth).real)


def test_second_and_third_derivatives_in_points(example):
    modes = (4, 3)
    x, c, _ = system(modes)
    energy = lambda op: lambda x: jnp.sum(jnp.abs(op(x, c, modes=modes)) ** 4)
    fast, slow = energy(example.nufft1), energy(example.direct)
    v = np.cos(x)
    product = lambda f: lambda x: jax.jvp(jax.grad(f), (x,), (v,))[1]
    both = lambda f: jax.jit(lambda x: jax.jvp(product(f), (x,), (v,)))(x)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9), both(fast), both(slow))


def test_a_batch_that_shares_its_points_is_one_call(example):
    modes = (4, 3)
    x, c, _ = system(modes)
    many = np.stack([c, 2j * c, c - 1])
    with jaxprim.record_rules(quiet=True) as record:
        found = jax.block_until_ready(jax.vmap(functools.partial(example.nufft1, modes=modes), (None, 0))(x, many))
    close(found, [slow1(x, c, modes) for c in many])
    assert [count for (_, rule, _), count in record.counts.items() if rule == "host"] == [1]


def test_batches_of_points_and_both(example):
    modes = (5,)
    x, c, f = system(modes)
    xs, cs = np.stack([x, x + 1], 1), np.stack([c, 2 * c, c - 1])
    over = jax.vmap(jax.vmap(functools.partial(example.nufft1, modes=modes), (None, 0)), (1, None))
    close(jax.jit(over)(xs, cs), [[slow1(x, c, modes) for c in cs] for x in np.moveaxis(xs, 1, 0)])
    gradient = jax.grad(lambda x: jnp.sum(jnp.abs(example.nufft2(x, f, modes=modes)) ** 2))
    close(jax.vmap(gradient, 1, 1)(xs), np.stack([gradient(x), gradient(x + 1)], 1))


def test_single_precision(example):
    with jax.enable_x64(False):
        x, c, _ = system((6,))
        found = example.nufft1(x.astype("float32"), c.astype("complex64"), modes=(6,))
        assert found.dtype == "complex64"
        np.testing.assert_allclose(found, slow1(x, c, (6,)), rtol=1e-4, atol=1e-4)


def test_what_does_not_fit_is_refused(example):
    x, c, _ = system((4, 3))
    with pytest.raises(TypeError, match=r"do not fit modes=\(4,\)"):
        example.nufft1(x, c, modes=(4,))
    with pytest.raises(TypeError, match="want complex values of their precision, not float64"):
        example.nufft1(x, c.real, modes=(4, 3))


def test_gauss_newton_finds_points_and_strengths(example, capsys):
    x, c, _ = system((8,), 2)
    x = np.array([[-1.0], [2.0]])
    found, strengths = example.locate(example.nufft1(x, c, modes=(8,)), x + 0.05, jnp.asarray(0.9 * c), steps=6)
    close(found, x)
    close(strengths, c)


def test_check(example):
    with jax.enable_x64(False):
        assert example.nufft2.check(speed="fast").ok
