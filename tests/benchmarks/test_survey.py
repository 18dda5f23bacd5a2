from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.survey import answers, run
from benchmarks.survey.answers import Answers
from benchmarks.survey.op import Op, cast, points
from benchmarks.survey.verdicts import VERDICTS

OPS = {op.name: op for op in run.chosen([])}


@pytest.fixture(autouse=True)
def _x64_as_before():
    before = jax.config.jax_enable_x64
    yield
    jax.config.update("jax_enable_x64", before)


def test_names_are_unique_and_each_verdict_is_of_one() -> None:
    assert len(OPS) == sum(1 for _ in run.chosen([]))
    assert set(VERDICTS) <= set(OPS)


def test_every_function_has_a_point() -> None:
    assert [name for name, op in OPS.items() if not op.points] == []


def test_operands_are_cast_and_integers_are_not() -> None:
    operands = (np.ones(2), (np.ones(1) + 0j, np.array(3)), np.array(True))
    assert [x.dtype for x in jax.tree_util.tree_leaves(cast(operands, x64=False))] == [
        jnp.float32, jnp.complex64, jnp.int32, jnp.bool_,
    ]  # fmt: skip
    jax.config.update("jax_enable_x64", True)
    assert [x.dtype for x in jax.tree_util.tree_leaves(cast(operands, x64=True))] == [
        jnp.float64, jnp.complex128, jnp.int64, jnp.bool_,
    ]  # fmt: skip


def test_a_wrong_function_is_told() -> None:
    @jax.custom_jvp
    def twice(x):
        return 2 * x

    twice.defjvp(lambda primals, tangents: (twice(*primals), 3 * tangents[0]))
    found = run.ask(Op("own twice", lambda: twice, points(np.ones(2), np.zeros(2))), 32, "fast")
    assert set(found.failed) == {"jvp-differences", "vjp-differences"}
    assert (found.points, found.unexpected, len(found.texts)) == (2, True, 2)
    assert found.line().startswith("own twice (32 bits, 2 points): ")
    assert found.line().endswith("skipped, FAIL: jvp-differences, vjp-differences")


def test_a_function_that_is_not_there_is_told() -> None:
    found = run.ask(Op("jax gone", lambda: jax.numpy.no_such_function, points(np.ones(1))), 32, "fast")
    assert found.absent
    assert not found.unexpected
    assert found.line().startswith("jax gone: not there: ")


def test_answers_are_kept_and_read_again(tmp_path: Path) -> None:
    first = Answers("jax.nn relu", 32, "fast", 1, ["jit"], {"reference": "none"}, {"vmap": "2 of 1"}, "", ["text"])
    second = replace(first, failed={})
    for one in (first, replace(first, bits=64), second):
        answers.write(tmp_path / "kept", one)
    assert answers.read(tmp_path / "kept") == [second, replace(first, bits=64)]


def test_tables() -> None:
    spence = Answers("jax.scipy.special spence", 32, "fast", failed={"vjp-differences": ""})
    kept = [Answers("lineax LU", 32, "fast"), Answers("lineax QR", 64, "fast"), spence, replace(spence, bits=64)]
    assert list(answers.tables([*kept, Answers("jax gone", 32, "fast", absent="no")])) == [
        "| library | functions | every question that could be asked passes |",
        "|---|---|---|",
        "| lineax | 2 | `LU`, `QR` |",
        "| jax.scipy.special | 1 |  |",
        "",
        "| function | bits | fails | verdict |",
        "|---|---|---|---|",
        f"| `jax.scipy.special spence` | 32, 64 | vjp-differences | {VERDICTS['jax.scipy.special spence']} |",
    ]
