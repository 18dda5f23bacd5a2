"""The command lines, for compilers and machines that the tests do not have."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace

import pytest

from jaxprim import KernelError
from jaxprim.kernels import compile as compiling
from jaxprim.kernels import toolchain
from jaxprim.kernels.languages import CPP, CUDA
from jaxprim.kernels.source import Source
from jaxprim.kernels.toolchain import Machine, Unit

UNIT = Unit("kernel.cpp", ("-O3",), ("mine",), ("xla",))
LINUX, MACOS, WINDOWS = Machine("linux", "x86_64"), Machine("macos", "aarch64"), Machine("windows", "x86_64")


def test_gcc_on_linux():
    assert toolchain.object_command(["g++"], UNIT, "0.o") == [
        "g++", "-O3", "-Imine", "-isystem", "xla", "kernel.cpp", "-c", "-o", "0.o",
    ]  # fmt: skip
    flags = ("-O3", "-march=native", *toolchain.fast_math(["g++"]), "-Ofast")
    made = ["g++", "-funsafe-math-optimizations"], flags, ["0.o", "1.o"], ["m", "/lib/a.so"], ["f"], LINUX, "work/k.so"
    assert toolchain.library_command(*made) == [
        "g++", "-O3", "-march=native", "0.o", "1.o", "-lm", "/lib/a.so",
        "-Xlinker", "--version-script=work/exports", "-Xlinker", "--verbose", "-o", "work/k.so",
    ]  # fmt: skip
    assert toolchain.headers_command(["g++"], UNIT, "-v")[-2:] == ["-M", "-v"]
    assert toolchain.begin(["g++"], Unit("a.c", is_c=True)) == ["g++", "-x", "c", "a.c"]


def test_clang_on_macos():
    assert toolchain.library_command(["clang++"], ["-O3"], ["0.o"], ["m"], ["f", "g"], MACOS, "k.so") == [
        "clang++", "-O3", "0.o", "-lm", "-Xlinker", "-exported_symbol", "-Xlinker", "_f", "-Xlinker", "-exported_symbol", "-Xlinker", "_g",
        "-Xlinker", "-t", "-o", "k.so",
    ]  # fmt: skip


@pytest.mark.parametrize("cl", ["cl", r"C:\VC\bin\cl.exe", "clang-cl"])
def test_microsofts_compiler(cl):
    begin = [cl, "-O3", "/Imine", "/external:W0", "/external:I", "xla", "kernel.cpp"]
    assert toolchain.object_command([cl], UNIT, "0.obj") == [*begin, "/c", "/Fo0.obj"]
    assert toolchain.library_command([cl], ["/LD"], ["0.obj"], ["fftw3", "b.lib"], ["f"], WINDOWS, "work/k.dll") == [
        cl, "/LD", "0.obj", "/Fework/k.dll", "/Fowork/", "/link", "/EXPORT:f", "fftw3.lib", "b.lib",
    ]  # fmt: skip
    assert toolchain.headers_command([cl], UNIT, "-v")[-2:] == ["/Zs", "/sourceDependencies-"]
    said = "kernel.cpp\n" + json.dumps({"Data": {"Includes": [r"C:\a b\x.h", "y.h"]}})
    assert toolchain.included([cl], said) == r"unit: C:\a\ b\x.h y.h"
    assert toolchain.included([cl], "error") is None


def test_microsofts_compiler_gets_its_own_options(tmp_path):
    source = Source("f", "", flags=("/arch:AVX2",), files=(tmp_path / "helper.c",))
    main, in_c = compiling.units(source, ["cl"], tmp_path)
    own = ("/nologo", "/std:c++17", "/Zc:__cplusplus", "/O2", "/EHsc", "/MD", "/LD", "/arch:AVX2")
    assert main.flags == own
    assert in_c.flags == tuple(flag for flag in own if flag != "/std:c++17")
    assert compiling.flags(source, ["g++"])[:1] == ["-std=c++17"]


def test_the_options_of_speed(monkeypatch):
    source = Source("norm", "", fast_math=True, processor="native", flags=("-mine",))
    monkeypatch.setattr(toolchain, "target", lambda words, language: LINUX)
    assert compiling.flags(source, ("g++",))[-3:] == ["-ffast-math", "-march=native", "-mine"]
    monkeypatch.setattr(toolchain, "target", lambda words, language: MACOS)
    assert compiling.flags(source, ("clang++",))[-3:] == ["-ffast-math", "-mcpu=native", "-mine"]
    assert compiling.flags(replace(source, processor=""), ("cl",))[-2:] == ["/fp:fast", "-mine"]
    with pytest.raises(KernelError) as caught:
        compiling.flags(source, (r"C:\VC\cl.exe",))
    assert str(caught.value).splitlines() == [
        "norm: this compiler has no option for native=True.",
        "  got:      cl.exe",
        "  expected: g++ or clang++, of 2021 or later",
        "  write:    flags=['/arch:AVX2']  # instead of native=True",
    ]
    assert compiling.flags(Source("norm", ""), ("cl",)) == list(CPP.microsoft_flags)


def test_levels_are_for_machines_that_say_what_they_have():
    assert toolchain.levels(LINUX) == ("x86-64-v3", "")
    assert (
        toolchain.levels(MACOS) == toolchain.levels(WINDOWS) == toolchain.levels(Machine("linux", "aarch64")) == ("",)
    )


def test_suffixes():
    assert [toolchain.library_suffix(machine) for machine in (LINUX, MACOS, WINDOWS)] == [".so", ".so", ".dll"]


@pytest.mark.parametrize(
    ("triple", "machine"),
    [
        ("x86_64-linux-gnu", "linux-x86_64"),
        ("aarch64-linux-gnu", "linux-aarch64"),
        ("aarch64-unknown-linux-musl", "linux-aarch64"),
        ("arm64-apple-darwin23.1.0", "macos-aarch64"),
        ("x86_64-apple-macosx10.13", "macos-x86_64"),
        ("x86_64-w64-mingw32", "windows-x86_64"),
        ("x86_64-pc-windows-msvc", "windows-x86_64"),
        ("riscv64-linux-gnu", "linux-riscv64"),
        ("", str(toolchain.this_machine())),
    ],
)
def test_a_compiler_says_for_which_machine_it_builds(triple, machine, monkeypatch):
    done = subprocess.CompletedProcess([], 0, stdout=f"{triple}\n", stderr="")
    monkeypatch.setattr(toolchain, "run", lambda command: done)
    assert str(toolchain.target((f"{triple}-g++",), CPP)) == machine


def test_machines_that_are_not_asked(monkeypatch):
    monkeypatch.setenv("VSCMD_ARG_TGT_ARCH", "arm64")
    assert str(toolchain.target(("cl",), CPP)) == "windows-aarch64"
    assert toolchain.target(("nvcc",), CUDA) == toolchain.this_machine()


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("linux-aarch64", "linux_aarch64"), ("Linux_X86_64", "linux_x86_64"), ("windows-amd64", "win_amd64"),
        ("win-arm64", "win_arm64"), ("macos-arm64", "macosx_14_2_arm64"), ("macosx-x86_64", "macosx_14_2_x86_64"),
    ],
)  # fmt: skip
def test_the_platform_in_the_name_of_a_wheel(name, tag, monkeypatch):
    monkeypatch.setenv("MACOSX_DEPLOYMENT_TARGET", "14.2")
    assert toolchain.machine_of(name).tag == tag
    assert toolchain.machine_of(str(toolchain.machine_of(name))).tag == tag


@pytest.mark.parametrize("name", ["", "linux", "beos-x86_64", "linux-"])
def test_an_unknown_platform_is_refused(name):
    with pytest.raises(KernelError, match=r"unknown platform.*\n.*\n.*\n.*--platform linux-aarch64"):
        toolchain.machine_of(name)
