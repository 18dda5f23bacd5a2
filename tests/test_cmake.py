"""The CMake function of the documentation, word by word, and the package that it installs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tools import cxx

PAGE = Path(__file__).parents[1] / "docs" / "kernels" / "build-ahead.md"
OPS = """
from jaxprim import kernels

def prepare():
    return kernels.cpp("void twice(const float* x, float* y) { *y = 2 * *x; }", "twice(x: f32[...]) -> f32[...]")
"""
USE = "from fastop import ops; print(float(ops.prepare()(4.0)))"

cmake = pytest.mark.skipif(
    not shutil.which("cmake"), reason="NOT TESTED: no cmake on this machine (pip install cmake ninja)"
)


@cxx
@cmake
def test_cmake_builds_and_installs_the_kernels(tmp_path: Path) -> None:
    (blocks,) = re.findall(r"```cmake\n(.*?)```", PAGE.read_text(), re.DOTALL)
    function = blocks.replace("jaxprim_add_kernels(fastop --type T=f32,f64)", "")
    assert function != blocks
    begin = "cmake_minimum_required(VERSION 3.18)\nproject(fastop LANGUAGES CXX)\n"
    (tmp_path / "CMakeLists.txt").write_text(
        f"{begin}{function}jaxprim_add_kernels(fastop --call fastop.ops:prepare)\n"
    )
    package = tmp_path / "src" / "fastop"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "ops.py").write_text(OPS)

    def run(*command: str, **environment: str) -> str:
        done = subprocess.run(
            command, cwd=tmp_path, env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("cmake", "-S", ".", "-B", "build", f"-DPython_EXECUTABLE={sys.executable}")
    assert "1 kernel" in run("cmake", "--build", "build")
    run("cmake", "--install", "build", "--prefix", str(tmp_path / "site"))
    shutil.copytree(package, tmp_path / "site" / "fastop", dirs_exist_ok=True)
    (tmp_path / "empty").mkdir()
    paths = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    away = {"PATH": str(tmp_path / "empty"), "JAXPRIM_CACHE": str(tmp_path / "cache"), "JAX_PLATFORMS": "cpu"}
    assert run(sys.executable, "-c", USE, PYTHONPATH=paths, **away) == "8.0\n"
    assert not (tmp_path / "cache").exists()
