"""The pages fit together: none is left out of the list, and all pages about a rule have one form."""

from __future__ import annotations

import os
import subprocess
import sys

import pages
import pytest

import jaxprim
from jaxprim._checkable import Checkable

DOCS = pages.ROOT / "docs"
RULES = sorted((DOCS / "rules").glob("*.md"))
HEADINGS = ["Signature", "When it runs", "Without it", "Example", "Mistakes"]


def headings(path):
    return [match["title"] for match in pages.HEADING.finditer(pages.prose(path.read_text()))]


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_a_page_about_a_rule_has_the_form_of_all(path):
    title, *rest = headings(path)
    method = "def_" + path.stem.replace("-", "_")
    assert title.startswith(f"`{method}`: ")
    assert rest == HEADINGS
    assert hasattr(jaxprim.Primitive, method)


def test_every_rule_has_a_page():
    methods = {name for name in dir(jaxprim.Primitive) if name.startswith("def_")}
    for_the_checker = {name for name in dir(Checkable) if name.startswith("def_")}
    assert {"def_" + path.stem.replace("-", "_") for path in RULES} == methods - for_the_checker


def listed(index):
    return {(index.parent / target.partition("#")[0]).resolve() for target in pages.links(index.read_text())}


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=pages.relative)
def test_a_page_is_in_the_list(path):
    """In that of all pages; or in that of its folder, which is in that of all."""
    top, own = DOCS / "README.md", path.parent / "README.md"
    of_folder = listed(own) if own in listed(top) else set()
    assert path in listed(top) | of_folder | {top}


def test_every_error_is_explained():
    text = (DOCS / "errors.md").read_text()
    errors = [name for name in jaxprim.__all__ if isinstance(getattr(jaxprim, name), type)]
    kinds = [name for name in errors if issubclass(getattr(jaxprim, name), jaxprim.JaxprimError)]
    assert [name for name in kinds if f"`{name}`" not in text and f"`jaxprim.{name}`" not in text] == []


def test_the_architecture_names_every_module():
    text = (DOCS / "design" / "architecture.md").read_text()
    source = pages.ROOT / "src" / "jaxprim"
    modules = {path.stem for path in source.glob("*.py")} - {"__init__", "__main__"}
    folders = {path.parent.name + "/" for path in source.glob("*/__init__.py")}
    assert [name for name in sorted(modules | folders) if f"`{name}`" not in text and f"`{name}.py`" not in text] == []


def test_modes_hold_under_the_other_checkpoint():
    """docs/modes.md says so: with JAX_REMAT3=1, the value under a checkpoint is the implementation's, except in `jvp`."""
    blocks = list(pages.blocks((DOCS / "modes.md").read_text()))
    code = "\n".join(block.text for block in blocks if block.info == ("python",))
    run = subprocess.run(
        [sys.executable, "-"],
        input=code,
        env={**os.environ, "JAX_REMAT3": "1", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    )
    page = next(block.text for block in blocks if block.info == ("output",)).splitlines()
    expected = [line.split() for line in page]
    by_the_impl = [words for words in expected if "checkpoint" in words and words[0] != "jvp"]
    assert by_the_impl
    for words in by_the_impl:
        words[-2] = "1"
    assert [line.split() for line in run.stdout.splitlines()[: len(page)]] == expected
