"""`from_numpy`."""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim import BadCall, RuleMissing, from_numpy


def test_one_line():
    sinc = from_numpy(np.sinc)
    assert sinc.name == "sinc"
    x = jnp.linspace(-1, 1, 5, dtype=jnp.float32)
    np.testing.assert_allclose(jax.jit(jax.vmap(sinc))(x), np.sinc(x), rtol=1e-6)
    with pytest.raises(RuleMissing):
        jax.grad(sinc)(1.0)


@pytest.mark.parametrize(
    "like",
    [
        "b",
        "(f32[n, n], f32[n]) -> f32[n]",
        jax.ShapeDtypeStruct((3,), np.float32),
        np.zeros(3, np.float32),
        lambda a, b: b,
    ],
    ids=["operand", "signature", "type", "array", "function"],
)
def test_the_type_of_the_result(like):
    solve = from_numpy(lambda a, b: np.linalg.solve(a, b), like=like, name="solve")
    a, b = np.eye(3, dtype=np.float32) * 2, np.ones(3, np.float32)
    np.testing.assert_allclose(jax.jit(solve)(a, b), b / 2)


def test_several_results():
    both = from_numpy(lambda x: (x + 1, {"k": x.sum()}), like=lambda x: (x, {"k": jax.ShapeDtypeStruct((), x.dtype)}))
    first, second = jax.jit(both)(np.ones(3, np.float32))
    assert (first.tolist(), float(second["k"])) == ([2, 2, 2], 3)


def test_operands_broadcast_by_default():
    assert from_numpy(np.hypot)(np.ones((3, 1), np.float32), np.ones(2, np.float32)).shape == (3, 2)


@pytest.mark.parametrize(
    ("like", "note"),
    [
        (None, "the operands' types, broadcast as in arithmetic"),
        ("x", "the type of operand 'x'"),
        ("(f32[n]) -> f32[n]", "the signature (f32[n]) -> f32[n]"),
        (jax.ShapeDtypeStruct((3,), np.float32), "the type that like= gives, for all operands"),
    ],
)
def test_explain_says_what_from_numpy_wrote(like, note):
    p = from_numpy(lambda x: x, like=like, name="p")
    place = f"{__file__.rpartition('/')[2]}:{sys._getframe().f_lineno - 1}"
    row = p.explain()["abstract_eval"]
    assert row.origin.endswith(place)
    assert row.notes == (f"written by from_numpy: {note}",)


def test_explain_says_nothing_of_the_author_s_own_rule():
    assert from_numpy(lambda x: x, like=lambda x: x, name="p").explain()["abstract_eval"].notes == ()


def test_what_cannot_be_read():
    with pytest.raises(BadCall, match="like='y' is not an operand"):
        from_numpy(lambda x: x, like="y", name="p")
    with pytest.raises(BadCall, match="unknown derivative"):
        from_numpy(np.sinc, derivative="exact")
