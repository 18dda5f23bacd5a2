"""A library is compiled again when anything changes that it was made from, and only then."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tools import cxx

from jaxprim.kernels import build, manifest
from jaxprim.kernels.build import Source

pytestmark = cxx

N = '#include <number.h>\nextern "C" int n() { return NUMBER; }'


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("JAXPRIM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def number(folder: Path, value: int, name: str = "number.h") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#define NUMBER {value}\n")
    return folder


def compiled(source: Source) -> int:
    return build.library(source)[0].n()


def unchanged(source: Source, monkeypatch) -> None:
    """The next use finds the library in the cache."""
    with monkeypatch.context() as patched:
        patched.setattr(build, "_compile", None)
        build.library(source)


@pytest.mark.parametrize("name", ["plain", "with space", "a$b", "a#b", "é", "a:b", "tab\there", "a\\b", "it's", "a%b"])
def test_a_header_in_a_folder_of_any_name(tmp_path, monkeypatch, name):
    source = Source("n", N, include=(number(tmp_path / name, 1),))
    assert compiled(source) == 1
    unchanged(source, monkeypatch)
    number(tmp_path / name, 2)
    assert compiled(source) == 2


def test_a_header_that_now_comes_first(tmp_path, monkeypatch):
    """In a folder that was there, in one that was not, and beside the header that includes it."""
    (tmp_path / "early").mkdir()
    number(tmp_path / "late", 1, "real.h")
    (tmp_path / "late" / "number.h").write_text('#include "real.h"\n')
    late = tmp_path / "late"
    source = Source("n", N, include=(tmp_path / "not there", tmp_path / "early", late))
    assert compiled(source) == 1
    (tmp_path / "early" / "unrelated.h").touch()
    unchanged(source, monkeypatch)
    number(tmp_path / "early", 2, "real.h")  # the header in quotes is looked up beside late/number.h first
    unchanged(source, monkeypatch)
    number(tmp_path / "early", 3)
    assert compiled(source) == 3
    number(tmp_path / "not there", 4)
    assert compiled(source) == 4
    shutil.rmtree(tmp_path / "not there")
    assert compiled(source) == 3


def test_a_header_that_shadows_one_of_the_system(tmp_path):
    source = Source("n", '#include <limits.h>\nextern "C" int n() { return INT_MAX; }', include=(tmp_path,))
    assert compiled(source) == 2**31 - 1
    (tmp_path / "limits.h").write_text("#define INT_MAX 7\n")
    assert compiled(source) == 7


def test_a_header_that_a_source_asks_for(tmp_path):
    """By __has_include, by a macro, and by #include_next."""
    text = (
        "#if __has_include(<number.h>)\n#include <number.h>\n#else\n#define NUMBER 1\n#endif\n" + N.partition("\n")[2]
    )
    source = Source("n", text, include=(tmp_path,))
    assert compiled(source) == 1
    number(tmp_path, 2)
    assert compiled(source) == 2
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    number(third, 3)
    first.mkdir(), second.mkdir()
    (first / "number.h").write_text("#include_next <number.h>\n")
    source = Source("n", "#define NAME <number.h>\n" + N.replace("<number.h>", "NAME"), include=(first, second, third))
    assert compiled(source) == 3
    number(second, 4)
    assert compiled(source) == 4


def test_a_link_that_leads_elsewhere(tmp_path):
    number(tmp_path / "v1", 1), number(tmp_path / "v2", 2)
    link = tmp_path / "current"
    link.symlink_to(tmp_path / "v1")
    plain, system = Source("n", N, include=(link,)), Source("n", N, flags=("-isystem", str(link)))
    assert (compiled(plain), compiled(system)) == (1, 1)
    link.unlink()
    link.symlink_to(tmp_path / "v2")
    assert (compiled(plain), compiled(system)) == (2, 2)


@pytest.mark.parametrize("flags", [("-Iinclude",), ("-I", "include"), ("-include", "include/number.h"), ("-I.",)])
def test_a_relative_path_in_two_folders(tmp_path, monkeypatch, flags):
    header = "include/number.h" if flags == ("-I.",) else "number.h"
    source = Source("n", N.replace("number.h", header) if flags[0] != "-include" else N.partition("\n")[2], flags=flags)
    for value in (1, 2):
        number(tmp_path / str(value) / "include", value)
        monkeypatch.chdir(tmp_path / str(value))
        assert compiled(source) == value
    monkeypatch.chdir(tmp_path / "1")
    assert compiled(source) == 1


