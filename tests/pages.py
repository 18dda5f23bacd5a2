"""Reads the pages of the documentation: their code blocks, prose, headings and links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,}|~{3,})(?P<info>.*)$")
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)(?:\s+\"[^\"]*\")?\)")
HEADING = re.compile(r"^#{1,6}\s+(?P<title>.*?)\s*#*$", re.MULTILINE)


class Block(NamedTuple):
    """A fenced block; `info` is what stands behind its backticks, `line` the number of its first line of text."""

    info: tuple[str, ...]
    line: int
    text: str


def pages() -> list[Path]:
    return [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if path.exists()]


def linked() -> list[Path]:
    """The pages, and what stands beside them in other folders: their links are held too."""
    others = {
        *ROOT.glob("*.md"),
        *(ROOT / folder / "README.md" for folder in ("tests", "benchmarks", "examples/gallery")),
    }
    return [*pages(), *sorted(others - set(pages()))]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks, in order. A block that is never closed ends with the page, as Markdown has it."""
    opened: re.Match[str] | None = None
    start, body = 0, list[str]()
    for number, line in enumerate([*text.splitlines(), None], start=1):
        fence = FENCE.match(line) if line is not None else None
        if opened is None:
            opened, start, body = fence, number + 1, []
        elif line is None or (fence and fence["ticks"].startswith(opened["ticks"]) and not fence["info"].strip()):
            yield Block(tuple(opened["info"].split()), start, "".join(body))
            opened = None
        else:
            body.append(line.removeprefix(opened["indent"]) + "\n")


def prose(text: str) -> str:
    """The page without its fenced blocks, with as many lines."""
    lines = text.splitlines()
    for block in blocks(text):
        for number in range(block.line - 1, block.line - 1 + block.text.count("\n")):
            lines[number] = ""
    return "\n".join(lines)


def links(text: str) -> list[str]:
    """Targets of links and images in the prose, `code spans` left out."""
    return [match["target"] for match in LINK.finditer(re.sub(r"`[^`\n]*`", "", prose(text)))]


def anchors(text: str) -> set[str]:
    """The anchors that headings get on GitHub: lower case, punctuation dropped, spaces to hyphens, repeats numbered."""
    seen: dict[str, int] = {}
    result = set[str]()
    for match in HEADING.finditer(prose(text)):
        slug = re.sub(r"[^\w\- ]", "", match["title"].lower()).replace(" ", "-")
        result.add(f"{slug}-{seen[slug]}" if slug in seen else slug)
        seen[slug] = seen.get(slug, 0) + 1
    return result
