"""A new kernel language is a new row, and nothing else asks which language a kernel has."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from tools import cxx

from jaxprim import KernelError
from jaxprim.kernels import build, from_source, languages
from jaxprim.kernels.compile import flags
from jaxprim.kernels.from_source import Options
from jaxprim.kernels.handler import Function, prototype
from jaxprim.kernels.languages import CPP, CUDA, Device, Language
from jaxprim.kernels.signature import parse

KERNELS = Path(languages.__file__).parent
# A stand-in for HIP, which the C++ compiler of this machine compiles: its runtime is a header of a few lines.
RUNTIME = """
#pragma once
#include <cstring>
using hipStream_t = void*;
inline int hipMemcpyAsync(void* to, const void* from, std::size_t size, hipStream_t) {
  std::memcpy(to, from, size);
  return 0;
}
inline const char* hipGetErrorString() { return nullptr; }
"""
HIP = Language(
    name="HIP",
    platform="rocm",
    xla_platform="ROCM",
    suffix=".hip.cpp",
    variable="HIPCXX",
    compilers=CPP.compilers,
    flags=CPP.flags,
    headers=("hip_runtime.h",),
    install={"": "install ROCm"},
    device=Device(
        stream="hipStream_t",
        copy="hipMemcpyAsync(to, from, count * sizeof(*to), stream);",
        check="if (const auto error = hipGetErrorString()) call.refuse(error);",
        all_flag="-DHIP_ALL",
        model_flags=("--offload-arch",),
        place="int place = 0;",
        free="if (place == 0) delete made;",
    ),
)
SOURCE = """
#ifndef HIP_ALL
#error no models
#endif
struct Order { explicit Order(int64_t) {} };
struct Plan { Plan(const Order&, int64_t) {} };
void halve(Plan&, double* x, int64_t n, hipStream_t stream) {}
"""


def kernel(tmp_path, **given):
    (tmp_path / "hip_runtime.h").write_text(RUNTIME)
    options = {"handler": None, "arguments": "out=x, n", "sizes": "i64", "status": None, "threads": 1, "order": "C",
               "flags": (), "include": (tmp_path,), "libraries": (), "keep": ("Order(n)", "Plan(Order, n)")}  # fmt: skip
    signature = given.pop("signature", "halve(x: f64[n]) -> f64[n]")
    return from_source._kernel(SOURCE, parse(signature), signature, None, Options(HIP, **{**options, **given}))


@cxx
def test_a_row_is_enough_to_compile_another_language(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXPRIM_CACHE", str(tmp_path / "cache"))
    made = kernel(tmp_path)
    assert made.platform == "rocm"
    target = made.build().target(made.signature)
    assert target.name.startswith("jaxprim.halve.")
    (source,) = (tmp_path / "cache").glob("halve-*/kernel.hip.cpp")
    text = source.read_text() + source.with_name("handler.h").read_text()
    for piece in ("#include <hip_runtime.h>", HIP.device.copy, HIP.device.check, "static_cast<hipStream_t>"):
        assert piece in text
    assert text.count(HIP.device.free) == 2
    assert text.count("{&place, sizeof(place)}, {&stream, sizeof(stream)}}") == 2  # each stream has its own set-ups


@cxx
def test_an_author_who_chooses_a_model_gets_no_others(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXPRIM_CACHE", str(tmp_path / "cache"))
    chosen = build.Source("f", "", HIP, flags=("--offload-arch=gfx942",))
    assert flags(chosen, ("g++",)) == [*CPP.flags, "--offload-arch=gfx942"]
    assert flags(build.Source("f", "", HIP), ("g++",)) == [*CPP.flags, "-DHIP_ALL"]
    assert flags(build.Source("f", "", CUDA, flags=("-gencode=x",)), ("g++",)) == [*CUDA.flags, "-gencode=x"]
    assert flags(build.Source("f", "", CPP), ("g++",)) == list(CPP.flags)


def test_messages_name_the_language(tmp_path, monkeypatch):
    with pytest.raises(KernelError, match="a HIP kernel cannot pass 'a' by value"):
        kernel(tmp_path, signature="halve(x: f64[n], a: f64) -> f64[n]")
    with pytest.raises(KernelError, match="a HIP kernel keeps nothing that is made from the operand 'x'"):
        kernel(tmp_path, keep="Plan(x)")
    monkeypatch.setenv("HIPCXX", "no-such-compiler")
    with pytest.raises(KernelError) as caught:
        build.compiler(HIP)
    assert str(caught.value) == (
        "no HIP compiler was found.\n  got:      none of no-such-compiler on the PATH\n"
        "  expected: g++ or clang++, or its path in HIPCXX\n  write:    install ROCm"
    )


def test_the_stream_is_the_last_argument():
    assert prototype(parse("(x: f64[n]) -> f64[n]"), Function("f", HIP)) == (
        "void f(const double* x, int64_t n, double* out, hipStream_t stream)"
    )


def _is_about_a_language(node: ast.AST) -> bool:
    words = ("cuda", "nvcc", "c++", "cxx", "g++")
    return (
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and any(word in node.value.lower() for word in words)
    )


def test_no_other_file_of_kernels_knows_a_language_by_name():
    """Apart from docstrings, the list of public functions, XLA's names of platforms in from_handler.py, and C++ templates."""
    found = []
    for path in sorted(KERNELS.glob("*.py")):
        tree = ast.parse(path.read_text())
        docs = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        if path.name not in ("languages.py", "__init__.py", "from_handler.py", "templates.py"):
            found += [
                (path.name, node.value)
                for node in ast.walk(tree)
                if _is_about_a_language(node) and id(node) not in docs
            ]
    assert found == []
