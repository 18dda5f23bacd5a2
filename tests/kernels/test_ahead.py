"""Libraries that were built ahead: a package runs where there is no compiler, and what does not fit is named."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tools import cxx

from jaxprim import KernelError, kernels
from jaxprim.kernels import ahead, build
from jaxprim.kernels.ahead import Row
from jaxprim.kernels.metadata import api_of
from jaxprim.kernels.source import HANDLER_API, Source, fingerprint
from jaxprim.kernels.toolchain import levels, this_machine

OPS = """
import ctypes, ctypes.util
from pathlib import Path
from jaxprim import Primitive, kernels

square_kernel = kernels.cpp(
    Path(__file__).parent / "square.cpp", "square(x: T[..., n]) -> T[..., n]", fast_math=True, native=True
)
square = Primitive("square")
square.def_impl(square_kernel)
square.def_vjp(lambda primals: (square(*primals), lambda y_bar: 2 * primals[0] * y_bar))
cbrt = kernels.c_function(ctypes.CDLL(ctypes.util.find_library("m")).cbrtf, "(f32) -> f32")
"""
SQUARE = """
#include "factor.h"
template <class T> void square(const T* x, int64_t n, T* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = FACTOR * x[i] * x[i];
}
"""
BUILD = """
import sys
from jaxprim.cli import main

main(["build", "aheadpkg", "--type", "T=f32"], standalone_mode=False)
from jax._src import xla_bridge

maps = open("/proc/self/maps").read() if sys.platform == "linux" else ""
print("devices", xla_bridge.backends_are_initialized(), "loaded", "_kernels" in maps)
"""
USE = """
import sys
sys.modules["platformdirs"] = sys.modules["filelock"] = None
import jax, jax.numpy as jnp
from aheadpkg.ops import cbrt, square

print(jax.grad(lambda x: square(x).sum())(jnp.array([1.0, 2.0])).tolist())
print(jax.jit(jax.vmap(square))(jnp.array([[1.0], [3.0]])).tolist(), float(cbrt(8.0)))
try:
    square(jnp.array([1, 2]))
except Exception as error:
    print(error)
