"""The pages of the reference. Sphinx fills them from the docstrings."""

from __future__ import annotations

import importlib
import re
import types
from collections.abc import Iterable

import jaxprim

# The reference, one page for each title. A module stands for all its public names.
REFERENCE = {
    "Primitives": ["Primitive", "primitive", "from_numpy", "function", "Example"],
    "JAX's decorators": ["custom_vjp", "custom_jvp"],
    "Kernels": ["kernels"],
    "Checks": ["check", "report", "Report", "Finding", "testing", "testing.strategies"],
    "Random nests": ["fuzz", "fuzzing"],
    "Looking at rules": ["Explanation", "RuleInfo", "record_rules", "use"],
    "Zeros, and JAX's own names": ["Zero", "ad", "mlir"],
    "Errors": ["JaxprimError", "BadCall", "RuleMissing", "RuleWrong", "HostError", "KernelError", "CheckFailed"],
}


def toctree(entries: Iterable[str], caption: str = "") -> str:
    """A list of pages for the sidebar."""
    lines = "\n".join(entries)
    title = f":caption: {caption}\n" if caption else ""
    return f"\n```{{toctree}}\n:hidden:\n{title}\n{lines}\n```\n" if lines else ""


def reference() -> dict[str, str]:
    """The pages of the reference. Every public name has its place there."""
    listed = [name for names in REFERENCE.values() for name in names if "." not in name]
    if sorted(listed) != jaxprim.__all__:
        differ = sorted({*listed} ^ {*jaxprim.__all__})
        raise SystemExit(f"docs/site/reference.py: REFERENCE and jaxprim.__all__ differ: {differ}")
    slugs = {title: re.sub(r"\W+", "-", title.lower()).replace("-s-", "-") for title in REFERENCE}
    pages = {f"reference/{slugs[title]}.md": page(title, names) for title, names in REFERENCE.items()}
    head = "# Reference\n\nEvery public name, as its docstring tells it.\n"
    lists = (f"\n## {title}\n\n" + "".join(map(row, names)) for title, names in REFERENCE.items())
    return pages | {"reference/index.md": head + "".join(lists) + toctree(slugs.values())}


def row(name: str) -> str:
    """A name and the first paragraph of its docstring."""
    summary = " ".join((thing(name).__doc__ or "").strip().partition("\n\n")[0].split())
    role = "py:mod" if isinstance(thing(name), types.ModuleType) else "py:obj"
    return f"- {{{role}}}`{name} <jaxprim.{name}>`: {summary}\n"


def thing(name: str) -> object:
    return importlib.import_module(f"jaxprim.{name}") if "." in name else getattr(jaxprim, name)


def page(title: str, names: list[str]) -> str:
    return f"# {title}\n\n```{{eval-rst}}\n{''.join(map(entry, names))}```\n"


def entry(name: str) -> str:
    """What Sphinx is to document for a name."""
    found = thing(name)
    if not isinstance(found, types.ModuleType):
        return directive(f"jaxprim.{name}", found)
    members = {member: getattr(found, member) for member in getattr(found, "__all__", ())}
    new = [member for member in members if members[member] is not getattr(jaxprim, member, None)]
    documented = (directive(f"jaxprim.{name}.{member}", members[member]) for member in new)
    return f".. automodule:: jaxprim.{name}\n\n" + "".join(documented)


def directive(path: str, found: object) -> str:
    if isinstance(found, type) and issubclass(found, BaseException):
        return f".. autoexception:: {path}\n   :show-inheritance:\n\n"
    if isinstance(found, type):
        members = "   :members:\n   :inherited-members: Generic\n   :special-members: __call__\n"
        return f".. autoclass:: {path}\n{members}\n"
    return f".. autofunction:: {path}\n\n"
