"""Lay out the pages as Sphinx wants them.

The pages are written to be read on GitHub, where a folder's page is its README and a link leads to a file. Sphinx wants
one tree of pages. So each page is copied to its place in such a tree, with each link set to where its target went: to
another page, or to the file on GitHub.
"""

from __future__ import annotations

import posixpath
import re
import shutil
from pathlib import Path

from reference import reference, toctree

ROOT = Path(__file__).parents[2]
REPOSITORY = "https://github.com/jaxprim/jaxprim"

# Pages outside of docs/, and the names that they get.
OTHERS = {
    "README.md": "index.md",
    "docs/README.md": "pages.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
    "examples/gallery/README.md": "gallery.md",
}

# The sidebar. What a folder's page links to in its folder stands below it.
SIDEBAR = {
    "Start": ["first-primitive", "broken-rule", "why", "pages"],
    "Your code": ["kernels/index", "implicit", "function-operands", "scaling", "libraries", "integers", "porting"],
    "Worked through": ["worked/cpp-kernel", "worked/scipy-solver", "worked/someone-elses-function", "gallery"],
    "Rules": ["modes", *(f"rules/{name}" for name in (
        "impl", "host", "kernel", "lowering", "abstract-eval", "jvp", "vjp", "partials", "implicit", "transpose", "batching",
        "sharding", "partition", "function",
    ))],
    "Checking": ["checking/index", "checking/debugging", "checking/questions/index", "checking/survey"],
    "Look up": ["reference/index", "errors", "limits", "glossary", "releases", "changelog"],
    "Inside": [
        "contributing", "design/architecture", "design/decisions", "design/change-guide", "design/kernel-calls", "benchmarks"
    ],
}  # fmt: skip

FENCE = re.compile(r"^ *(`{3,}|~{3,})")
# A span of code, which stays as it is, or the target of a link.
LINK = re.compile(r"(?P<code>`[^`\n]*`)|(?<=\]\()(?P<target>[^)\s]+)(?=[^)]*\))")


def placed() -> dict[str, str]:
    """Where each page goes: its path in the repository, and its path in the site."""
    docs = {path.relative_to(ROOT / "docs").as_posix() for path in sorted((ROOT / "docs").rglob("*.md"))} - {
        "README.md"
    }
    return OTHERS | {f"docs/{path}": re.sub(r"\bREADME\.md$", "index.md", path) for path in docs}


class Pages:
    """The pages as they are laid out."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.places = placed()
        self.pictures: dict[str, str] = {}

    def lay_out(self) -> None:
        for path, place in self.places.items():
            text = self.with_links(path, (ROOT / path).read_text(encoding="utf-8"))
            self.write(place, text + self.below(path, place) + (self.sidebar() if place == "index.md" else ""))
        for path, place in self.pictures.items():
            (self.out / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, self.out / place)
        for place, text in reference().items():
            self.write(place, text)

    def write(self, place: str, text: str) -> None:
        """Write a page if it changed: Sphinx reads again what is newer than its last run."""
        path = self.out / place
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")

    def with_links(self, path: str, text: str) -> str:
        """The text of a page, each of its links set to where the target went."""
        lines, fence = text.splitlines(keepends=True), ""
        for number, line in enumerate(lines):
            mark = FENCE.match(line)
            if mark and (not fence or mark[1].startswith(fence)):
                fence = "" if fence else mark[1]
            elif not fence:
                lines[number] = LINK.sub(lambda found: found["code"] or self.target(path, found["target"]), line)
        return "".join(lines)

    def target(self, path: str, link: str) -> str:
        if link.startswith("#") or re.match(r"[a-z][a-z0-9+.-]*:", link):
            return link
        file, hash_, anchor = link.partition("#")
        file = posixpath.normpath(posixpath.join(posixpath.dirname(path), file))
        place = self.places.get(file)
        if place is None and file.endswith((".png", ".svg")):
            place = self.pictures[file] = file.removeprefix("docs/")
        if place is None:
            return f"{REPOSITORY}/{'tree' if (ROOT / file).is_dir() else 'blob'}/main/{file}{hash_}{anchor}"
        return posixpath.relpath(place, posixpath.dirname(self.places[path]) or ".") + hash_ + anchor

    def below(self, path: str, place: str) -> str:
        """The list of the pages in its folder that a folder's page links to, in the order of the links."""
        folder = posixpath.dirname(place)
        if posixpath.basename(place) != "index.md" or not folder:
            return ""
        links = re.findall(r"\]\(([\w-]+)\.md[)#]", (ROOT / path).read_text(encoding="utf-8"))
        named = {entry for entries in SIDEBAR.values() for entry in entries}
        return toctree(entry for entry in dict.fromkeys(links) if f"{folder}/{entry}" not in named)

    def sidebar(self) -> str:
        return "".join(toctree(entries, caption) for caption, entries in SIDEBAR.items())
