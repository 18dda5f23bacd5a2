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

from rich.console import Console
from rich.text import Text

import jaxprim
from jaxprim import Report
from jaxprim.checking import targets
from jaxprim.checking.run import cases
from jaxprim.checking.subject import Subject
from jaxprim.cli import terminal

HERE = Path(__file__).parent
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
WIDTH, HEIGHT, SCALE = 1150, 3180, 0.75


def main() -> None:
    os.chdir(HERE)
    (gaussian,) = targets.find("gaussian.py")
    report = replace(jaxprim.report(gaussian, speed="fast", pictures=True), target="gaussian.py:gaussian")
    draw_terminal(report)
    draw_page(report.html())


def draw_terminal(report: Report) -> None:
    """What `jaxprim check gaussian.py --fast` prints on a terminal that is 80 columns wide."""
    console = Console(record=True, width=80, force_terminal=True, highlight=False, file=io.StringIO())
    subject = Subject.of(targets.find("gaussian.py")[0])
    progress = terminal.Progress(
        console, replace(report, findings=()), cases(subject, subject.examples()), [row.question for row in report.rows],
        {}, whole=False,
    )  # fmt: skip
    for finding in report.findings:
        progress.add(finding)
    seconds = sum(finding.seconds for finding in report.findings)
    for line in [Text(), *terminal.breadcrumbs(report, 80), *terminal.verdict(report, seconds, 80)]:
        console.print(line)
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
