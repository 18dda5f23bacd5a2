"""What a library was made from, so that a change of any of it is seen.

A manifest has the content of each file that the compiler and the linker read, and the names that they looked for first
and did not find. If a file appears under such a name, it comes before the one that was read.

Names are kept as they were looked up, not resolved: if a link on the way now leads elsewhere, the content differs.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

# A file that changed this short a time ago may change once more without its time changing, on some file systems.
_SETTLED_NS = 2 * 10**9
Stamp = tuple[int, ...] | None


@dataclass
class Manifest:
    """Files with the digest of their content, and the names that must not be there, by folder.

    Attributes:
        files: for each path the digest, and the file's times and size; None for those if the file had just changed.
        absent: for each folder the names that must not be in it.
    """

    files: dict[str, tuple[str, Stamp]] = field(default_factory=dict[str, tuple[str, Stamp]])
    absent: dict[str, set[str]] = field(default_factory=dict[str, set[str]])

    def add_file(self, path: str) -> None:
        if path not in self.files:
            stamp = _stamp(path)
            now = time.time_ns()
            settled = stamp is not None and now - max(stamp[1:3]) > _SETTLED_NS
            self.files[path] = (digest(path), stamp if settled else None)

    def add_absent(self, path: str) -> None:
        folder, name = os.path.split(path)
        self.absent.setdefault(folder, set()).add(name)

    def holds(self) -> bool:
        """Whether everything is as it was."""
        return all(_same(path, *row) for path, row in self.files.items()) and not any(
            names & listing(folder) for folder, names in self.absent.items()
        )

    def mark(self) -> str:
        """A name for the content of all files."""
        return hashlib.sha256("".join(sorted(row[0] for row in self.files.values())).encode()).hexdigest()[:8]

    def to_json(self) -> dict[str, object]:
        return {"files": self.files, "absent": {folder: sorted(names) for folder, names in self.absent.items()}}

    @staticmethod
    def from_json(found: dict[str, dict[str, list[object]]]) -> Manifest:
        files = {path: (str(row[0]), _read_stamp(row[1])) for path, row in found["files"].items()}
        return Manifest(files, {folder: set(map(str, names)) for folder, names in found["absent"].items()})


def _read_stamp(found: object) -> Stamp:
    return tuple(map(int, found)) if isinstance(found, list) else None


def _same(path: str, content: str, stamp: Stamp) -> bool:
    return (stamp is not None and _stamp(path) == stamp) or digest(path) == content


def _stamp(path: str) -> Stamp:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def digest(path: str) -> str:
    """The digest of a file's content; empty if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):
        return ""


def listing(folder: str) -> set[str]:
    """The names in a folder; none if there is no such folder."""
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


# -------------------------------------------------------------------------------------------------------------- headers
# A name that a source includes, or asks for with __has_include.
_SPELLED = re.compile(rb'(?:#\s*(include_next|include|import|embed)|__has_include(_next)?\s*\()\s*[<"]([^>"\n]+)([>"])')
_RULE_WORD = re.compile(r"(?:\\[ #]|\$\$|[^\s])+")
_SEARCH = re.compile(r'^#include ("|<).*search starts here:$')
_NOT_THERE = re.compile(r'^ignoring nonexistent directory "(.+)"$', re.MULTILINE)


def add_headers(manifest: Manifest, rules: str, verbose: str, work: str) -> None:
    """Add what the preprocessor read, from its list of dependencies (`-M`) and its search folders (`-v`).

    Args:
        manifest: where to add it.
        rules: the list, in the notation of make.
        verbose: the compiler's verbose output.
        work: the folder of the files that jaxprim wrote itself.
    """
    quoted, folders = _search_folders(verbose)
    read = list(dict.fromkeys(map(_join, _paths(rules))))
    own = {path for path in read if path.startswith(work + os.sep)}
    others = [path for path in read if path not in own]
    for path in others:
        manifest.add_file(path)
    for folder in map(_join, _NOT_THERE.findall(verbose)):
        manifest.add_absent(folder)
    seen: dict[str, set[str]] = {}
    names: set[tuple[str, bool, tuple[str, ...]]] = set()
    for path in read:
        here = () if path in own else (os.path.dirname(path),)
        names |= {(name, is_next, (*here, *quoted) if quote else ()) for name, quote, is_next in _spelled(path)}
    found: set[str] = set()
    for name, is_next, first in names:
        paths = [os.path.join(folder, name) for folder in (*first, *folders)]
        found |= _add_candidates(manifest, paths, is_next, seen)
    for name in _under(set(others) - found, folders):  # a macro has its name
        _add_candidates(manifest, [os.path.join(folder, name) for folder in folders], False, seen)


