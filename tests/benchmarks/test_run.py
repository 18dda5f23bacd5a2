from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jax
import pytest
from scipy.stats import beta

from benchmarks.checker import run, tools
from benchmarks.checker.corpus import entries
from benchmarks.checker.figures import MEANT, figures, text, upper_bound
from jaxprim.checking.questions import QUESTIONS

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
ENTRIES = entries()


@pytest.mark.parametrize(("rejected", "runs"), [(0, 1), (0, 100), (1, 100), (7, 60), (59, 60)])
def test_the_upper_bound_is_that_of_clopper_and_pearson(rejected: int, runs: int) -> None:
    assert upper_bound(rejected, runs) == pytest.approx(beta.ppf(0.95, rejected + 1, runs - rejected), rel=1e-9)


def test_nothing_is_known_of_what_was_not_run() -> None:
    assert upper_bound(0, 0) == 1.0
    assert upper_bound(3, 3) == 1.0


def _result(entry: str, verdict: str, tool: str = "jaxprim", **more: Any) -> dict[str, Any]:
    known = {"seed": 0, "questions": [], "seconds": 2.0, "first": None, "detail": ""}
    return {"tool": tool, "entry": entry, "verdict": verdict} | known | more


def test_figures_of_known_results() -> None:
    results = [
        _result("right/sin", "passed", seconds=1.0, first=0.5),
        _result("right/sin", "passed", seed=1, seconds=0.1, first=0.1),  # found everything compiled: not timed
        _result("right/exp", "caught", questions=["jvp"]),
        _result("right/log", "timeout", seconds=0.0),
        _result("fault/sign/jvp/sin/float32", "caught", questions=["jvp-differences", "jit"], seconds=3.0),
        _result("fault/sign/vjp/sin/float32", "passed"),
        _result("fault/sign/vjp/log/float32", "error", detail="ValueError: x"),
        _result("power/scale/jvp/sin/0.1/float64", "caught", questions=["mixes"]),
        _result("power/scale/jvp/sin/1e-06/float64", "passed"),
        _result("right/sin", "does not apply", tool="torch gradcheck"),
        _result("right/gone", "caught"),
    ]
    found = figures(results, ENTRIES)
    assert list(found) == ["jaxprim"]
    mine = found["jaxprim"]
    assert (mine["faults"]["caught"], mine["faults"]["raised"], mine["faults"]["of"]) == (1, 1, 3)
    assert mine["faults"]["missed"] == ["fault/sign/vjp/log/float32", "fault/sign/vjp/sin/float32"]
    assert mine["kinds"]["sign (jvp)"]["caught"] == 1
    assert {size: share["caught"] for size, share in mine["power"]["float64"].items()} == {"0.1": 1, "1e-06": 0}
    assert mine["questions"] == {
        "sign (jvp)": {"jvp-differences": 1, "jit": 1},
        "sign (vjp)": {},
        "scale (jvp)": {"mixes": 1},
    }
    assert mine["by another"] == ["power/scale/jvp/sin/0.1/float64"]
    assert (mine["right"]["rejected"], mine["right"]["runs"], mine["right"]["broken"]) == (2, 4, 1)
    assert mine["right"]["upper bound"] == pytest.approx(beta.ppf(0.95, 3, 2))
    assert mine["seconds"] == {
        "median check": 2.0,
        "longest check": 3.0,
        "median first finding": 0.5,
        "longest first finding": 0.5,
    }
    assert len(mine["broken"]) == 2


def test_a_question_is_meant_for_every_fault() -> None:
    meant = {entry.fault.context for entry in ENTRIES.values() if entry.fault is not None}
    assert meant <= set(MEANT)
    assert {name for names in MEANT.values() for name in names} <= {question.name for question in QUESTIONS}


