"""docs/design/change-guide.md names files and folders; each of them exists."""

from __future__ import annotations

import re

import pages
import pytest

GUIDE = pages.ROOT / "docs" / "design" / "change-guide.md"
PATH = re.compile(r"`([\w.-]+/[\w./-]*|[\w-]+\.(?:md|toml))`")


def changes(text: str) -> dict[str, list[str]]:
    """The paths in backticks under each second heading."""
    titles = re.split(r"^## +(.*)$", text, flags=re.MULTILINE)[1:]
    return {title: PATH.findall(body) for title, body in zip(titles[::2], titles[1::2], strict=True)}


def absent(paths: list[str]) -> list[str]:
    """The paths that are not in the repository; one that ends in a slash must be a folder."""
    return [path for path in paths if not (pages.ROOT / path).exists() or path.endswith("/") != is_folder(path)]


def is_folder(path: str) -> bool:
    return (pages.ROOT / path).is_dir()


CHANGES = changes(GUIDE.read_text())


@pytest.mark.parametrize("change", CHANGES)
def test_every_file_exists(change):
    assert absent(CHANGES[change]) == []


def test_there_are_thirteen_changes_with_files():
    assert len(CHANGES) == 13
    assert [change for change, paths in CHANGES.items() if len(paths) < 2] == []


def test_contributing_links_every_change():
    """How to add something is written once, on the page of the changes."""
    links = pages.links((pages.ROOT / "CONTRIBUTING.md").read_text())
    wanted = pages.anchors(GUIDE.read_text()) - {"change-guide"}
    assert (
        wanted - {link.partition("#")[2] for link in links if link.startswith("docs/design/change-guide.md#")} == set()
    )


# The tests above, tested with faults.


@pytest.mark.parametrize("path", ["src/jaxprim/no_such.py", "no_such/", "docs/design", "README.md/", "NO_SUCH.md"])
def test_a_wrong_path_is_caught(path):
    assert absent(
        changes(f"# A page\n\n## A change\n\n1. `{path}`: text, `def_jvp`, `jaxprim doctor`.\n")["A change"]
    ) == [path]


def test_right_paths_pass():
    paths = changes("## One\n`docs/`: `src/jaxprim/__init__.py`\n## Two\n`README.md`\n")
    assert paths == {"One": ["docs/", "src/jaxprim/__init__.py"], "Two": ["README.md"]}
    assert absent(paths["One"] + paths["Two"]) == []
