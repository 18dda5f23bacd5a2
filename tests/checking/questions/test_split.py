"""Which rules pass, which cannot be asked about, and the whole text of one that is wrong."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import pytest

import jaxprim
from jaxprim import Primitive
from jaxprim.checking import shrink

X = jnp.array([[1.0, 4.0, 2.0], [3.0, -5.0, 6.0]])


def made(impl, rule, **axes):
    p = Primitive("op")
    p.def_impl(lambda x, *operands: impl(x, *operands))
    p.def_sharding(rule, **axes)
    return p


RULE = made.__code__.co_firstlineno + 3


def ask(p, *operands):
    (found,) = jaxprim.report(p, *operands, only="split").findings
    return found


@pytest.mark.parametrize(
    ("impl", "rule", "axes", "operands", "compared"),
    [
        # Axes i and j in halves; k in halves and in three.
        (lambda x, y: x @ y, "i k, k j -> i j", {"reduced": "k"}, (X, X.T), 4),
        # Terms that cancel: the sum is right to a rounding of the terms, not of the result.
        (jnp.dot, "k, k ->", {"reduced": "k"}, (jnp.array([1e4, 1.0, -1e4, 0.1]), jnp.ones(4)), 2),
        (jax.nn.softmax, "... n -> ... n", {"replicated": "n"}, (X,), 1),
        (lambda x: (x * x, jnp.sum(x, 0)), "b n -> b n, n", {"reduced": "b"}, (X,), 2 + 4),
        # The largest, the least, and what each part has alike.
        (
            lambda x: (jnp.max(x, 0), jnp.min(x, 0), jnp.sum(x, 0), x.ndim),
            "b n -> n, n, n, ",
            {"reduced": {"b": ("max", "min", "sum", "invarying"), "n": "invarying"}},
            (X,),
            5 + 2 * 3 + 2 + 3,
        ),
        # A sum of integers wraps, on one device and on several.
        (lambda x: jnp.sum(x, dtype=jnp.int8), "n -> ", {"reduced": "n"}, (jnp.array([100, 100, 100], jnp.int8),), 2),
        # A Python number is no axis.
        (lambda x, f: x * f, "a n, -> a n", {}, (X, 2.0), 1 + 2),
    ],
)
@pytest.mark.usefixtures("jax_defaults")
def test_right_rules(impl, rule, axes, operands, compared):
    found = ask(made(impl, rule, **axes), *operands)
    assert (found.status, found.compared) == ("pass", compared), found.text()


def even(x):
    if x.shape[0] % 2:
        raise ValueError("an even number of rows, please")
    return x + 0


@pytest.mark.parametrize(
    ("p", "operand", "status", "said"),
    [
        (jnp.sin, X, "skipped", "no sharding rule"),
        (made(lambda x: x, "a b -> a b", replicated="a b"), X, "skipped", "its sharding rule keeps every axis whole"),
        (
            made(lambda x: x, "... b -> ... b", replicated="b"), X[:1],
            "skipped", "axis 0 of `...` has size 1 in the example, so it cannot be split",
        ),
        (
            made(lambda x: x, "a b -> a b"), X[:1],
            "pass", "axis 'a' has size 1 in the example, so it cannot be split",
        ),
        (
            made(even, "a b -> a b"), X,
            "pass", "not asked for axis 'a' in parts of 1, 1: an even number of rows, please",
        ),
        (
            made(jax.random.key_data, "n -> n m"), jax.random.split(jax.random.key(0), 4),
            "skipped", "an operation on random keys is never split",
        ),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("jax_defaults")
def test_what_cannot_be_split_says_why(p, operand, status, said):
    found = ask(p, operand)
    assert (found.status, said in found.notes) == (status, True), found.text()


@pytest.mark.usefixtures("jax_defaults")
def test_a_part_of_another_shape():
    found = ask(made(lambda x: x + 0, "n -> m", reduced="n"), X[0])
    assert [item.message for item in found.evidence] == [
        "part 1 has shape (1,), expected (3,)",
        "part 1 has shape (1,), expected (3,)",
    ]


@pytest.mark.usefixtures("jax_defaults")
def test_a_part_that_the_rule_does_not_fit():
    found = ask(made(lambda x: x if x.shape[0] > 1 else x[0], "a b -> a b"), X)
    assert "axis 'a' in parts of 1, 1" in found.text()
    assert "its sharding rule does not fit result 0" in found.text()


@pytest.mark.usefixtures("jax_defaults")
def test_the_report_of_a_wrong_rule(monkeypatch):
    monkeypatch.setattr(shrink, "PATIENCE", 0.0)
    p = made(lambda x: jnp.max(x, 1), "... n -> ...", reduced="n")
    found = ask(p, X)
    place = re.sub(r", \S*/", ", ", found.text())
    assert (
        place
        == f"""\
fail: split of op at x=float32[2,3]
  rule: sharding, test_split.py:{RULE}
  sharding: axis 'n' in parts of 1, 2, added, against the whole
    at:        result[1] (2 of 2 elements are off)
    got:       9  (got / expected = 1.5)
    expected:  6
    off by:    3 (6.3e+06 ulp), allowed 7.1e-05: 32 roundings of 1.2e-07
    seed:      0
  sharding: axis 'n' in parts of 1, 1, 1, added, against the whole
    at:        result[0] (2 of 2 elements are off)
    got:       7  (got / expected = 1.75)
    expected:  4
    off by:    3 (6.3e+06 ulp), allowed 8.2e-05: 32 roundings of 1.2e-07
    seed:      0
  hint: every number is off by the same 3: a term is added that does not depend on the input
  note: to keep axis 'n' whole on each device: op.def_sharding('... n -> ...', replicated='n')"""
    )
    exec(found.notes[0].removeprefix("to keep axis 'n' whole on each device: "), {"op": p})
    assert ask(p, X).ok


@pytest.mark.parametrize("right", [True, False])
def test_a_partition_rule_computes_the_parts(right):
    """Two and three parts, and in two of them the edge of one part comes from the other."""
    p = Primitive("moving")
    p.def_impl(lambda x: x + jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]]))
    p.def_sharding("n m -> n m", replicated="m")
    p.def_partition(
        lambda x, axis: x + jnp.concatenate([axis.shift(x[-1:], "n", 1 if right else -1, periodic=False), x[:-1]])
    )
    found = ask(p, jnp.arange(12.0).reshape(6, 2))
    assert (found.status, found.compared) == ("pass" if right else "fail", 2), found.text()