def test_the_plan_repeats_right_operations_only() -> None:
    tasks = list(run.plan(ENTRIES, ["jaxprim", "torch gradcheck"], seeds=3, quick=False))
    mine = [task for task in tasks if task["tool"] == "jaxprim"]
    rights = sum(entry.part == "right" and not entry.large for entry in ENTRIES.values())
    assert len(mine) == len(ENTRIES) + 2 * rights
    large = [
        t["seed"] for t in run.plan(ENTRIES, ["jaxprim"], seeds=21, quick=False) if t["entry"] == "right/sin_million"
    ]
    assert large == [0, 10, 20]
    assert {t["entry"] for t in tasks if t["tool"] == "torch gradcheck" and t["seed"]} < {t["entry"] for t in mine}


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), str(HERE)]))
    results = ["--results", str(tmp_path / "results.jsonl"), "--check", "stub_checker:check", "--on-finding", "heard"]
    return [*results, "--tools", "jaxprim", "--timeout", "60", "--seeds", "1"]


def test_a_crash_costs_one_entry_and_a_second_run_goes_on(
    stub: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run.main([*stub, "--only", "right/x_"])
    right = found["jaxprim"]["right"]
    names = [name for name in ENTRIES if name.startswith("right/x_")]
    assert (right["operations"], right["seeds"], right["runs"]) == (len(names), 1, len(names))
    assert (right["rejected"], right["broken"], list(right["names"])) == (1, 1, ["right/x_exp"])
    assert found["jaxprim"]["seconds"]["median first finding"] < 1
    assert "crash: exit code 3" in capsys.readouterr().out
    lines = (tmp_path / "results.jsonl").read_text()
    (tmp_path / "results.jsonl").write_text(lines[:-20])  # as if it had been stopped while it wrote
    assert run.main([*stub, "--only", "right/x_"])["jaxprim"]["right"]["runs"] == len(names)
    kept = json.loads((tmp_path / "results.json").read_text())
    assert (kept["missing"], kept["versions"]["jax"]) == ([], jax.__version__)


def test_the_first_seed_is_timed_and_the_others_share_what_is_compiled(stub: list[str], tmp_path: Path) -> None:
    stub[stub.index("--seeds") + 1] = "3"
    run.main([*stub, "--only", "right/sinh"])
    kept = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [(task["seed"], task["questions"]) for task in kept] == [(0, []), (1, ["seed 1 kept"]), (2, ["seed 2 kept"])]


def test_an_entry_that_does_not_end_and_one_that_raises(stub: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    found = run.main([*stub, "--only", "stop_gradient/jvp/cube", "--jobs", "2"])
    assert found["jaxprim"]["faults"]["raised"] == 1
    stub[stub.index("--timeout") + 1] = "6"
    found = run.main([*stub, "--only", "missing_inner_derivative/vjp"])
    assert found["jaxprim"]["broken"] == ["fault/missing_inner_derivative/vjp/steep/float32, seed 0: timeout: 6 s"]
    assert "ValueError" not in capsys.readouterr().out.split("missed")[-1]


def test_the_same_mistake_in_other_libraries() -> None:
    """What `ported` says, by differences in NumPy: no other library is needed for that."""
    entry = ENTRIES["power/scale/jvp/sin/0.1/float64"]
    op = tools.ported(entry)
    assert op is not None
    assert (op.jvp(1.0), op.vjp(1.0), op.mode) == (pytest.approx(1.1), 1.0, "jvp")
    assert tools.ported(ENTRIES["fault/sign/jvp/matmul/float32"]) is None


def test_tools_that_are_not_installed_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "_installed", lambda module: module != "torch")
    made, missing = tools.available(run.TOOLS, "jaxprim:check", None)
    assert missing == ["torch gradcheck"]
    assert "autograd check_grads" in made
    assert text({}, missing).startswith("torch gradcheck: not installed")


def test_jax_check_grads_says_what_it_says() -> None:
    passed = tools.jax_check_grads(ENTRIES["right/sin"], 0)
    caught = tools.jax_check_grads(ENTRIES["fault/sign/vjp/sin/float32"], 0)
    assert (passed.verdict, caught.verdict) == ("passed", "caught")