@pytest.mark.parametrize("variable", ["CPATH", "CPLUS_INCLUDE_PATH"])
def test_folders_of_the_environment(tmp_path, monkeypatch, variable):
    source = Source("n", N)
    for value in (1, 2):
        monkeypatch.setenv(variable, str(number(tmp_path / str(value), value)))
        assert compiled(source) == value
    number(tmp_path / "2", 3)
    assert compiled(source) == 3
    monkeypatch.setenv(variable, ".")
    for value in (4, 5):
        monkeypatch.chdir(number(tmp_path / str(value), value))
        assert compiled(source) == value


def archive(folder: Path, value: int) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "value.cpp").write_text(f'extern "C" int value() {{ return {value}; }}')
    (folder / "libvalue.a").unlink(missing_ok=True)
    for command in ("g++ -fPIC -c value.cpp", "ar rc libvalue.a value.o"):
        subprocess.run(command.split(), cwd=folder, check=True)
    return folder


@pytest.mark.skipif(not shutil.which("ar") or not shutil.which("g++"), reason="NOT TESTED: no ar or g++ here")
def test_a_static_library(tmp_path, monkeypatch):
    """By its path, by its name, by a flag, and one that now comes first."""
    early, late = tmp_path / "early", archive(tmp_path / "late", 1)
    early.mkdir()
    text = 'extern "C" int value(); extern "C" int n() { return value(); }'
    sources = [
        Source("n", text, libraries=(str(late / "libvalue.a"),)),
        Source("n", text, flags=(f"-L{early}", f"-L{late}"), libraries=("value",)),
        Source("n", text, libraries=(f"-L{late}", "-lvalue")),
    ]
    assert [compiled(source) for source in sources] == [1, 1, 1]
    for source in sources:
        unchanged(source, monkeypatch)
    archive(late, 2)
    assert [compiled(source) for source in sources] == [2, 2, 2]
    archive(early, 3)
    assert [compiled(source) for source in sources] == [2, 3, 2]


def test_a_file_whose_times_alone_changed_is_the_same(tmp_path, monkeypatch):
    source = Source("n", N, include=(number(tmp_path, 1),))
    compiled(source)
    os.utime(tmp_path / "number.h", (1, 1))
    unchanged(source, monkeypatch)


def test_a_change_within_the_clocks_tick_is_seen(tmp_path):
    file = tmp_path / "file"
    file.write_text("1")
    found = manifest.Manifest()
    found.add_file(str(file))
    times = file.stat()
    file.write_text("2")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert not found.holds()


# ------------------------------------------------------------------------------------------------------ killed processes
KILLED = """
import os, pathlib, sys, warnings
from jaxprim.kernels import build

warnings.filterwarnings("ignore", message=".*fork")
EVENTS = ("open", "os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.chmod", "os.utime", "subprocess.Popen", "shutil.rmtree")
cache, folder, text = os.environ["JAXPRIM_CACHE"], pathlib.Path(sys.argv[1]), sys.argv[2]
source = build.Source("n", text, include=(folder,))
build.version(build.compiler(source.language))

def forked(work):
    child = os.fork()
    if child == 0:
        try:
            os._exit(work())
        finally:
            os._exit(66)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def killed_at(step):
    left = [step]
    def hook(event, args):
        if event in EVENTS and (event == "subprocess.Popen" or cache in str(args)):
            left[0] -= 1
            if left[0] == 0:
                os._exit(77)
    sys.addaudithook(hook)
    return build.library(source)[0].n()

for step in range(1, 60):
    (folder / "number.h").write_text(f"#define NUMBER {step}")
    ended = forked(lambda: killed_at(step))
    said = forked(lambda: build.library(source)[0].n())
    print(step, ended, said)
    if ended != 77:
        break
"""


def test_a_process_that_is_killed_at_any_step_leaves_nothing_old(cache, tmp_path):
    """The next process computes with the header as it is now, wherever the one before it ended."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), N], capture_output=True, text=True, check=True, timeout=500
    )
    rows = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(rows) > 15
    *killed, (last, ended, said) = rows
    assert killed == [(step, 77, step) for step in range(1, last)]
    assert (ended, said) == (last, last)
