"""The pages say what is so: their code runs, their output is what is printed, their versions and links are right.

A page's `python` blocks run in order in one namespace, under JAX's defaults. Behind `python` may stand:

- `notest`: the block is compiled, not run;
- `raises=Name`: the block must raise an exception of that class.

A block fenced as `output` is what the Python block before it prints; behind `output roughly`, what a line says from
`error 1.1e-06` on may be something else.
"""

from __future__ import annotations

import builtins
import contextlib
import doctest
import importlib
import inspect
import io
import linecache
import pkgutil
import re
import sys
import tomllib
import types
from pathlib import Path

import pages
import pytest
from jax_versions import RELEASES, SUPPORTED

import jaxprim

META = tomllib.loads((pages.ROOT / "pyproject.toml").read_text())
PAGES = pages.pages()
JAX_IN_PROSE = re.compile(r"\bJAX\s+(\d+(?:\.\d+)+)")
PYTHON_IN_PROSE = re.compile(r"\bPython\s+(\d+\.\d+)")
MEASURED = re.compile(r"\berror \d.*")  # how large the error in a report is, and where, is another machine's
OWN_IN_PROSE = re.compile(r"\bjaxprim\s+(\d+\.\d+(?:\.\d+)?)")

each_page = pytest.mark.parametrize("page", PAGES, ids=pages.relative)


class Page:
    """Runs the Python blocks of one page as one module, whose file is the page."""

    def __init__(self, path: Path, text: str):
        self.name = pages.relative(path)
        self.text = text
        self.module = types.ModuleType("a_page")
        self.printed = ""

    def compile(self, block: pages.Block) -> types.CodeType:
        """Line numbers in errors, and sources that are looked up, are the page's own."""
        return compile("\n" * (block.line - 1) + block.text, self.name, "exec", dont_inherit=True)

    def execute(self, block: pages.Block) -> None:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(self.compile(block), vars(self.module))
        self.printed = printed.getvalue()

    def take(self, block: pages.Block) -> None:
        language, *options = block.info or ("",)
        raises = [option.removeprefix("raises=") for option in options if option.startswith("raises=")]
        if language == "output":
            shown = MEASURED.sub("#", block.text) if "roughly" in options else block.text
            printed = MEASURED.sub("#", self.printed) if "roughly" in options else self.printed
            assert printed.strip() == shown.strip(), f"{self.name}:{block.line}"
        elif language == "python" and "notest" in options:
            self.compile(block)
        elif language == "python" and raises:
            with pytest.raises(self.exception(raises[0])):
                self.execute(block)
        elif language == "python":
            self.execute(block)

    def exception(self, name: str) -> type[Exception]:
        return getattr(jaxprim, name, None) or getattr(builtins, name)

    def run(self) -> None:
        lines = self.text.splitlines(keepends=True)
        linecache.cache[self.name] = (len(self.text), None, lines, self.name)
        for block in pages.blocks(self.text):
            self.take(block)


