"""The corpus is what it says: its right operations are right, its faults are wrong, each in the context that it names.

The checker is not used. One fault of each kind and mode is proven here, and every fifth right operation;
``python -m benchmarks.checker.witness`` proves every entry.
"""

from __future__ import annotations

from collections import Counter

import jax
import pytest

from benchmarks.checker.corpus import Entry, entries, operations
from benchmarks.checker.makers import Fault
from benchmarks.checker.power import CURVES, DTYPES, dtypes_of, sizes
from benchmarks.checker.witness import differences, prove, relative_error, right, wrong

pytestmark = pytest.mark.usefixtures("jax_defaults")

ENTRIES = entries()
RIGHTS = [entry for entry in ENTRIES.values() if entry.part == "right"]
FAULTS = {(e.kind, e.fault.mode): e for e in reversed(ENTRIES.values()) if e.fault and e.part == "fault"}
POWER = [e for e in ENTRIES.values() if e.fault and e.fault.size == 1e-4 and e.name.endswith("/0.0001/float64")]


def _name(entry: Entry) -> str:
    return entry.name


@pytest.mark.parametrize("entry", RIGHTS[::5], ids=_name)
def test_right_operations_are_right(entry: Entry) -> None:
    assert prove(entry) is None


@pytest.mark.parametrize("entry", FAULTS.values(), ids=_name)
def test_wrong_operations_are_wrong(entry: Entry) -> None:
    assert prove(entry) is None


@pytest.mark.parametrize("entry", POWER, ids=_name)
def test_faults_with_a_size_are_wrong_by_about_that(entry: Entry) -> None:
    assert prove(entry) is None


def test_the_corpus_has_the_sizes_that_the_issue_asks_for() -> None:
    parts = Counter(entry.part for entry in ENTRIES.values())
    assert parts["right"] >= 60
    assert parts["fault"] >= 150
    assert parts["power"] == sum(len(sizes(dtype)) for kind, *_ in CURVES for dtype in dtypes_of(kind))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_size_that_a_dtype_can_hold_changes_a_rule_in_that_dtype(dtype: str) -> None:
    entry = ENTRIES[f"power/scale/jvp/sin/{min(sizes(dtype)):g}/{dtype}"]
    with jax.enable_x64(entry.x64):
        x = entry.operands(0)
        wrong, right = (jax.jvp(op.assemble(), x, x)[1] for op in (entry.op, entry.fault.right))
        assert wrong.dtype == dtype
        assert (wrong != right).any()


def test_names_are_the_same_each_time() -> None:
    assert list(entries()) == list(ENTRIES)


def test_a_wrong_rule_is_not_proven_right() -> None:
    ops = operations()
    doubled = ops["sin"].but(jvp=lambda p, t: 2 * ops["sin"].jvp(p, t))
    assert "jvp" in right(doubled)


def test_a_wrong_function_is_not_proven_right() -> None:
    """Where the function has a rule of JAX's that is wrong, the differences show it."""
    ops = operations()
    forward, backward = differences(ops["tanh_custom_jvp"])
    assert max(forward, backward) < 1e-8
    spoilt = ENTRIES["fault/factor_2/jvp/tanh_custom_jvp/float32"].op.assemble()
    assert differences(ops["sin"].but(fn=spoilt))[0] > 0.4


def test_a_right_rule_is_not_proven_wrong() -> None:
    sin = operations()["sin"]
    assert wrong(Fault("none", "jvp", sin, sin, "", "jvp")).startswith("wrong by ")


def test_an_error_that_is_not_a_number_is_infinite() -> None:
    assert relative_error([float("nan")], [1.0]) == float("inf")
