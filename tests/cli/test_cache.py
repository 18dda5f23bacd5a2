"""`jaxprim cache`: what it lists, and what it removes."""

from __future__ import annotations

import pytest
from programs import run

KEY = "0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXPRIM_CACHE", str(tmp_path))
    for name in ("softmax", "rms_norm"):
        (tmp_path / f"{name}-{KEY}").mkdir()
        (tmp_path / f"{name}-{KEY}" / "file").write_bytes(bytes(1024))
    (tmp_path / "other").mkdir()
    return tmp_path


def test_list_and_path(cache):
    assert run("cache", "path").output == f"{cache}\n"
    lines = run("cache", "list").output.splitlines()
    assert lines[-1] == f"2 kernels, 2.0 KiB, in {cache}"
    assert sorted(line.split()[2:] for line in lines[:-1]) == [
        ["1.0", "KiB", "rms_norm", KEY],
        ["1.0", "KiB", "softmax", KEY],
    ]


def test_clear_takes_out_what_it_is_told(cache):
    assert run("cache", "clear", "--unused-for", "1").output == f"removed 0 kernels, 0 bytes, in {cache}\n"
    assert run("cache", "clear", "nothing").exit_code == 2
    assert run("cache", "clear", "softmax").output == f"removed 1 kernel, 1.0 KiB, in {cache}\n"
    assert run("cache", "clear").output == f"removed 1 kernel, 1.0 KiB, in {cache}\n"
    assert [path.name for path in cache.iterdir()] == ["other"]
