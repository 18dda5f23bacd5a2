"""Make the pictures of this folder's README: ``python docs/checking/make_pictures.py``, with Chromium on the path.

The terminal is drawn by rich, the page by Chromium: for ``gaussian.py``, whose VJP rule is wrong, and for the right one.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

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
WIDTH, SCALE = 1150, 0.75
COLUMNS, LINES = 80, 24


def main() -> None:
    wrong = (HERE / "gaussian.py").read_text()
    for name, text in ("", wrong), ("-passing", wrong.replace("jnp.mean(width_bar)", "jnp.sum(width_bar)")):
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            Path("gaussian.py").write_text(text)
            (gaussian,) = targets.find("gaussian.py")
            report = checked(gaussian)
            lines = printed(Subject.of(gaussian), report)
            draw_terminal(lines[-LINES:], HERE / f"terminal{name}.svg")
            if len(lines) > LINES:
                draw_terminal(lines[:LINES], HERE / f"terminal{name}-start.svg")
            draw_page(report.html(), HERE / f"page{name}.png")


def checked(target: Any) -> Report:
    """The report, with the processor's time: other work on the machine does not count."""
    wall, own = time.perf_counter(), time.process_time()
    report = replace(jaxprim.report(target, pictures=True), target="gaussian.py:gaussian")
    share = (time.process_time() - own) / (time.perf_counter() - wall)
    findings = [replace(finding, seconds=finding.seconds * min(1.0, share)) for finding in report.findings]
    return replace(report, findings=tuple(findings))


def printed(subject: Subject, report: Report) -> list[str]:
    """What `jaxprim check gaussian.py` prints on a terminal of 80 columns, line by line."""
    console = Console(record=True, width=COLUMNS, force_terminal=True, highlight=False, file=io.StringIO())
    progress = terminal.Progress(
        console, replace(report, findings=()), cases(subject, subject.examples()), [row.question for row in report.rows],
        {}, whole=False,
    )  # fmt: skip
    for finding in report.findings:
        progress.add(finding)
    seconds = sum(finding.seconds for finding in report.findings)
    blank = [] if report.ok else [Text()]
    for line in [*blank, *terminal.breadcrumbs(report, COLUMNS), *terminal.verdict(report, seconds, COLUMNS)]:
        console.print(line)
    return console.export_text(styles=True).splitlines()


def draw_terminal(lines: list[str], to: Path) -> None:
    """A screen of these lines."""
    screen = Console(record=True, width=COLUMNS, force_terminal=True, highlight=False, file=io.StringIO())
    for line in lines:
        screen.print(Text.from_ansi(line))
    svg = screen.export_svg(title="jaxprim check gaussian.py")
    # Without the font that rich would load from the network, and its signature.
    to.write_text(re.sub(r"@font-face \{.*?\}\s*|<!--.*?-->\s*", "", svg, flags=re.DOTALL))


def draw_page(text: str, to: Path) -> None:
    """A picture of the whole page, however long it is."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "page.html"
        source.write_text(text)
        size = f"--window-size={WIDTH},{_height(source)}"
        _browse(source, size, f"--force-device-scale-factor={SCALE}", f"--screenshot={to}")


def _height(source: Path) -> int:
    """The height of the page, which it writes into its title."""
    tell = "<script>document.title = 'height ' + document.documentElement.scrollHeight</script>"
    probe = source.with_name("probe.html")
    probe.write_text(source.read_text().replace("</body>", f"{tell}</body>"))
    found = re.search(r"<title>height (\d+)", _browse(probe, f"--window-size={WIDTH},800", "--dump-dom"))
    return int(found[1]) if found else 3200


def _browse(source: Path, *options: str) -> str:
    always = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    light = "--blink-settings=preferredColorScheme=1"
    command = [BROWSER or "chromium", *always, light, *options, source.as_uri()]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
