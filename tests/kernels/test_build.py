"""Compiling once: the cache, many processes at once, and machines without a compiler."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from tools import cxx, needs

from jaxprim import KernelError, kernels
from jaxprim.kernels import build
from jaxprim.kernels.languages import CPP, CUDA
from jaxprim.kernels.source import LINE, Source

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
    assert [re.sub(r"-[0-9a-f]{12}", "-CONTENT", name) for name in names] == [
        "exports",
        "kernel-CONTENT.so",
        "kernel.cpp",
        "manifest.json",
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
    monkeypatch.setattr(build, "api_of_headers", lambda: (9, 9))
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
def test_a_cached_kernel_starts_no_process(cache, monkeypatch):
    make = lambda: kernels.cpp('extern "C" void f(const float* x, float* out) { *out = *x; }', "(f32[]) -> f32[]")
    make().build()
    monkeypatch.setattr(subprocess, "Popen", None)
    assert make()(2.0) == 2


def test_the_compiler_is_cxx_else_what_is_found(monkeypatch, tmp_path):
    for name in ("g++", "clang++"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert build.compiler(CPP) == (str(tmp_path / "g++"),)
    for named, words in {
        "clang++": ("clang++",),
        "g++ -m64 '-DNAME=a b'": ("g++", "-m64", "-DNAME=a b"),
        " g++ ": ("g++",),
    }.items():
        monkeypatch.setenv("CXX", named)
        assert build.compiler(CPP) == (str(tmp_path / words[0]), *words[1:])


def test_the_path_of_a_compiler_may_have_a_space(monkeypatch, tmp_path):
    path = tmp_path / "my tools" / "g++"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    monkeypatch.setenv("CXX", str(path))
    assert build.compiler(CPP) == (str(path),)


@pytest.mark.parametrize("language", [CPP, CUDA], ids=lambda row: row.name)
def test_no_compiler_says_what_to_install(language, monkeypatch):
    monkeypatch.setenv("PATH", "")
    for name in ("CXX", "NVCC"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(KernelError, match="compiler was found"):
        build.compiler(language)


PORTABLE = """
import sys, ctypes, ctypes.util, jax, jax.numpy as jnp
from jax import export
from jaxprim import kernels

libm = ctypes.CDLL(ctypes.util.find_library("m"))
C = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_float)
what, saved, made = sys.argv[1:]

def kernel(name):
    if name == "callback":
        return kernels.c_function(C(lambda v: 2 * v), "(f32) -> f32", name="root")
    if name == "numba":
        return kernels.numba(lambda x: x / 2 + 1, "(f32[]) -> f32[]", name="root")
    if name == "another numba":
        return kernels.numba(lambda x: x / 2 + 3, "(f32[]) -> f32[]", name="root")
    return kernels.c_function(getattr(libm, name), "(f32) -> f32", name="root")

root = kernel(made).build()
if what == "save":
    exported = export.export(jax.jit(root), disabled_checks=root.export_checks())(jnp.float32(8))
    open(saved, "wb").write(exported.serialize())
    print(float(root(8.0)))
else:
    try:
        print(float(export.deserialize(bytearray(open(saved, "rb").read())).call(jnp.float32(8))))
    except Exception as error:
        print(error)
"""


def _in_a_process(program: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@cxx
@pytest.mark.parametrize(
    ("saved", "loaded", "said"),
    [
        ("cbrtf", "cbrtf", "2.0"),
        ("cbrtf", "sqrtf", "root: this process does not have the function that the program calls"),
        ("callback", "callback", "root: this process does not have the function that the program calls"),
        pytest.param("numba", "numba", "5.0", marks=needs("numba")),
        pytest.param(
            "numba", "another numba", "root: this process does not have the function that the program calls",
            marks=needs("numba"),
        ),
    ],
)  # fmt: skip
def test_a_program_of_another_process_calls_the_same_function_or_none(cache, tmp_path, saved, loaded, said):
    """A program holds the name of a function's content. An address means nothing in another process."""
    pytest.importorskip("flatbuffers")
    file = str(tmp_path / "saved")
    _in_a_process(PORTABLE, "save", file, saved)
    assert said in _in_a_process(PORTABLE, "load", file, loaded)


@cxx
def test_sources_keep_numbers_exact(cache):
    """0.0 and -0.0 are two programs."""
    source = 'extern "C" void f(double a, double* out) { *out = 1 / a; }'
    with jax.enable_x64(True):
        f = kernels.cpp(source, "(; a: f64) -> f64[]")
        assert (float(f(a=0.0)), float(f(a=-0.0))) == (np.inf, -np.inf)


@cxx
def test_a_damaged_library_is_compiled_again(cache, compiled):
    build.library(Source("one", ONE))
    (library,) = cache.glob("one-*/*.so")
    library.unlink()
    library.write_bytes(b"")
    assert build.library(Source("one", ONE))[0].one() == 1
    (manifest,) = cache.glob("one-*/manifest.json")
    for damage in ("", "[]", "{}", '{"library": 3, "digest": "", "files": [], "absent": {}}'):
        manifest.write_text(damage)
        assert build.library(Source("one", ONE))[0].one() == 1
    assert len(compiled) == 6


@cxx
def test_the_cache_has_a_bound(cache, monkeypatch):
    monkeypatch.setattr(build, "MAX_BYTES", 0)
    for number in range(3):
        build.library(Source(f"made{number}", f"{ONE} // {number}"))
    assert len(list(cache.glob("made*"))) == 3  # all were used a short time ago
    for folder in cache.glob("made[01]*"):
        os.utime(folder, (1, 1))
    left_over = cache / f".made9-{24 * '0'}-12345678"
    left_over.mkdir()
    os.utime(left_over, (1, 1))
    build.library(Source("made3", f"{ONE} // 3"))
    assert sorted(path.name[:5] for path in cache.glob("made*")) == ["made2", "made3"]
    assert not left_over.exists()


@cxx
def test_a_kernel_that_moves_is_not_compiled_again(cache, compiled):
    for line in ('#line 7 "a.py"', '#line 9 "b.py"'):
        build.library(Source("one", f"{LINE}\n{ONE}", place=line))
    assert compiled == ["one"]
