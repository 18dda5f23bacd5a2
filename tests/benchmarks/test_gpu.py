"""The GPU's benchmark, where there is no GPU: its program on the CPU, and its CUDA with nvcc."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from tools import cxx, no_gpu, nvcc

from benchmarks.gpu import run
from benchmarks.gpu.cases import CUDA_SOURCE, PARTS, PLATFORMS, Cases, rms_norm_in_jax
from jaxprim.kernels import toolchain
from jaxprim.kernels.compile import flags
from jaxprim.kernels.compilers import compiler
from jaxprim.kernels.languages import CUDA
from jaxprim.kernels.toolchain import Unit

SCRIPT = Path(run.__file__).with_name("run.sh")


@cxx
@pytest.mark.skipif(os.name == "nt", reason="NOT TESTED: the command is for bash")
def test_the_command_prints_a_table_and_writes_it(tmp_path: Path) -> None:
    """One part, with kernels in C++, from another folder than the project's."""
    done = subprocess.run(
        ["bash", str(SCRIPT), "--platform", "cpu", "throws"],
        cwd=tmp_path,
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found.keys() == {"jax", "device", "seconds", "rows"}
    assert [(row["what"], row["ok"]) for row in found["rows"]] == [
        ("refuse: UNKNOWN: refuse: this kernel throws", True),
        ("the next kernel runs", True),
    ]
    assert done.stdout.splitlines()[-1].startswith("2 rows, 0 not as they should be")


class InJax(Cases):
    """Cases whose kernels are functions of JAX: nothing is compiled by a compiler."""

    def __init__(self) -> None:
        self.kernels = {
            "axpy": lambda x, a: a * x + 1,
            "slow": lambda x: 2 * x + 1,
            "forward": lambda x, w, eps: rms_norm_in_jax(x, w),
            "backward": lambda g, x, w, eps: self._parts(*jax.vjp(rms_norm_in_jax, x, w)[1](g)),
        }

    def _parts(self, x_bar: Any, w_bar: Any) -> Any:
        return x_bar, jnp.zeros((PARTS, w_bar.size)).at[3].set(w_bar)

    def axpy_by_hand(self, x: Any) -> Any:
        return self.axpy(x)

    def rms_norm_by_hand(self) -> Any:
        return self.rms_norm()


@pytest.mark.usefixtures("jax_defaults")
def test_every_measurement_runs_and_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "ROUNDS", 2)
    cases = InJax()
    parts = [run.calls(cases, (5,)), run.rms_norm(cases, ((30, 24),)), run.streams(cases, 2), run.memory(cases, 2)]
    rows = [row for part in parts for row in part]
    assert not [row for row in rows if row.target is None and not row.ok]  # what is no ratio
    assert {row.part for row in rows} == {"calls", "rms_norm", "streams", "memory"}
    assert sum("off by" in str(row.found) for row in rows) == 3
    cases.kernels |= {"slow": lambda x: 2 * x, "forward": lambda x, w, eps: x}
    wrong = [*run.streams(cases, 1), *(row for row in run.rms_norm(cases, ((30, 24),)) if "beside" in row.what)]
    assert [row.ok for row in wrong] == [False, False, True]


@nvcc
def test_the_kernels_for_gpus_compile(tmp_path: Path) -> None:
    (tmp_path / "kernel.cu").write_text(CUDA_SOURCE)
    command = toolchain.object_command(compiler(CUDA), Unit("kernel.cu", ("-arch=sm_80",)), "kernel.o")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_commands_for_gpus() -> None:
    source = PLATFORMS["cuda"].handlers()
    assert flags(source, ("nvcc",))[-1] == "-arch=native"
    assert "-arch=all-major" not in flags(source, ("nvcc",))
    kernel = Cases(PLATFORMS["cuda"]).kernels["backward"]
    assert ".Ctx<ffi::PlatformStream<cudaStream_t>>()" in source.text
    made = kernel.source(kernel.signature.resolve({}))
    assert "256, 256, 0, stream" in made.text
    assert PARTS == 256
    assert "cudaGetLastError" in made.handler


def test_a_part_that_breaks_or_comes_too_late_is_a_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(cases: Cases) -> Iterator[run.Row]:
        yield run.measured("breaks", "a ratio", 1.5, 1.01)
        raise ValueError("no GPU")

    monkeypatch.setitem(run.PARTS, "breaks", breaks)
    rows = run.run(["breaks"], Cases(PLATFORMS["cpu"]))
    assert [(row.found, row.ok) for row in rows] == [(1.5, False), ("ValueError", False)]
    late = run.run(["breaks"], Cases(PLATFORMS["cpu"]), limit_s=-1)
    assert [(row.what, row.ok) for row in late] == [("the time is over", None)]
    assert "WRONG" in capsys.readouterr().out


def test_the_tests_that_are_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are found by their mark, and no option of the project is needed."""
    ran: list[list[str]] = []

    def done(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        return subprocess.CompletedProcess(command, 0, stdout="...\n3 passed in 1.00s\n", stderr="")

    monkeypatch.setattr(subprocess, "run", done)
    (row,) = run.tests(Cases(PLATFORMS["cpu"]))
    assert (row.ok, row.found) == (True, "3 passed in 1.00s")
    assert {Path(word).name for word in ran[0] if word.endswith(".py")} == {
        "test_aliases.py",
        "test_keeping.py",
        "test_platforms.py",
    }


@no_gpu
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run.main(["--json", str(tmp_path / "gpu.json")]) == 2
    assert "sees no device for cuda" in capsys.readouterr().out
    assert not (tmp_path / "gpu.json").exists()
