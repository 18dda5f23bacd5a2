"""An import only ever points to a smaller number; JAX's internals have one door; importing jaxprim stays small."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import jaxprim

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "jaxprim"

# The layout, from the bottom up. A name is a module or a folder; files of one folder may use each other, without a circle.
LAYERS = (
    {"_origin", "_defaults", "_cache", "_split"},
    {"_errors", "_jax", "_jax.*", "_doctor", "_rule_kinds"},
    {"_programs"},
    {"_keys", "_pickling", "_types", "_avals", "_levels", "_masks", "_zeros"},
    {"_trees", "_closures", "_code", "_nondiff", "_sharded_types"},
    {"_structure"},
    {"_signature", "_linear", "_returned", "_keeping", "_functions"},
    {"_hoisting"},
    {"_rules"},
    {"_use", "_eager"},
    {"_calls"},
    {"_host"},
    {"forms.*"},
    {"forms"},
    {"derive.*"},
    {"derive"},
    {"_record", "ad", "mlir", "_checkable"},
    {"_primitive"},
    {"_custom"},
    {"kernels.*", "kernels"},
    {"checking.*", "checking"},
    {"testing.*", "testing", "fuzzing.*", "fuzzing"},
    {"cli.*", "cli"},
    {"", "__main__"},  # "" is the package's own __init__.py.
)
# Upward imports that are meant: (who, whom): why.
UPWARD = {
    ("_checkable", "checking.run"): "p.check() is the checker's front door; the import runs when it is called",
    (
        "checking.reports.report",
        "checking.reports.page",
    ): "report.html() is the page's front door, and the page reads the questions",
}
# Beside the standard library and jaxprim itself, at a file's top level.
REQUIRED = {"jax", "numpy"}
EXTRA = {
    "testing.strategies": {"hypothesis"},
    "cli": {"click"},
    "cli.build": {"click"},
    "cli.cache": {"click"},
    "cli.check": {"click"},
    "cli.check_run": {"click", "rich"},
    "cli.common": {"click"},
    "cli.doctor": {"click"},
    "cli.explain": {"click"},
    "cli.fuzz": {"click"},
    "cli.fuzz_run": {"rich"},
    "cli.new": {"click"},
    "cli.questions": {"click"},
    "cli.terminal": {"rich"},
}
PRIVATE_JAX = ("jax._src", "jax.extend", "jax.interpreters")


class Import(NamedTuple):
    """One imported module, absolute: `jax._src.core`, or `jaxprim._trees`."""

    target: str
    line: int
    at_top: bool


def module_name(path: Path) -> str:
    """`src/jaxprim/derive/jvp.py` is `derive.jvp`, a folder's `__init__.py` is `derive`, the package's is empty."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = sorted(SOURCE.rglob("*.py"))
MODULES = {module_name(path): path for path in FILES}


def absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    above = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*above, *([node.module] if node.module else [])])


def imports(tree: ast.Module, package: str, modules: frozenset[str]) -> Iterator[Import]:
    """Every import in a file, also inside functions; `from package import submodule` names the submodule."""
    top = set(tree.body)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, node in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node, package)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                is_module = full in modules or full.startswith(PRIVATE_JAX)
                yield Import(full if is_module else base, node.lineno, node in top)


def imports_of(name: str) -> list[Import]:
    path = MODULES[name]
    folder = name if path.name == "__init__.py" else name.rpartition(".")[0]
    known = frozenset(f"jaxprim.{module}".rstrip(".") for module in MODULES)
    return list(imports(ast.parse(path.read_text()), f"jaxprim.{folder}".rstrip("."), known))


def layer(name: str) -> int | None:
    folder = name.partition(".")[0]
    wanted = {f"{folder}.*"} if "." in name else {name}
    return next((number for number, row in enumerate(LAYERS) if wanted & row), None)


def own(target: str) -> str | None:
    package, _, rest = target.partition(".")
    return rest if package == "jaxprim" else None


def points_down(importer: str, imported: str) -> bool:
    above, below = layer(importer), layer(imported)
    if above is None or below is None:
        return False
    same_folder = importer.partition(".")[0] == imported.partition(".")[0]
    return below < above or (below == above and same_folder) or (importer, imported) in UPWARD


def wrong_directions(importer: str, found: list[Import]) -> list[str]:
    return [
        f"{importer or '__init__'}:{row.line} (layer {layer(importer)}) imports {name or '__init__'} (layer {layer(name)})"
        for row in found
        if (name := own(row.target)) is not None and not points_down(importer, name)
    ]


def private_uses(tree: ast.Module) -> list[str]:
    """Imports of JAX's internals, and attribute chains such as `jax.interpreters.mlir`."""
    chains = [(ast.unparse(n), n.lineno) for n in ast.walk(tree) if isinstance(n, ast.Attribute)]
    named = [(row.target, row.line) for row in imports(tree, "", frozenset())]
    return [f"{line}: {text}" for text, line in chains + named if text.startswith(PRIVATE_JAX)]


