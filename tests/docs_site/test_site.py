"""The site builds without a warning, all of its inside links lead somewhere, and it reads well in a real browser.

It is built once, by the command of CONTRIBUTING.md, and served from this process. With ``JAXPRIM_SCREENSHOTS=FOLDER`` in
the environment, what the browser shows is kept there.
"""

from __future__ import annotations

import functools
import http.server
import importlib.util
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin

import pages
import pytest
from browser import CHROMIUM, Browser
from filelock import FileLock

import jaxprim
from jaxprim.checking.questions import QUESTIONS

MISSING = [name for name in ("sphinx", "furo", "myst_parser") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"NOT TESTED: the site cannot be built without {', '.join(MISSING)}: uv run --group docs"
)
HOME = "https://jaxprim.github.io/jaxprim/"
# Elements that make a browser fetch something, and the attribute that names it.
FETCHES = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}


class Html(HTMLParser):
    """The links, the anchors and the fetches of one page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.fetches: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.anchors |= {found[name] or "" for name in ("id", "name") if name in found}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"] or "")
        if found.get(FETCHES.get(tag, "")) and found.get("rel") not in ("canonical", "search"):
            self.fetches.append(found[FETCHES[tag]] or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site. Whichever worker comes first builds it, and the others wait."""
    base = tmp_path_factory.getbasetemp()
    out = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "site"
    with FileLock(f"{out}.lock"):
        if not out.exists():
            command = [sys.executable, "docs/site/build.py", str(out)]
            built = subprocess.run(command, cwd=pages.ROOT, capture_output=True, text=True, check=False)
            assert built.returncode == 0, built.stderr + built.stdout
    return out / "html"


@pytest.fixture(scope="module")
def parsed(site: Path) -> dict[str, Html]:
    return {path.relative_to(site).as_posix(): Html(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def leads_nowhere(link: str, page: str, parsed: dict[str, Html], site: Path) -> bool:
    target, anchor = urldefrag(urljoin(HOME + page, link))
    if not target.startswith(HOME):
        return False
    file = unquote(target.removeprefix(HOME)) or "index.html"
    if file not in parsed:
        return not (site / file).is_file()
    return bool(anchor) and unquote(anchor) not in parsed[file].anchors


def test_every_link_inside_leads_somewhere(parsed, site):
    assert [
        (page, link) for page, html in parsed.items() for link in html.links if leads_nowhere(link, page, parsed, site)
    ] == []


def test_a_link_that_leads_nowhere_is_found(parsed, site):
    """The test, tested with faults."""
    assert all(leads_nowhere(link, "errors.html", parsed, site) for link in ("none.html", "#none", "why.html#none"))
    assert not leads_nowhere("checking/index.html#options", "index.html", parsed, site)


def test_nothing_is_fetched_from_another_host(parsed, site):
    assert {link for html in parsed.values() for link in html.fetches if "//" in link} == set()
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"url\(['\"]?(?:https?:)?//[^)]*\)|@import[^;]*//[^;]*", styles) == []


def test_every_page_and_public_name_is_there(parsed):
    assert {f"checking/questions/{question.name}.html" for question in QUESTIONS} <= parsed.keys()
    named = {anchor for page, html in parsed.items() if page.startswith("reference/") for anchor in html.anchors}
    assert [name for name in jaxprim.__all__ if not {f"jaxprim.{name}", f"module-jaxprim.{name}"} & named] == []
    methods = {f"jaxprim.Primitive.{name}" for name in dir(jaxprim.Primitive) if name.startswith(("def_", "check"))}
    assert methods <= named
    assert {"changelog.html", "kernels/package.html", "checking/debugging.html", "integers.html"} <= parsed.keys()


def test_a_name_links_to_its_source(parsed):
    links = " ".join(parsed["reference/primitives.html"].links)
    lines = re.findall(r"https://github\.com/jaxprim/jaxprim/blob/\w+/src/jaxprim/_primitive\.py#L(\d+)-L(\d+)", links)
    source = (pages.ROOT / "src/jaxprim/_primitive.py").read_text().splitlines()
    shown = ["\n".join(source[int(first) - 1 : int(last)]) for first, last in lines]
    assert any(text.lstrip().startswith("def def_vjp(") and text.endswith("return rule") for text in shown)


# ----------------------------------------------------------------------------------------------------------- in a browser
LOOKED_AT = [
    "index.html",
    "checking/questions/vmap.html",
    "checking/questions/index.html",
    "reference/primitives.html",
    "kernels/index.html",
    "worked/cpp-kernel.html",
    "releases.html",
    "changelog.html",
]
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="NOT TESTED: there is no Chromium here")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def keep(browser: Browser, name: str) -> None:
    if folder := os.environ.get("JAXPRIM_SCREENSHOTS"):
        browser.screenshot(Path(folder) / f"{name.replace('/', '-')}.png")


def wrong(browser: Browser, page: str = "") -> dict[str, list]:
    """What a reader would stumble over, for each width and colour scheme: a sideways scroll, a text hard to read."""
    found = {}
    for width in (400, 1400):
        browser.resize(width)
        for scheme in ("light", "dark"):
            browser.prefer(scheme)
            seen = browser.look(dark=scheme == "dark")
            assert seen["texts"] > 20
            found[f"{page} {width} {scheme}"] = [*seen["faint"], *([["scrolls"]] if seen["scrolls"] > 0 else [])]
            keep(browser, f"{page or 'page'}-{width}-{scheme}")
    return {name: faults for name, faults in found.items() if faults}


@needs_chromium
def test_pages_read_well_at_each_width_in_light_and_dark(browser, address):
    found = {}
    for page in LOOKED_AT:
        browser.open(address + page)
        found |= wrong(browser, page)
    assert found == {}


@needs_chromium
def test_a_wide_page_and_a_faint_text_are_found(browser, address):
    """The test, tested with faults."""
    browser.open(address + "why.html")
    browser.evaluate("document.querySelector('h1').style = 'color: #8888; min-width: 1700px; display: block'")
    for name, faults in wrong(browser).items():
        assert [fault[0] for fault in faults] == ["Why jaxprim, and when not", "scrolls"], name


@needs_chromium
def test_a_search_for_vmap_leads_to_its_page(browser, address):
    browser.resize(1400)
    browser.prefer("light")
    browser.open(address + "index.html")
    browser.evaluate("document.querySelector('.sidebar-search').focus()")
    browser.type("vmap")
    hits = browser.wait("document.querySelector('#search-results ul.search li a') && "
                        "/finished/i.test(document.querySelector('#search-results').innerText) && "
                        "document.querySelectorAll('#search-results ul.search li').length")  # fmt: skip
    keep(browser, "search")
    assert hits > 10
    browser.evaluate("window.left = true, document.querySelector('#search-results ul.search li a').click()")
    browser.loaded()
    keep(browser, "first-hit")
    assert browser.evaluate("document.querySelector('h1').textContent").startswith("vmap")
