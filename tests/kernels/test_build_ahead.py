"""Which libraries are built ahead, and what becomes of a folder that is built into again. Nothing is compiled here."""

from __future__ import annotations

import ctypes
import ctypes.util
import hashlib
from pathlib import Path

import pytest
from tools import needs

from jaxprim import KernelError, kernels
from jaxprim.kernels import ahead, build_ahead, toolchain
from jaxprim.kernels.compilers import failure
from jaxprim.kernels.languages import CPP
from jaxprim.kernels.manifest import Manifest
from jaxprim.kernels.source import Source, fingerprint
from jaxprim.kernels.toolchain import Machine

HERE = toolchain.this_machine()


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The signatures that are compiled, by a compiler that refuses complex numbers and sources that are broken."""
    found: list[str] = []

    def compile_library(source: Source, work: Path) -> tuple[Path, str, Manifest]:
        found.append(source.signature)
        if "c64" in source.signature or "broken" in source.text:
            raise failure(source.name, "g++", "error: no", work, "")
        content = hashlib.sha256(f"{source.text}{source.signature}".encode()).hexdigest()
        made = work / "kernel.so"
        made.write_text(content)
        return made, content, Manifest({__file__: ("", None), "/usr/include/stdio.h": ("", None)})

    monkeypatch.setattr(build_ahead, "compile_library", compile_library)
    monkeypatch.setattr(build_ahead, "compiler", lambda language: ("g++",))
    monkeypatch.setattr(toolchain, "target", lambda words, language: HERE)
    return found


def rows(folder: Path) -> dict[str, ahead.Row]:
    ahead._read.cache_clear()
    return {row.signature: row for row in ahead.read_rows(folder) or []}


def libraries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix == ".so")


def test_each_dtype_that_is_asked_for_or_compiles(compiled, tmp_path):
    norm = kernels.cpp("", "norm(x: T[n]) -> T[n]")
    made = build_ahead.build([norm], tmp_path)
    left_out = [row.variant.dtypes["T"] for row in made if row.row is None]
    assert left_out == ["c64"]
    assert {row.dtypes["T"] for row in rows(tmp_path).values()} == {*norm.signature.covers("T")} - {"c64"}
    with pytest.raises(KernelError, match="norm: it does not compile"):  # asked for
        build_ahead.build([norm], tmp_path, types={"T": ["f32", "c64"]})
    build_ahead.build([norm], tmp_path, types={"T": ["f64"], "norm.T": ["f32"]})
    assert list(rows(tmp_path)) == ["norm(x: f32[n]) -> f32[n]"]
    assert len(libraries(tmp_path)) == 1  # what the folder had before is gone
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_a_source_that_never_compiles_is_an_error_and_changes_nothing(compiled, tmp_path):
    build_ahead.build([kernels.cpp("", "norm(x: f32[n]) -> f32[n]")], tmp_path)
    before = rows(tmp_path)
    with pytest.raises(KernelError, match="f: it does not compile"):
        build_ahead.build([kernels.cpp("broken", "f(x: T[n]) -> T[n]")], tmp_path)
    assert rows(tmp_path) == before
    assert len(libraries(tmp_path)) == 1


def test_kernels_of_one_type_of_c_function_share_a_library(compiled, tmp_path):
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    build_ahead.build([kernels.c_function(f, "(f32) -> f32") for f in (libm.cbrtf, libm.sqrtf)], tmp_path)
    assert [(row.name, row.source) for row in rows(tmp_path).values()] == [
        ("c_function", next(iter(rows(tmp_path).values())).source)
    ]
    assert len(compiled) == 1


@needs("numba")
def test_numba_needs_only_the_handler(compiled, tmp_path):
    build_ahead.build([kernels.numba(lambda x: x + 1), kernels.numba(lambda x: x, "(x: f32[n]) -> f32[n]")], tmp_path,
                      types={"T": ["f32"]})  # fmt: skip
    assert {row.name for row in rows(tmp_path).values()} == {"c_function"}


def test_a_handler_of_the_authors_own_is_one_library(compiled, tmp_path):
    build_ahead.build([kernels.cpp("", "own(x: T[...]) -> T[...]", handler="H")], tmp_path)
    (row,) = rows(tmp_path).values()
    assert (row.name, tuple(row.api)) == ("own", ahead.api_of_headers())


def test_native_is_a_library_for_each_level(compiled, tmp_path, monkeypatch):
    needed = lambda words, source, machine: ["avx2"] if source.processor == "x86-64-v3" else []
    monkeypatch.setattr(build_ahead, "_cpu", needed)
    norm = kernels.cpp("", "norm(x: f32[n]) -> f32[n]", native=True, fast_math=True)
    for machine, flags in (
        (Machine("linux", "x86_64"), [["-march=x86-64-v3"], []]),
        (Machine("macos", "x86_64"), [[]]),
    ):
        monkeypatch.setattr(toolchain, "target", lambda words, language, machine=machine: machine)
        build_ahead.build([norm], tmp_path, machine=machine)
        ahead._read.cache_clear()
        found = [row for row in ahead.read_rows(tmp_path) or [] if row.platform == str(machine)]
        assert [row.flags for row in found] == [["-ffast-math", *more] for more in flags]
    plain = kernels.cpp("", "norm(x: f32[n]) -> f32[n]")
    sources = [kernel.source(kernel.signature.resolve({})) for kernel in (norm, plain)]
    assert len({fingerprint(source) for source in sources}) == 2


def test_other_modules_and_machines_keep_their_rows(compiled, tmp_path, monkeypatch):
    scope: dict[str, object] = {"kernels": kernels}
    for file in ("a.py", "b.py"):
        text = f"{file[0]} = kernels.cpp('', '{file[0]}(x: f32[n]) -> f32[n]')"
        exec(compile(text, str(tmp_path / file), "exec"), scope)
    out = tmp_path / "_kernels"
    build_ahead.build([scope["a"], scope["b"]], out)
    build_ahead.build([kernels.cpp("// new", "c(x: f32[n]) -> f32[n]")], out)
    scope["a"]._origin = scope["b"]._origin  # the kernel `a` now stands in b.py, and b.py has no `b` any more
    build_ahead.build([scope["a"]], out)
    assert {(row.name, *row.modules) for row in rows(out).values()} >= {("a", "../a.py", "../b.py")}
    assert "b" not in {row.name for row in rows(out).values()}
    other = toolchain.Machine("linux", "riscv64")
    monkeypatch.setattr(toolchain, "target", lambda words, language: other)
    build_ahead.build([scope["a"]], out, machine=other)
    found = ahead.read_rows(out) or []
    assert {row.platform for row in found if row.name == "a"} == {str(HERE), str(other)}


def test_only_files_of_the_package_are_compared():
    found = build_ahead._files_in_package({__file__: 0, "/usr/include/stdio.h": 0}, Path(__file__).parent / "_kernels")
    assert list(found) == ["../test_build_ahead.py"]


@pytest.mark.parametrize(
    ("flags", "defined", "needed"),
    [
        ((), "", []),
        (("-O2",), "#define __AVX2__ 1", []),
        (("-march=native",), "#define __SSE3__ 1\n#define __AVX2__ 1\n#define __FMA__ 1", ["pni", "avx2", "fma"]),
    ],
)
def test_what_a_library_needs_of_the_processor(flags, defined, needed, monkeypatch):
    class Done:
        stdout = defined

    monkeypatch.setattr(build_ahead, "run", lambda command: Done)
    source = Source("f", "", CPP, flags=flags)
    assert build_ahead._cpu(["g++"], source, toolchain.Machine("linux", "x86_64")) == needed
    assert build_ahead._cpu(["clang++"], source, toolchain.Machine("macos", "aarch64")) == []