def run_page(path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page(path, text)
    monkeypatch.setitem(sys.modules, "a_page", page.module)
    monkeypatch.chdir(pages.ROOT)
    page.run()


def wrong_versions(text: str) -> list[str]:
    """A version in prose is a supported one, or the first figures of one."""

    def unknown(pattern: re.Pattern[str], known: list[str]) -> list[str]:
        return [v for v in pattern.findall(text) if not any(f"{k}.".startswith(f"{v}.") for k in known)]

    return [
        *unknown(JAX_IN_PROSE, list(RELEASES)),
        *unknown(PYTHON_IN_PROSE, list(SUPPORTED.values())),
        *unknown(OWN_IN_PROSE, [META["project"]["version"]]),
    ]


def broken_links(path: Path, text: str) -> list[str]:
    return [target for target in pages.links(text) if not resolves(path, text, target)]


def resolves(path: Path, text: str, target: str) -> bool:
    if re.match(r"[a-z][a-z0-9+.-]*:", target):  # Another site: nothing outside the repository is asked.
        return True
    file, _, anchor = target.partition("#")
    if not file:
        return anchor in pages.anchors(text)
    where = (path.parent / file).resolve()
    if not where.exists() or not where.is_relative_to(pages.ROOT):
        return False
    return not anchor or where.suffix != ".md" or anchor in pages.anchors(where.read_text())


@each_page
@pytest.mark.usefixtures("jax_defaults")
def test_code_runs(page, monkeypatch):
    run_page(page, page.read_text(), monkeypatch)


@each_page
def test_versions_are_supported_ones(page):
    assert wrong_versions(pages.prose(page.read_text())) == []


@pytest.mark.parametrize("page", pages.linked(), ids=pages.relative)
def test_links_resolve(page):
    assert broken_links(page, page.read_text()) == []


def test_readme_names_every_supported_version():
    text = (pages.ROOT / "README.md").read_text()
    assert [version for version in (*SUPPORTED, next(iter(RELEASES))) if version not in text] == []


def test_the_page_of_releases_has_a_row_for_each():
    text = (pages.ROOT / "docs" / "releases.md").read_text()
    rows = re.findall(r"^\| (\d[\d.]*) \| (\d[\d.]*) \|", text, re.MULTILINE)
    assert rows == list(RELEASES.items())


def test_metadata_agrees_with_the_table():
    project = META["project"]
    assert f"jax>={min(RELEASES, key=lambda v: [int(n) for n in v.split('.')])}" in project["dependencies"]
    classified = {c.rpartition(" ")[2] for c in project["classifiers"] if "Python :: 3." in c}
    assert classified == set(SUPPORTED.values())
    assert project["requires-python"] == f">={min(SUPPORTED.values())}"
    assert jaxprim.__version__ == project["version"]


@pytest.mark.parametrize("name", jaxprim.__all__)
def test_a_public_name_has_a_docstring(name):
    assert getattr(jaxprim, name).__doc__


def test_a_public_method_has_a_docstring():
    methods = {name: method for name, method in vars(jaxprim.Primitive).items() if not name.startswith("_")}
    assert [name for name, method in methods.items() if not method.__doc__] == []


class Finder(doctest.DocTestFinder):
    """Finds examples where they are written: a public class or function says that it is in `jaxprim`."""

    def _from_module(self, module, thing):
        if getattr(thing, "__module__", None) != "jaxprim":
            return super()._from_module(module, thing)
        return re.search(rf"^(?:class|def) {thing.__name__}\b", inspect.getsource(module), re.MULTILINE) is not None


def examples(module):
    found = importlib.import_module(module)
    return [test for test in Finder(exclude_empty=True).find(found, module) if test.examples]


@pytest.mark.parametrize("module", [m.name for m in pkgutil.walk_packages(jaxprim.__path__, "jaxprim.")])
@pytest.mark.usefixtures("jax_defaults")
def test_docstring_examples_run(module):
    if not module.endswith("__main__"):
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        assert [test.name for test in examples(module) if runner.run(test).failed] == []


def test_docstring_examples_are_found():
    names = {test.name for test in examples("jaxprim._primitive")}
    assert {
        "jaxprim._primitive.Primitive",
        "jaxprim._primitive.Primitive.def_vjp",
        "jaxprim._primitive.primitive",
    } <= names


# The tests above, tested with faults.

HERE = pages.ROOT / "docs" / "a_page.md"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("```python\n1 / 0\n```", ZeroDivisionError),
        ("```python notest\nx = = 1\n```", SyntaxError),
        ("```python raises=KeyError\n{}[1]\n```\n```python\nunknown\n```", NameError),
        ("```python raises=KeyError\n1\n```", pytest.fail.Exception),
        ("```python\nprint(1)\n```\nprints\n```output\n2\n```", AssertionError),
        ("```python\nprint('error 1.1e-06')\n```\n```output roughly\nerrors 4.8e-07\n```", AssertionError),
        ("* a list\n\n  ```python\n  x = 1\n  1 / 0\n  ```", ZeroDivisionError),
    ],
)
def test_a_wrong_block_is_caught(text, error, monkeypatch):
    with pytest.raises(error):
        run_page(HERE, text, monkeypatch)


def test_right_blocks_pass_and_share_a_namespace(monkeypatch):
    shared = "```python\nx = 1\n```\n```python\nprint(x)\n```\n```output\n1\n```\n"
    shared += "```python\nprint('error 1.1e-06')\n```\n```output roughly\nerror 4.8e-07\n```\n"
    skipped = "```python notest\n1 / 0\n```\n```text\n(\n```"
    run_page(HERE, shared + skipped, monkeypatch)


def test_an_error_names_the_line_of_the_page(monkeypatch):
    with pytest.raises(ZeroDivisionError) as caught:
        run_page(HERE, "# A title\n\n```python\nx = 1\n1 / 0\n```", monkeypatch)
    last = caught.traceback[-1]
    assert (str(last.path).endswith("docs/a_page.md"), last.lineno + 1) == (True, 5)


@pytest.mark.parametrize("text", ["on JAX 0.7 or later", "JAX 0.10.3", "needs Python 3.10", "jaxprim 9.9"])
def test_a_wrong_version_is_caught(text):
    assert wrong_versions(text)


def test_right_versions_pass():
    assert not wrong_versions("JAX 0.11 and later, JAX 0.10.2 on Python 3.11, jaxprim 0.1")


@pytest.mark.parametrize("target", ["no_such_page.md", "#no-such-heading", "../README.md#none", "../../outside.md"])
def test_a_broken_link_is_caught(target):
    assert broken_links(HERE, f"# A heading\n[text]({target})") == [target]


def test_right_links_pass():
    assert not broken_links(HERE, "# A `heading`!\n[x](#a-heading) [y](../pyproject.toml) [z](https://example.org/no)")
