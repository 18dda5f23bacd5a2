"""Make the pictures of this folder's README: ``python docs/checking/make_pictures.py``, with Chromium on the path.

The terminal is drawn by rich, the page by Chromium.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

from rich.console import Console, Group

import jaxprim
from jaxprim import Report
from jaxprim._rules import rules_of
from jaxprim.checking import targets
from jaxprim.cli import terminal
from jaxprim.derive import explain as explain_rules

HERE = Path(__file__).parent
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
WIDTH, HEIGHT, SCALE = 1150, 3080, 0.75


def main() -> None:
    os.chdir(HERE)
    (gaussian,) = targets.find("gaussian.py")
    report = replace(jaxprim.report(gaussian, speed="fast", pictures=True), target="gaussian.py:gaussian")
    draw_terminal(gaussian, report)
    draw_page(report.html())


def draw_terminal(primitive: jaxprim.Primitive, report: Report) -> None:
    console = Console(record=True, width=112, force_terminal=True, highlight=False, file=io.StringIO())
    console.print(terminal.rules(primitive.name, explain_rules(rules_of(primitive)).rows))
    seconds = sum(finding.seconds for finding in report.findings)
    console.print(Group(terminal.Progress(console, 0, []).render(report.findings), ""))
    for bad in terminal.breadcrumbs(report, console.width):
        console.print(bad)
    console.print(terminal.verdict(report, seconds))
    svg = console.export_svg(title="jaxprim check gaussian.py --fast")
    # Without the font that rich would load from the network, and its signature.
    Path("terminal.svg").write_text(re.sub(r"@font-face \{.*?\}\s*|<!--.*?-->\s*", "", svg, flags=re.DOTALL))


def draw_page(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "page.html"
        source.write_text(text)
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--window-size={WIDTH},{HEIGHT}",
        ]
        options.append(f"--force-device-scale-factor={SCALE}")
        light = "--blink-settings=preferredColorScheme=1"
        command = [BROWSER or "chromium", *options, light, f"--screenshot={HERE / 'page.png'}", source.as_uri()]
        subprocess.run(command, check=True, capture_output=True)


if __name__ == "__main__":
    main()
