"""The page in a real browser: nothing needs a horizontal scroll, and every text can be read, in light and in dark."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path

import pytest
from reports import everything, finding

from jaxprim import Report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DARK = "(prefers-color-scheme: dark)"
WIDTHS = (400, 1400)
# WCAG 2, level AA, for text of ordinary size.
LEAST_CONTRAST = 4.5
PAGES = {
    "passing": Report("op", 0, (finding(), finding(question="vmap")), "ops.py:op", everything().pictures),
    "failing": everything(),
}

# Writes what it finds in each frame into the page, which the browser then prints.
SCRIPT = """
function numbers(color) { return color.match(/[\\d.]+/g).map(Number); }
function luminance(rgb) {
  const [r, g, b] = rgb.slice(0, 3).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function over(front, back) {
  const a = front.length > 3 ? front[3] : 1;
  return [0, 1, 2].map(i => a * front[i] + (1 - a) * back[i]);
}
function background(node, view, canvas) {
  const layers = [];
  for (; node; node = node.parentElement) layers.push(numbers(view.getComputedStyle(node).backgroundColor));
  return layers.reverse().reduce((back, front) => over(front, back), canvas);
}
// What is painted below a text of a picture: no parent of it, but the last shape before it that lies there.
function painted(node, view, back) {
  const at = node.getBoundingClientRect(), x = at.x + at.width / 2, y = at.y + at.height / 2;
  for (const shape of node.closest("svg").querySelectorAll("rect")) {
    const box = shape.getBoundingClientRect();
    const below = shape.compareDocumentPosition(node) & Node.DOCUMENT_POSITION_FOLLOWING;
    if (below && box.left <= x && x <= box.right && box.top <= y && y <= box.bottom) {
      const style = view.getComputedStyle(shape);
      if (style.fill.startsWith("rgb")) back = over([...numbers(style.fill).slice(0, 3), +style.fillOpacity], back);
    }
  }
  return back;
}
function contrast(a, b) {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
}
function look(frame) {
  const page = frame.contentDocument, view = frame.contentWindow, root = page.documentElement;
  const canvas = frame.dataset.dark === "true" ? [18, 18, 18] : [255, 255, 255], faint = [];
  const walk = page.createTreeWalker(page.body, NodeFilter.SHOW_TEXT);
  let texts = 0;
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement, style = view.getComputedStyle(node);
    if (!walk.currentNode.data.trim() || !node.getClientRects().length || style.visibility === "hidden") continue;
    texts += 1;
    const page_back = background(node, view, canvas), svg = node.closest("svg");
    const back = svg ? painted(node, view, page_back) : page_back;
    const ink = over(numbers(svg ? style.fill : style.color), back), found = contrast(ink, back);
    if (found < LEAST) faint.push([walk.currentNode.data.trim().slice(0, 40), found]);
  }
  return {name: frame.name, texts, faint, scrolls: root.scrollWidth - root.clientWidth};
}
window.onload = () => {
  document.getElementById("found").textContent = JSON.stringify([...document.querySelectorAll("iframe")].map(look));
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
    script = SCRIPT.replace("LEAST", str(LEAST_CONTRAST))
    return f'<!doctype html><meta charset="utf-8"><pre id="found"></pre>{"".join(made)}<script>{script}</script>'


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
