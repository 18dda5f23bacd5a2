"""Sphinx's settings for the site. ``docs/site/build.py`` lays out the pages and starts Sphinx.

Nothing is fetched, neither while the site is built nor while it is read: there is no font, script or inventory of another
host in it.
"""

from __future__ import annotations

import ast
import inspect
import os
import sys
from pathlib import Path
from typing import Any

from layout import REPOSITORY, ROOT, placed
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

import jaxprim

# The workflow says which commit it builds, so that a line number stays right when the code moves.
COMMIT = os.environ.get("GITHUB_SHA", "main")

project = "jaxprim"
author = project_copyright = "The jaxprim authors"
version = release = jaxprim.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.linkcode"]
# As deep as GitHub makes anchors, and with the same names.
myst_heading_anchors = 6

# Docstrings name things in single backticks, as `Primitive.def_vjp`.
default_role = "py:obj"
autodoc_member_order = "bysource"
# The types are told in words; those of the code are full of overloads and type variables.
autodoc_typehints = "none"
autodoc_inherit_docstrings = False
python_maximum_signature_line_length = 80
# Fields of a dataclass are told in its docstring, and are not members to document once more.
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_baseurl = "https://jaxprim.github.io/jaxprim/"
html_title = f"jaxprim {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = False
html_show_sphinx = False
html_theme_options = {
    "top_of_page_buttons": ["view", "edit"],
    "footer_icons": [{"name": "GitHub", "url": REPOSITORY, "html": "The code on GitHub", "class": ""}],
}
pygments_dark_style = "a11y-dark"  # The theme's light one is a11y-light.

SOURCES = {place: path for path, place in placed().items()}


def name_source(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: object) -> None:
    """The buttons above a page lead to the file that it was made from."""
    source = SOURCES.get(f"{page}.md")
    for button, verb in (("view", "blob"), ("edit", "edit")):
        context[f"theme_source_{button}_link"] = f"{REPOSITORY}/{verb}/main/{source}" if source else ""


def keep_first_line(app: Sphinx, what: str, name: str, found: object, options: object, lines: list[str]) -> None:
    """Napoleon takes the words of a property before a colon for a type: so begin with an empty comment."""
    if what == "property":
        lines[:0] = ["..", ""]


def find_public(app: Sphinx, env: BuildEnvironment, node: Any, text: Any) -> Any:
    """A docstring may name `Primitive` or `kernels.cpp` in any module, as its reader would."""
    known = env.get_domain("py").objects if node.get("refdomain") == "py" else {}
    found = known.get(f"jaxprim.{node['reftarget']}")
    return found and make_refnode(app.builder, node["refdoc"], found.docname, found.node_id, text)


def setup(app: Sphinx) -> None:
    app.connect("html-page-context", name_source)
    app.connect("autodoc-process-docstring", keep_first_line, priority=400)  # before napoleon's
    app.connect("missing-reference", find_public)


def linkcode_resolve(domain: str, info: dict[str, str]) -> str | None:
    """The lines of a class or function on GitHub."""
    found = sys.modules.get(info["module"])
    try:
        for name in info["fullname"].split("."):
            found = inspect.getattr_static(found, name) if inspect.isclass(found) else getattr(found, name)
        file, first, last = of_class(found) if inspect.isclass(found) else of_function(found)
        path = Path(file).resolve().relative_to(ROOT).as_posix()
    except (AttributeError, TypeError, ValueError, OSError):  # a value without source, or a name of JAX's
        return None
    return f"{REPOSITORY}/blob/{COMMIT}/{path}#L{first}-L{last}"


def of_function(found: Any) -> tuple[str, int, int]:
    found = inspect.unwrap(getattr(found, "fget", None) or getattr(found, "__func__", found))
    lines, first = inspect.getsourcelines(found)
    return inspect.getfile(found), first, first + len(lines) - 1


def of_class(found: type) -> tuple[str, int, int]:
    """A public class says that it is in `jaxprim`, where `inspect` looks for it. It is where a module defines it."""
    modules = [module for name, module in sys.modules.items() if name.startswith("jaxprim.")]
    for module in modules:
        if getattr(module, found.__name__, None) is found:
            for node in ast.parse(Path(module.__file__ or "").read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and node.name == found.__name__:
                    return module.__file__ or "", node.lineno, node.end_lineno or node.lineno
    raise TypeError(f"{found} is defined nowhere in jaxprim")
