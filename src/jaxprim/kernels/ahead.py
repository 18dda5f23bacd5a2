"""Libraries that were built ahead, by `jaxprim build`: finding the one of a source, and whether it fits.

They lie in a folder `_kernels` of the package whose kernels they are, with one manifest. Using one needs no compiler and
no cache. `build_ahead` writes what this file reads.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path

from jaxprim import _origin
from jaxprim._origin import shorten
from jaxprim.kernels.manifest import digest
from jaxprim.kernels.source import Source, api_of_headers, fingerprint, show_api
from jaxprim.kernels.toolchain import this_machine

FOLDER, MANIFEST = "_kernels", "jaxprim.json"
FORMAT = 1
VARIABLE = "JAXPRIM_KERNELS"  # more folders with such a manifest, which come first


@dataclass(frozen=True)
class Row:
    """A library in a manifest.

    Attributes:
        name: the kernel's name.
        signature: its signature, without type variables.
        dtypes: what its type variables stand for.
        language: the language of its source.
        source: the `fingerprint` of its source.
        api: the version of XLA's API that it needs.
        platform: the machine that it runs on.
        cpu: what it needs of the processor, beyond what every processor of its kind has. Of the libraries of a source that
            fit, the one that needs most is used.
        library: its file.
        digest: of the library, as it was built. (Tools that finish a wheel may change the file.)
        files: the sources and headers in the package, with their digests. They may be missing where it is used.
        modules: the Python files whose kernels it is for.
        flags: what the compiler was told beyond what every kernel of its language is compiled with.
    """

    name: str
    signature: str
    dtypes: Mapping[str, str]
    language: str
    source: str
    api: Sequence[int]
    platform: str
    cpu: Sequence[str]
    library: str
    digest: str
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    modules: Sequence[str] = ()
    flags: Sequence[str] = ()


@dataclass(frozen=True)
class Built:
    """A library that fits: where it is, and the key of what it computes."""

    path: Path
    key: str


@dataclass(frozen=True)
class Unfit:
    """A manifest that has no fitting library, and why: facts for a message."""

    path: Path
    why: str
    got: str
    expected: str

    def facts(self, name: str) -> dict[str, str]:
        return {
            "headline": f"{name}: {self.why}",
            "got": f"{shorten(str(self.path))}: {self.got}",
            "expected": self.expected,
        }


# ---------------------------------------------------------------------------------------------------------- the folders
def folders() -> tuple[Path, ...]:
    """Where the libraries of a kernel that is made now may lie: beside its module, or in a package around that."""
    origin = _origin.here()
    file = Path(origin.file)
    levels = origin.module.count(".") + (file.stem == "__init__")
    return tuple(parent / FOLDER for parent in file.absolute().parents[: max(1, levels)])


def find(source: Source) -> Built | Unfit | None:
    """The library of a source that was built ahead; the first reason if none fits; None if there is no such folder."""
    unfit: Unfit | None = None
    named = [Path(folder) for folder in os.environ.get(VARIABLE, "").split(os.pathsep) if folder]
    for folder in (*named, *source.beside):
        rows = read_rows(folder)
        if rows is None:
            continue
        found = _find_in(folder, rows, source)
        if isinstance(found, Built):
            return found
        unfit = unfit or found
    return unfit


def read_rows(folder: Path) -> list[Row] | None:
    """The rows of a folder's manifest; None if it has none that this release can read."""
    path = folder / MANIFEST
    try:
        return _read(str(path), path.stat().st_mtime_ns)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


@lru_cache(maxsize=64)
def _read(path: str, _: int) -> list[Row]:
    found = json.loads(Path(path).read_text(encoding="utf-8"))
    if found["format"] != FORMAT:
        raise ValueError
    return [Row(**row) for row in found["kernels"]]


def to_json(rows: Sequence[Row], release: str) -> str:
    """A manifest, of this release of jaxprim."""
    return json.dumps({"format": FORMAT, "jaxprim": release, "kernels": [asdict(row) for row in rows]}, indent=1) + "\n"


# ---------------------------------------------------------------------------------------------------------- does it fit
def _find_in(folder: Path, rows: Sequence[Row], source: Source) -> Built | Unfit:
    own = fingerprint(source)
    same = [row for row in rows if row.source == own]
    faults = [(row, _misfit(folder, row)) for row in same]
    fitting = [row for row, fault in faults if fault is None]
    if fitting:
        row = max(fitting, key=lambda row: len(row.cpu))
        return Built(folder / row.library, f"{own[:16]}.{row.digest[:8]}")
    # A row for this machine says more than one for another.
    here = sorted(faults, key=lambda pair: pair[0].platform != str(this_machine()))
    if here:
        why, got, expected = here[0][1] or ("", "", "")
        return Unfit(folder, why, got, expected)
    return _unlike(folder, rows, source)


def _unlike(folder: Path, rows: Sequence[Row], source: Source) -> Unfit:
    """Why none of the libraries is that of a source."""
    namesakes, signature = [row for row in rows if row.name == source.name], source.signature
    if not namesakes:
        known = ", ".join(sorted({row.name for row in rows})) or "nothing"
        return Unfit(folder, "it was not built ahead", f"libraries of {known}", f"one of {source.name}: {signature}")
    if any(row.signature == signature for row in namesakes):
        return Unfit(
            folder,
            "its source has changed since its library was built ahead",
            "a library of another source, or of other options",
            "one of this source",
        )
    known = dict.fromkeys(row.signature for row in namesakes)
    return Unfit(folder, "it was not built ahead for this signature", "; ".join(known), signature)


def _misfit(folder: Path, row: Row) -> tuple[str, str, str] | None:
    """Why the library of a row can't be used here: a headline, what there is, and what is wanted. None if it can."""
    here, api = str(this_machine()), api_of_headers()
    if row.platform != here:
        return "its library was built ahead for another platform", row.platform, here
    if row.api[0] != api[0] or row.api[1] > api[1]:
        return (
            "its library was built ahead with a later version of XLA's API",
            f"a library for version {show_api(row.api)} and later ones",
            f"at most {show_api(api)}, which this JAX has: build with the oldest JAX that it is for",
        )
    known = features()
    lacking = [name for name in row.cpu if name not in known]
    if known and lacking:
        return (
            "its library was built ahead for another processor",
            f"a library that needs {', '.join(row.cpu)}",
            f"a processor with {', '.join(lacking)}, or a library that was built without -march=",
        )
    changed = next((name for name, content in row.files.items() if _differs(folder / name, content)), None)
    if changed is not None:
        return (
            "a file has changed since its library was built ahead",
            f"a library of another {Path(changed).as_posix()}",
            "one of this file",
        )
    return None


def _differs(path: Path, content: str) -> bool:
    # "": it is not there, as headers are not where a package is installed.
    return digest(str(path)) not in (content, "")


@lru_cache(maxsize=1)
def features() -> frozenset[str]:
    """What this processor can do, by Linux's names; empty where the system does not say."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.exists() else []
    row = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return frozenset(row.partition(":")[2].split())
