"""Compiling once: the cache, many processes at once, and machines without a compiler."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from tools import cxx

from jaxprim import KernelError, kernels
from jaxprim.kernels import build
from jaxprim.kernels.build import Source
from jaxprim.kernels.languages import CPP, CUDA

ONE = 'extern "C" int one() { return 1; }'


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("JAXPRIM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def compiled(monkeypatch) -> list[str]:
    """The names of what was compiled."""
    found: list[str] = []
    real = build._compile

    def note(source, work):
        found.append(source.name)
        real(source, work)

    monkeypatch.setattr(build, "_compile", note)
    return found


@cxx
def test_a_source_is_compiled_once(cache, compiled):
    assert build.library(Source("one", ONE))[0].one() == 1
    assert build.library(Source("one", ONE))[0].one() == 1
    assert compiled == ["one"]
    names = sorted(path.name for path in next(cache.glob("one-*/")).iterdir())
    assert [re.sub(r"-[0-9a-f]{8}", "-MARK", name) for name in names] == [
        "headers.json",
        "kernel-MARK.so",
        "kernel.cpp",
        "kernel.so",
    ]


@cxx
def test_whatever_goes_into_a_library_is_in_its_key(cache, monkeypatch, tmp_path):
    (tmp_path / "a.cpp").write_text("int a;")
    keys = [
        build.key(source)
        for source in (
            Source("one", ONE),
            Source("one", ONE + " "),
            Source("one", ONE, flags=("-O0",)),
            Source("one", ONE, libraries=("m",)),
            Source("one", ONE, include=(tmp_path,)),
            Source("one", ONE, files=(tmp_path / "a.cpp",)),
        )
    ]
    (tmp_path / "a.cpp").write_text("int b;")
    keys.append(build.key(Source("one", ONE, files=(tmp_path / "a.cpp",))))
    monkeypatch.setattr(jax, "__version__", "another")
    keys.append(build.key(Source("one", ONE)))
    monkeypatch.setattr(build, "version", lambda _: "another")
    keys.append(build.key(Source("one", ONE)))
    assert len(set(keys)) == len(keys)


@cxx
def test_a_changed_header_compiles_again(cache, compiled, tmp_path):
    (tmp_path / "number.h").write_text("#define NUMBER 1")
    source = Source("n", '#include "number.h"\nextern "C" int n() { return NUMBER; }', include=(tmp_path,))
    assert build.library(source)[0].n() == 1
    build.library(source)
    (tmp_path / "number.h").write_text("#define NUMBER 2")
    build.library(source)
    assert compiled == ["n", "n"]


PROGRAM = """
import sys
from jaxprim.kernels import build
real = build._compile
build._compile = lambda source, work: (print("compiled", flush=True), real(source, work))
library, _ = build.library(build.Source("one", sys.argv[1]))
print(library.one())
"""


@cxx
def test_many_processes_compile_once(cache):
    slow = "#include <regex>\n#include <map>\n" + ONE
    running = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, slow], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    printed = "".join(process.communicate()[0] for process in running)
    assert printed.count("compiled") == 1
    assert printed.count("1") == 4


@cxx
def test_a_failed_compilation_leaves_nothing(cache):
    with pytest.raises(KernelError, match="broken: it does not compile"):
        build.library(Source("broken", "int"))
    assert [path.name for path in cache.iterdir() if path.suffix != ".lock"] == []


@cxx
def test_a_cached_kernel_loads_quickly(cache):
    kernels.cpp('extern "C" void f(const float* x, float* out) { *out = *x; }', "(f32[]) -> f32[]").build()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        kernels.cpp('extern "C" void f(const float* x, float* out) { *out = *x; }', "(f32[]) -> f32[]").build()
        times.append(time.perf_counter() - start)
    assert min(times) < 0.05


def test_the_compiler_is_cxx_else_what_is_found(monkeypatch, tmp_path):
    for name in ("g++", "clang++"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert build.compiler(CPP) == str(tmp_path / "g++")
    monkeypatch.setenv("CXX", "clang++")
    assert build.compiler(CPP) == str(tmp_path / "clang++")


@pytest.mark.parametrize("language", [CPP, CUDA], ids=lambda row: row.name)
def test_no_compiler_says_what_to_install(language, monkeypatch):
    monkeypatch.setenv("PATH", "")
    for name in ("CXX", "NVCC"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(KernelError, match="compiler was found"):
        build.compiler(language)


def test_where_kernels_are_kept(monkeypatch):
    monkeypatch.delenv("JAXPRIM_CACHE")
    assert build.cache_folder().name == "kernels"
    assert "jaxprim" in build.cache_folder().parts


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "filelock", None)
    with pytest.raises(KernelError, match="needs filelock"):
        build._extra("filelock")


@cxx
def test_a_program_of_another_process_is_refused(cache, tmp_path):
    """A function's address means nothing in another process, where a saved program may be loaded."""
    program = tmp_path / "program.py"
    program.write_text(
        """
import sys, ctypes, ctypes.util, jax, jax.numpy as jnp
from jax import export
from jaxprim import kernels
cbrt = kernels.c_function(ctypes.CDLL(ctypes.util.find_library("m")).cbrtf, "(f32) -> f32", name="cbrt")
if sys.argv[1] == "save":
    name = cbrt.target(cbrt.signature).name
    check = export.DisabledSafetyCheck.custom_call(name)
    open(sys.argv[2], "wb").write(export.export(jax.jit(cbrt), disabled_checks=[check])(jnp.ones(3)).serialize())
else:
    cbrt(1.0)
    try:
        print(export.deserialize(bytearray(open(sys.argv[2], "rb").read())).call(jnp.ones(3)))
    except Exception as error:
        print(error)
"""
    )
    pytest.importorskip("flatbuffers")
    saved = str(tmp_path / "saved")
    subprocess.run([sys.executable, str(program), "save", saved], check=True)
    done = subprocess.run([sys.executable, str(program), "load", saved], capture_output=True, text=True, check=True)
    assert "cbrt: this program was compiled in another process" in done.stdout


@cxx
def test_sources_keep_numbers_exact(cache):
    """0.0 and -0.0 are two programs."""
    source = 'extern "C" void f(double a, double* out) { *out = 1 / a; }'
    with jax.enable_x64(True):
        f = kernels.cpp(source, "(; a: f64) -> f64[]")
        assert (float(f(a=0.0)), float(f(a=-0.0))) == (np.inf, -np.inf)
