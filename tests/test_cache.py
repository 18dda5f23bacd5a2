"""The folder of compiled kernels: only what jaxprim wrote is listed, and ever removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jaxprim import _cache
from jaxprim.kernels import build

KEY = "0123456789abcdef01234567"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache in a folder that has other things too."""
    monkeypatch.setenv("JAXPRIM_CACHE", str(tmp_path))
    for index, name in enumerate([f"softmax-{KEY}", f"rms_norm-{KEY}", "my-thesis", f".rms_norm-{KEY}-abcd_123"]):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(bytes(1000 * (index + 1)))
        os.utime(tmp_path / name, (1000 - index, 1000 - index))
    (tmp_path / f"link-{KEY}").symlink_to(tmp_path / "my-thesis", target_is_directory=True)
    return tmp_path


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_entries_are_the_kernels_longest_unused_first(root):
    assert [(entry.name, entry.bytes, entry.used_s) for entry in _cache.entries(root)] == [
        ("rms_norm", 2000, 999),
        ("softmax", 1000, 1000),
    ]
    assert [entry.bytes for entry in _cache.left_over(root)] == [4000]
    assert _cache.entries(root / "not there") == []


def test_a_full_cache_loses_kernels_and_nothing_else(root, monkeypatch):
    monkeypatch.setattr(build, "MAX_BYTES", 0)
    build._prune(root)
    assert names(root) == [f"link-{KEY}", "my-thesis"]


def test_the_folder_is_that_of_the_variable_or_the_users(root, monkeypatch):
    assert _cache.folder() == root
    monkeypatch.delenv("JAXPRIM_CACHE")
    assert _cache.folder().parts[-2:] == ("jaxprim", "kernels")


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (2**20, "1.0 MiB"), (2**31, "2.0 GiB")]
)
def test_sizes_in_words(count, said):
    assert _cache.size_in_words(count) == said
