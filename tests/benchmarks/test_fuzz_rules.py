"""A few drawn rules agree with their plain functions, and the fuzz sees a rule that is wrong."""

from __future__ import annotations

from dataclasses import replace

import jax
import pytest

from benchmarks import fuzz_rules
from benchmarks.fuzz_rules import AT_ZERO, LINEAR, LOOKING, TRANSFORMS, draw, mismatch

pytestmark = pytest.mark.usefixtures("jax_defaults")


@pytest.mark.parametrize("seed", range(12))
def test_a_drawn_rule_agrees(seed: int) -> None:
    drawn = draw(seed)
    assert mismatch(drawn) == "", drawn.text


@pytest.mark.parametrize("name", [*LINEAR, *LOOKING, *AT_ZERO])
def test_each_way_to_write_a_product_is_that_product(name: str) -> None:
    product = (LINEAR | LOOKING | AT_ZERO)[name](lambda a, v: a * v)
    a, v = fuzz_rules.X + 1, fuzz_rules.X
    assert jax.numpy.allclose(product(a, v), a * v)


def test_all_transformations_and_ways_are_drawn() -> None:
    drawn = [draw(seed) for seed in range(300)]
    assert {d.transform for d in drawn} == set(TRANSFORMS)
    assert [name for name in (LINEAR | LOOKING | AT_ZERO) if not any(f"'{name}" in d.text for d in drawn)] == []


def test_a_wrong_rule_is_seen() -> None:
    seed = next(seed for seed in range(100) if draw(seed).transform == "jit(grad)")
    drawn = draw(seed)
    wrong = replace(drawn, plain=lambda *operands: jax.tree.map(lambda leaf: leaf * 2, drawn.plain(*operands)))
    assert "expected" in mismatch(wrong)
