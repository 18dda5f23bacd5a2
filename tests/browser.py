"""Chromium without a window, driven over a pipe: pages are loaded, typed into, resized and looked at as a reader does."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# WCAG 2, level AA, for text of ordinary size.
LEAST_CONTRAST = 4.5

# `look(page, view, dark)` says how far a page scrolls to the side, how many texts it has, and which of them are faint.
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
function look(page, view, dark) {
  const root = page.documentElement, canvas = dark ? [18, 18, 18] : [255, 255, 255], faint = [];
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
  // The page scrolls, or a box around its text does.
  let scrolls = 0;
  for (let box = page.querySelector("article") || root; box; box = box.parentElement)
    if (box === root || view.getComputedStyle(box).overflowX !== "visible")
      scrolls = Math.max(scrolls, box.scrollWidth - box.clientWidth);
  return {texts, faint, scrolls};
}
""".replace("LEAST", str(LEAST_CONTRAST))

# Puts two pipes where Chromium wants them, and becomes Chromium.
LAUNCH = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One Chromium with one page. Its DevTools protocol goes through the file descriptors 3 and 4 of the process."""

    def __init__(self, profile: Path) -> None:
        ours, theirs = [], []
        for pair in (os.pipe(), os.pipe()[::-1]):  # one to write to, one to read from
            theirs.append(pair[0])
            ours.append(pair[1])
        options = [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--remote-debugging-pipe", f"--user-data-dir={profile}",
        ]  # fmt: skip
        command = [sys.executable, "-I", "-S", "-c", LAUNCH, *map(str, theirs), str(CHROMIUM), *options]
        self._process = subprocess.Popen(command, pass_fds=theirs, stderr=subprocess.DEVNULL)
        for end in theirs:
            os.close(end)
        self._to, self._from = ours
        self._rest = b""
        self._number = 0
        self._session: str | None = None

    def __enter__(self) -> Self:
        try:
            made = self.send("Target.createTarget", url="about:blank")
            self._session = self.send("Target.attachToTarget", targetId=made["targetId"], flatten=True)["sessionId"]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Give one command and wait for its answer. What Chromium tells meanwhile is dropped."""
        self._number += 1
        session = {} if self._session is None else {"sessionId": self._session}
        text = json.dumps({"id": self._number, "method": method, "params": params, **session})
        left = text.encode() + b"\0"
        while left:
            left = left[os.write(self._to, left) :]
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer)
                return answer["result"]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._from, 1 << 20)
            assert more, "Chromium has ended"
            self._rest += more
        text, _, self._rest = self._rest.partition(b"\0")
        return json.loads(text)

    def evaluate(self, script: str) -> Any:
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, script: str, seconds: float = 60) -> Any:
        """Wait until an expression is true, and return it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = self.evaluate(script)
            if found:
                return found
            time.sleep(0.05)
        raise AssertionError(f"not true within {seconds} s: {script}")

    def open(self, url: str) -> None:
        self.evaluate("window.left = true")
        self.send("Page.navigate", url=url)
        self.loaded()

    def loaded(self) -> None:
        """Wait for another page than the one in which `left` was set."""
        self.wait("!window.left && document.readyState === 'complete'")

    def resize(self, width: int, height: int = 900) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **size)

    def prefer(self, scheme: str) -> None:
        """What the reader's system prefers: ``light`` or ``dark``."""
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def type(self, text: str) -> None:
        """Type into what has the focus, and press Enter."""
        self.send("Input.insertText", text=text)
        self.evaluate("window.left = true")
        for kind in ("keyDown", "keyUp"):
            self.send(
                "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r"
            )
        self.loaded()

    def look(self, *, dark: bool) -> dict[str, Any]:
        return self.evaluate(f"{{ {SCRIPT}; look(document, window, {str(dark).lower()}); }}")

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))