@pytest.mark.parametrize("name", MODULES, ids=lambda name: name or "__init__")
def test_every_module_has_a_layer(name):
    assert layer(name) is not None, f"{MODULES[name]} stands in no row of LAYERS"


@pytest.mark.parametrize("name", MODULES, ids=lambda name: name or "__init__")
def test_an_import_points_to_a_smaller_number(name):
    assert wrong_directions(name, imports_of(name)) == []


def test_no_circle():
    graph = {
        name: {target for row in imports_of(name) if (target := own(row.target)) in MODULES and target != name}
        - {imported for importer, imported in UPWARD if importer == name}
        for name in MODULES
    }
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize(
    "name", sorted(name for name in MODULES if name.partition(".")[0] != "_jax"), ids=lambda name: name or "__init__"
)
def test_jax_internals_have_one_door(name):
    assert private_uses(ast.parse(MODULES[name].read_text())) == []


@pytest.mark.parametrize("path", sorted((ROOT / "examples").rglob("*.py")), ids=lambda path: path.name)
def test_examples_need_no_jax_internals(path):
    assert private_uses(ast.parse(path.read_text())) == []


@pytest.mark.parametrize("name", MODULES, ids=lambda name: name or "__init__")
def test_top_level_needs_only_jax_and_numpy(name):
    allowed = REQUIRED | EXTRA.get(name, set()) | sys.stdlib_module_names | {"jaxprim"}
    found = {row.target.partition(".")[0] for row in imports_of(name) if row.at_top}
    assert found <= allowed


@pytest.mark.parametrize("upward", UPWARD, ids=" -> ".join)
def test_every_exception_is_used_and_lazy(upward):
    importer, imported = upward
    rows = [row for row in imports_of(importer) if own(row.target) == imported]
    assert rows
    assert not any(row.at_top for row in rows)


def test_import_loads_nothing_and_a_primitive_loads_neither_the_command_line_nor_the_checker():
    program = """if True:
    import sys, jaxprim
    print(*set(sys.modules) & {'jax', 'numpy'})
    jaxprim.Primitive
    lazy = {'click', 'jinja2', 'platformdirs', 'rich'}  # and filelock, but JAX loads that itself where it is installed
    print(*set(sys.modules) & {*lazy, 'jaxprim.cli', 'jaxprim.checking', 'jaxprim.kernels', 'scipy.sparse'})
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == ([], "")


def test_each_name_of_the_package_comes_from_where_a_type_checker_finds_it():
    tree = ast.parse(MODULES[""].read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    found = {alias.name: node.module for node in block.body for alias in node.names}
    assert sorted(found) == sorted(jaxprim.__all__)
    for name, module in found.items():
        owner = importlib.import_module(module)
        assert getattr(jaxprim, name) is getattr(owner, name), name
        assert jaxprim._HOMES.get(name, "") == module.removeprefix("jaxprim").removeprefix(".")


# The tests above, tested with faults.

KNOWN = frozenset({"jaxprim", "jaxprim._trees", "jaxprim._rules", "jaxprim.derive", "jaxprim.derive.jvp"})


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("_trees", "import jaxprim._rules"),
        ("_trees", "from jaxprim import _rules"),
        ("_trees", "from ._rules import RuleSet"),
        ("_trees", "def f():\n    from . import _rules"),
        ("_zeros", "from ._trees import leaf_names"),
        ("_trees", "from jaxprim import Primitive"),
        ("_rules", "from .derive.jvp import from_vjp"),
        ("_rules", "from . import unheard_of"),
    ],
)
def test_a_wrong_direction_is_caught(importer, source):
    assert wrong_directions(importer, list(imports(ast.parse(source), "jaxprim", KNOWN)))


@pytest.mark.parametrize(
    ("importer", "package", "source"),
    [
        ("_rules", "jaxprim", "from . import _trees"),
        ("_rules", "jaxprim", "import jax, numpy.linalg"),
        ("derive.vjp", "jaxprim.derive", "from .jvp import from_vjp"),
        ("derive.vjp", "jaxprim.derive", "from .._rules import RuleSet"),
        ("_primitive", "jaxprim", "from jaxprim.derive import complete"),
    ],
)
def test_a_right_direction_passes(importer, package, source):
    assert not wrong_directions(importer, list(imports(ast.parse(source), package, KNOWN)))


@pytest.mark.parametrize(
    "source",
    [
        "import jax._src.core",
        "from jax import _src",
        "from jax._src import core",
        "from jax.extend.core import Primitive",
        "import jax\njax.interpreters.ad.Zero",
        "def f():\n    from jax.interpreters import mlir",
    ],
)
def test_a_use_of_jax_internals_is_caught(source):
    assert private_uses(ast.parse(source))
