from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
from tools import cxx

ROOT = Path(__file__).parents[2]


@pytest.fixture
def scale(monkeypatch: pytest.MonkeyPatch, kernel_cache: str):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "4")
    yield importlib.import_module("scale")
    sys.modules.pop("scale")


@cxx
def test_ours_communicates_no_more_than_jnp(scale, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "PROGRAMS", {name: scale.PROGRAMS[name] for name in ("value", "gradient")})
    monkeypatch.setattr(scale, "LAYOUTS", {"data": scale.LAYOUTS["data"]})
    value, gradient = scale.communicated()
    assert "0 of 0 bytes" in value
    assert " 1 of " in gradient
    assert value.endswith("ok")
    assert gradient.endswith("ok")


@cxx
def test_a_chain_compiles_with_each_peer(scale, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "CALLS", 1)
    monkeypatch.setattr(scale, "interleaved", lambda tasks, *_: {k: scale_time(task) for k, task in tasks.items()})

    def scale_time(task):
        task()
        return importlib.import_module("timing").Times((1.0,))

    found = list(scale.compiling())
    assert {each.ratio for each in found} == {1.0}
    assert [each.what for each in found if "by hand" in each.what] == [
        "compile a call, auto: custom_partitioning by hand"
    ]
    assert scale.lines_of(scale.by_hand) > 10