def _join(path: str) -> str:
    return os.path.join(os.getcwd(), path)


def _paths(rules: str) -> Iterator[str]:
    """The files of make's rules. A space or `#` in a name has a backslash before it, and a `$` is doubled."""
    for word in _RULE_WORD.findall(rules.replace("\\\n", " ")):
        if not word.endswith(":"):
            yield re.sub(r"\\([ #])", r"\1", word).replace("$$", "$")


def _search_folders(verbose: str) -> tuple[list[str], list[str]]:
    """The folders in which names in quotes are looked up first, and those for all names."""
    found: dict[str, list[str]] = {'"': [], "<": []}
    kind = None
    for line in verbose.splitlines():
        start = _SEARCH.match(line)
        if start is not None:
            kind = start[1]
        elif line.startswith("End of search list"):
            kind = None
        elif kind is not None and line.startswith(" "):
            found[kind].append(_join(line[1:].removesuffix(" (framework directory)")))
    return list(dict.fromkeys(found['"'])), list(dict.fromkeys(found["<"]))


def _spelled(path: str) -> set[tuple[str, bool, bool]]:
    """The names that a file includes: the name, whether it is in quotes, and whether the search goes on from there."""
    try:
        with open(path, "rb") as file:
            found = _SPELLED.findall(file.read())
    except OSError:
        return set()
    return {(os.fsdecode(name), end == b'"', b"next" in kind or bool(after)) for kind, after, name, end in found}


def _under(read: Iterable[str], folders: list[str]) -> Iterator[str]:
    """The name of each file that was read, as seen from the search folder that it is in."""
    for path in read:
        fits = [folder for folder in folders if path.startswith(folder.rstrip(os.sep) + os.sep)]
        if fits:
            yield path[len(max(fits, key=len).rstrip(os.sep)) + 1 :]


def _add_candidates(manifest: Manifest, paths: list[str], is_next: bool, seen: dict[str, set[str]]) -> set[str]:
    """Add the first of these paths that is there, and those before it. `#include_next` skips one, so all are added.

    Returns:
        the paths that are there.
    """
    found: set[str] = set()
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in seen:
            seen[folder] = listing(folder)
        if name not in seen[folder]:
            manifest.add_absent(path)
            continue
        manifest.add_file(path)
        found.add(path)
        if os.path.isfile(path) and not is_next:
            break
    return found


# ---------------------------------------------------------------------------------------------------------------- linker
_ATTEMPT = re.compile(r"attempt to open (.+) (succeeded|failed)", re.IGNORECASE)


def add_linked(manifest: Manifest, output: str, work: str, started_ns: int) -> None:
    """Add what the linker read, from its verbose output.

    Every linker lists the files that it reads, and some list those that they looked for first. A file that changed after
    the linker had started may be another one than was linked.
    """
    for line in output.splitlines():
        attempt = _ATTEMPT.search(line)
        path = attempt[1] if attempt else re.sub(r"\(.*\)$", "", line.strip())
        if not os.path.isabs(path) or path.startswith(work + os.sep):
            continue
        if attempt and attempt[2].lower() == "failed":
            manifest.add_absent(path)
        elif os.path.isfile(path):  # the compiler's own temporary files are gone
            manifest.add_file(path)
            if max((_stamp(path) or (0, started_ns, 0))[1:3]) >= started_ns:
                manifest.files[path] = ("unknown", None)
