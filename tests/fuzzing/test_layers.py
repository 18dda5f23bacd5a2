"""Each layer computes what it says: compared with closed forms of y = a x^2, and every layer nests in every other."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim.fuzzing import layers

X, A = jnp.array([0.5, 2.0]), jnp.float32(1.5)
T = np.cos(np.arange(2.0))  # what layers take for tangents; cotangents are cos(i + 1)
CT = np.cos(np.arange(2.0) + 1)


def op(x, a):
    return [a * x * x]


def run(name, choice=0, *xs):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(layers.LAYERS[name](op, choice)(*(xs or (X, A))))]


def gradient():
    """Of sum(w y + y^2 / 2), with w the cotangents."""
    y = A * X * X
    slope = CT + y
    return [slope * 2 * A * X, np.sum(slope * X * X)]


@pytest.mark.parametrize(
    ("name", "choice", "expected"),
    [
        ("jit", 0, [A * X * X]),
        ("jvp", 3, [A * X * X, 2 * A * X * T + X * X * 1.0]),
        ("jvp", 1, [A * X * X, 2 * A * X * T]),
        ("vjp", 0, [2 * A * X * CT, np.sum(CT * X * X)]),
        ("vjp", 2, [np.sum(CT * X * X)]),
        ("grad", 0, gradient()),
        ("linear_transpose", 0, [2 * A * X * CT, np.sum(CT * X * X)]),
        ("jacobian", 0, [np.diag(2 * A * X)]),
        ("jacobian", 3, [X * X]),
        ("vmap", 2, [A * np.stack([X, 1.1 * X]) ** 2]),
        ("vmap", 5, [A * np.stack([X, X]) ** 2 * np.array([[1.0], [1.1]])]),
        ("lax_map", 0, [np.stack([A * X * X, 1.1**3 * A * X * X])]),
        ("twice", 0, [(2 + 0.9**3) * A * X * X]),
        ("cond", 1, [A * X * X]),
        ("cond", 0, [2 * A * X * X]),
        ("switch", 1, [np.zeros(2)]),
        ("switch", 2, [0.9**3 * A * X * X]),
        ("stop_gradient", 0, [A * X * X]),
        ("custom_vjp", 0, [A * X * X]),
        ("custom_jvp", 0, [A * X * X]),
        ("checkpoint", 1, [A * X * X]),
        ("shard_map", 0, [A * X * X]),
    ],
)
def test_a_layer(name, choice, expected):
    got = run(name, choice)
    assert len(got) == len(expected)
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-5)


def step(x, a):
    y = np.asarray(a * x * x)
    value = np.tanh(np.sum(np.cos(np.arange(y.size) + 1) * y + 0.5 * y * y))
    return x * 0.5 + 0.05 * value, a * 0.5 + 0.05 * value


@pytest.mark.parametrize(("name", "choice", "steps"), [("while_loop", 1, 2), ("fori_loop", 0, 1), ("scan", 0, 2)])
def test_a_loop(name, choice, steps):
    xs = (np.asarray(X), np.asarray(A))
    for _ in range(steps):
        xs = step(*xs)
    for g, e in zip(run(name, choice), xs, strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-5)


def test_the_gradient_stops():
    held = layers.nest_around((("vjp", 0), ("stop_gradient", 1)), op)(X, A)
    np.testing.assert_allclose(held[1], 0.0)
    assert np.all(np.asarray(held[0]) != 0)


@pytest.mark.parametrize(
    "outer", sorted(set(layers.LAYERS) - {"while_loop", "shard_map", "scan", "fori_loop", "linearize"})
)
def test_a_layer_takes_any_other(outer):
    inner = layers.nest_around((("chain", 0), ("cond", 1)), op)
    found = jax.tree.leaves(layers.LAYERS[outer](inner, 7)(X, A))
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in found)


def test_a_nest_is_read_as_it_is_spelled():
    nest = (("grad", 1), ("vmap", 3), ("jit", 0))
    assert layers.spell(nest) == "grad:1 vmap:3 jit"
    assert layers.parse("grad:1 vmap:3 jit") == nest
    assert layers.parse("") == ()


@pytest.mark.parametrize("text", ["gard", "vmap:x", "vmap:-1"])
def test_a_word_that_is_no_layer(text):
    with pytest.raises(ValueError, match="is not a layer"):
        layers.parse(text)


def test_choices_are_sets_of_operands():
    assert [layers.choose(2, choice) for choice in range(4)] == [(0, 1), (0,), (1,), (0, 1)]