"""


def python(program: str, folder: Path, **environment: str) -> str:
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(paths), **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@cxx
def test_a_package_that_was_built_ahead_needs_neither_compiler_nor_cache(tmp_path, monkeypatch):
    package = tmp_path / "aheadpkg"
    package.mkdir()
    (package / "__init__.py").write_text("from aheadpkg import ops")
    (package / "ops.py").write_text(OPS)
    (package / "square.cpp").write_text(SQUARE)
    (package / "factor.h").write_text("#define FACTOR 1")
    assert "devices False loaded False" in python(BUILD, tmp_path)

    (tmp_path / "empty").mkdir()
    away = {"PATH": str(tmp_path / "empty"), "JAXPRIM_CACHE": str(tmp_path / "cache")}
    gradient, values, *error = python(USE, tmp_path, **away).splitlines()
    assert (gradient, values) == ("[2.0, 4.0]", "[[1.0], [9.0]] 2.0")
    assert error[:3] == [
        "square: it was not built ahead for this signature, and no C++ compiler was found.",
        f"  got:      {Path('aheadpkg/_kernels')}: square(x: f32[..., n]) -> f32[..., n]",
        "  expected: square(x: i32[..., n]) -> i32[..., n]",
    ]
    assert not (tmp_path / "cache").exists()

    found = ahead.read_rows(package / "_kernels") or []
    rows = {row.name: row for row in found}
    assert sorted(rows) == ["c_function", "square"]
    # One library for every processor, the last, and one for newer ones. Neither says `native`.
    flags = [["-ffast-math", f"-march={level}"] if level else ["-ffast-math"] for level in levels(this_machine())]
    assert [row.flags for row in found if row.name == "square"] == flags
    assert rows["square"].files.keys() == {"../square.cpp", "../factor.h"}
    assert (rows["square"].dtypes, rows["square"].modules, rows["square"].cpu) == ({"T": "f32"}, ["../ops.py"], [])
    # The library tells XLA of the oldest version that it can use, so that XLA takes it in every supported JAX.
    library = ctypes.CDLL(str(package / "_kernels" / rows["square"].library))
    assert api_of(ctypes.cast(library.jaxprim_handler, ctypes.c_void_p).value or 0) == HANDLER_API == (0, 2)

    # With a compiler, what is stale is compiled into the cache instead.
    (package / "factor.h").write_text("#define FACTOR 2")
    monkeypatch.setattr(build, "_from_cache", lambda source: pytest.fail(f"compiled {source.name}"))
    made = kernels.cpp(package / "square.cpp", "square(x: T[..., n]) -> T[..., n]", fast_math=True, native=True)
    source = made.source(made.signature.resolve({"T": "f32"}))
    with pytest.raises(pytest.fail.Exception, match="compiled square"):
        build.library(replace(source, beside=(package / "_kernels",)))


# ----------------------------------------------------------------------------------------------------- what does not fit
SOURCE = Source(
    "norm", "void norm() {}", signature="norm(x: f32[n]) -> f32[n]", handler="generated", contract=("a", "b")
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a manifest of one library, in a place without a compiler."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    (tmp_path / "_kernels").mkdir()
    (tmp_path / "norm.h").write_text("one")
    write(tmp_path / "_kernels")
    return tmp_path / "_kernels"


def write(folder: Path, **changed: object) -> None:
    row = Row(
        "norm", SOURCE.signature, {}, "C++", fingerprint(SOURCE), (0, 2), str(this_machine()), [], "norm.so", "d" * 64
    )
    (folder / ahead.MANIFEST).write_text(ahead.to_json([replace(row, **changed)], "0.1.0"))
    ahead._read.cache_clear()


def said(source: Source, folder: Path) -> str:
    with pytest.raises(KernelError) as caught:
        build.library(replace(source, beside=(folder,)))
    return str(caught.value)


def test_what_fits_is_found_without_looking_for_a_compiler(folder):
    found = ahead.find(replace(SOURCE, beside=(folder.parent / "nothing here", folder)))
    assert found == ahead.Built(folder / "norm.so", f"{fingerprint(SOURCE)[:16]}.dddddddd")
    # Another release of jaxprim writes another handler from the same contract; paths and places differ everywhere.
    other = replace(SOURCE, handler="generated otherwise", place="#line 3", beside=(folder,), include=(folder,))
    assert ahead.find(other) == found


def test_a_folder_that_is_named_comes_first(folder, monkeypatch, tmp_path):
    (tmp_path / "named").mkdir()
    (folder / ahead.MANIFEST).rename(tmp_path / "named" / ahead.MANIFEST)
    monkeypatch.setenv("JAXPRIM_KERNELS", f"{tmp_path / 'not there'}{os.pathsep}{tmp_path / 'named'}")
    assert ahead.find(SOURCE) == ahead.Built(tmp_path / "named" / "norm.so", f"{fingerprint(SOURCE)[:16]}.dddddddd")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2, "kernels": []}', '{"format": 1, "kernels": [3]}'])
def test_a_manifest_that_cannot_be_read_is_none(folder, text):
    (folder / ahead.MANIFEST).write_text(text)
    ahead._read.cache_clear()
    assert ahead.find(replace(SOURCE, beside=(folder,))) is None


WRITE = "  write:    jaxprim build MODULE  # where there is a compiler"
WHY = "  why:      with g++ or clang++ on the PATH it would be compiled here"


def facts(headline: str, got: str, expected: str) -> str:
    return "\n".join(
        [
            f"norm: {headline}, and no C++ compiler was found.",
            f"  got:      {got}",
            f"  expected: {expected}",
            WHY,
            WRITE,
        ]
    )


def test_a_changed_source(folder):
    assert said(replace(SOURCE, text="void norm() { }"), folder) == facts(
        "its source has changed since its library was built ahead",
        "_kernels: a library of another source, or of other options",
        "one of this source",
    )


def test_a_changed_header(folder):
    write(folder, files={"../norm.h": "another digest", "../not there.h": "not shipped"})
    assert said(SOURCE, folder) == facts(
        "a file has changed since its library was built ahead",
        "_kernels: a library of another ../norm.h",
        "one of this file",
    )


def test_another_signature(folder):
    assert said(replace(SOURCE, signature="norm(x: i8[n]) -> i8[n]", contract=("c",)), folder) == facts(
        "it was not built ahead for this signature", f"_kernels: {SOURCE.signature}", "norm(x: i8[n]) -> i8[n]"
    )


def test_a_kernel_that_is_not_there(folder):
    assert said(replace(SOURCE, name="other", text=""), folder).splitlines()[:3] == [
        "other: it was not built ahead, and no C++ compiler was found.",
        "  got:      _kernels: libraries of norm",
        f"  expected: one of other: {SOURCE.signature}",
    ]


def test_another_platform(folder):
    write(folder, platform="beos-ppc")
    assert said(SOURCE, folder) == facts(
        "its library was built ahead for another platform", "_kernels: beos-ppc", str(this_machine())
    )


@pytest.mark.parametrize("api", [(0, 99), (1, 0)])
def test_a_later_version_of_xlas_api(folder, monkeypatch, api):
    monkeypatch.setattr(ahead, "api_of_headers", lambda: (0, 3))
    write(folder, api=api)
    assert said(SOURCE, folder) == facts(
        "its library was built ahead with a later version of XLA's API",
        f"_kernels: a library for version {api[0]}.{api[1]} and later ones",
        "at most 0.3, which this JAX has: build with the oldest JAX that it is for",
    )


def test_another_processor(folder, monkeypatch):
    monkeypatch.setattr(ahead, "features", lambda: frozenset({"avx"}))
    write(folder, cpu=["avx", "avx2"])
    assert said(SOURCE, folder) == facts(
        "its library was built ahead for another processor",
        "_kernels: a library that needs avx, avx2",
        "a processor with avx2, or a library that was built without -march=",
    )
    monkeypatch.setattr(ahead, "features", frozenset)  # where the system does not say, the library is tried
    assert isinstance(ahead.find(replace(SOURCE, beside=(folder,))), ahead.Built)


def test_of_the_libraries_that_fit_the_one_for_the_newest_processor_is_used(folder, monkeypatch):
    row = (ahead.read_rows(folder) or [])[0]
    rows = [
        replace(row, library=f"{len(cpu)}.so", cpu=cpu) for cpu in ([], ["avx", "avx2"], ["avx", "avx2", "avx512f"])
    ]
    (folder / ahead.MANIFEST).write_text(ahead.to_json(rows, "0.1.0"))
    ahead._read.cache_clear()
    for known, library in (({"avx", "avx2", "fma"}, "2.so"), ({"avx"}, "0.so"), ({*rows[2].cpu}, "3.so")):
        monkeypatch.setattr(ahead, "features", lambda known=known: frozenset(known))
        assert ahead.find(replace(SOURCE, beside=(folder,))).path.name == library


@pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: the words of Linux's loader")
def test_a_library_that_cannot_be_loaded(folder):
    (folder / "norm.so").write_bytes(b"no library")
    assert said(SOURCE, folder) == facts(
        "it can't be loaded", "_kernels/norm.so: file too short", "a library that this machine can load"
    )


@pytest.mark.parametrize(
    ("module", "file", "places"),
    [
        ("pkg.sub.ops", "/s/pkg/sub/ops.py", ["/s/pkg/sub", "/s/pkg"]),
        ("pkg.sub", "/s/pkg/sub/__init__.py", ["/s/pkg/sub", "/s/pkg"]),
        ("pkg", "/s/pkg/__init__.py", ["/s/pkg"]),
        ("ops", "/s/ops.py", ["/s"]),
        ("__main__", "/s/ops.py", ["/s"]),
    ],
)
def test_libraries_lie_beside_the_module_or_in_a_package_around_it(module, file, places):
    scope = {"__name__": module, "folders": ahead.folders}
    exec(compile("found = folders()", file, "exec"), scope)
    assert scope["found"] == tuple(Path(place) / "_kernels" for place in places)


def test_the_manifest_is_plain(folder):
    """Other tools may read it: it is JSON, and says in which format."""
    found = json.loads((folder / ahead.MANIFEST).read_text())
    assert (found["format"], found["jaxprim"]) == (1, "0.1.0")
    assert found["kernels"][0]["signature"] == SOURCE.signature
