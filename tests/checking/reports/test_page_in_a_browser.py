"""The page in a real browser: nothing needs a horizontal scroll, and every text can be read, in light and in dark."""

from __future__ import annotations

import json
import re
import subprocess
from html import escape, unescape
from pathlib import Path

import pytest
from browser import CHROMIUM, SCRIPT
from reports import everything, finding

from jaxprim import Report

DARK = "(prefers-color-scheme: dark)"
WIDTHS = (400, 1400)
PAGES = {
    "passing": Report("op", 0, (finding(), finding(question="vmap")), "ops.py:op", everything().pictures),
    "failing": everything(),
}

# Writes what it finds in each frame into the page, which the browser then prints.
LOOK = """
function framed(frame) {
  return {name: frame.name, ...look(frame.contentDocument, frame.contentWindow, frame.dataset.dark === "true")};
}
window.onload = () => {
  document.getElementById("found").textContent = JSON.stringify([...document.querySelectorAll("iframe")].map(framed));
};
"""


def frames(extra: str = "") -> str:
    """All pages in one, each in frames of each width, light and dark, so that the browser starts once."""
    made = [
        f'<iframe name="{name} {width} {dark}" data-dark="{str(dark).lower()}" style="width:{width}px;height:900px;border:0" '
        f'srcdoc="{escape(report.html().replace(DARK, "all" if dark else "not all").replace("</head>", extra + "</head>"))}"></iframe>'
        for name, report in PAGES.items()
        for width in WIDTHS
        for dark in (False, True)
    ]
    return f'<!doctype html><meta charset="utf-8"><pre id="found"></pre>{"".join(made)}<script>{SCRIPT}{LOOK}</script>'


def look(folder: Path, page: str) -> list[dict]:
    path = folder / "frames.html"
    path.write_text(page, encoding="utf-8")
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=5000", "--dump-dom", path.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return json.loads(unescape(re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)[1]))


def seen(folder: Path, page: str) -> dict[str, list]:
    """For each frame, what is wrong with it."""
    found = look(folder, page)
    assert len(found) == len(PAGES) * len(WIDTHS) * 2
    assert min(frame["texts"] for frame in found) > 20
    return {
        frame["name"]: [*frame["faint"], *([["scrolls", frame["scrolls"]]] if frame["scrolls"] > 0 else [])]
        for frame in found
    }


pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="NOT TESTED: there is no Chromium here")


def test_nothing_is_cut_off_and_every_text_can_be_read(tmp_path: Path):
    assert {name: wrong for name, wrong in seen(tmp_path, frames()).items() if wrong} == {}


def test_a_wide_page_and_a_faint_text_are_found(tmp_path: Path):
    """The test, tested with faults."""
    fault = "<style>h1 { color: #8888 !important; } body { min-width: 700px; }</style>"
    for name, wrong in seen(tmp_path, frames(fault)).items():
        what = [each[0] for each in wrong]
        assert any(text != "scrolls" for text in what), name
        assert ("scrolls" in what) == (" 400 " in name), name
