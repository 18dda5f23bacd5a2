"""`jaxprim new`: each kind of project is made, and passes its own check and its own tests."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from programs import run
from tools import cxx, needs, nvcc

from jaxprim import BadCall, kernels
from jaxprim.cli.new.project import KINDS, create, rendered

NEEDED = {"cpp": [cxx], "library": [cxx], "numba": [cxx, needs("numba")]}
each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def folder(tmp_path, tmp_path_factory, monkeypatch) -> Path:
    """The current folder, an empty one. Kernels are compiled once for this file."""
    monkeypatch.setenv("JAXPRIM_CACHE", str(tmp_path_factory.getbasetemp() / "new_kernels"))
    monkeypatch.syspath_prepend(str(tmp_path))  # undone with what the check and pytest add
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ------------------------------------------------------------------------------------------------------- the projects
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=NEEDED.get(kind, [])) for kind in KINDS])
@pytest.mark.usefixtures("jax_defaults")
def test_a_new_project_passes(kind, folder, monkeypatch, capsys):
    name = f"op_{kind}"
    made = run("new", name, "--kind", kind)
    assert made.exit_code == 0, made.output
    assert made.output.splitlines()[1:] == [f"  cd {name}", f"  jaxprim check {name}.py", "  pytest"]
    monkeypatch.chdir(folder / name)
    checked = run("check", f"{name}.py", "--only", "jvp-differences")  # the project's own tests ask all questions
    assert checked.exit_code == 0, checked.output
    # Its own session; without nvcc's build for every GPU, which takes longer than all else.
    found = pytest.main(
        [
            "-q",
            "-rs",
            "-p",
            "no:cacheprovider",
            "-n",
            "0",
            "--deselect",
            f"tests/test_{name}_cuda.py::test_it_compiles",
            ".",
        ]
    )
    printed = capsys.readouterr().out
    assert found == 0, printed
    assert "8 passed" in printed
    assert ("NOT TESTED: JAX sees no NVIDIA GPU" in printed) == ("skipped" in printed)


@nvcc
def test_the_cuda_source_compiles(folder):
    create("op", "cuda", folder)
    signature = "log_sum_exp(x: T[m, n]) -> T[m]"
    kernels.cuda(folder / "op" / "op.cu", signature, flags=("-arch=sm_80",)).build(T="f32")


@each_kind
def test_the_code_is_clean(kind, folder):
    create("op", kind, folder)
    for command in (["check", "--select", "E,F,I,B,UP,RUF,N", "--ignore", "RUF002"], ["format", "--check"]):
        line = [
            sys.executable,
            "-m",
            "ruff",
            command[0],
            "--isolated",
            "--no-cache",
            "--line-length",
            "120",
            *command[1:],
        ]
        done = subprocess.run([*line, "."], cwd=folder / "op", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


@each_kind
def test_the_readme_says_the_two_commands_and_nothing_is_left_open(kind):
    files = rendered("op", kind)
    assert "\n```bash\njaxprim check op.py\npytest\n```\n" in files[Path("README.md")]
    assert [path for path, source in files.items() if "$" in source or "NAME" in str(path)] == []
    for path in files:
        if path.suffix in (".cpp", ".cu"):
            assert f"`{path}`" in files[Path("README.md")]
            assert f'"{path}"' in files[Path("pyproject.toml")]


@each_kind
def test_every_kind_gives_both_rules_and_examples(kind):
    tree = ast.parse(rendered("op", kind)[Path("op.py")])
    written = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert {"def_jvp", "def_vjp", "def_examples"} <= written


# ----------------------------------------------------------------------------------------------------------- messages
def refused(name: str, kind: str = "cpp") -> str:
    before = sorted(Path().rglob("*"))
    with pytest.raises(BadCall) as caught:
        create(name, kind, Path())
    assert sorted(Path().rglob("*")) == before
    return str(caught.value)


def test_nothing_is_overwritten(folder):
    (folder / "op").mkdir()
    (folder / "other").write_text("mine")
    assert (
        refused("op")
        == """new: op already exists.
  got:      op
  expected: a name that is not in use here"""
    )
    refused("other")
    assert (folder / "other").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "instead"),
    [("my-op", "my_op"), ("3d", "op_3d"), ("../up", "up"), ("_x_", "x"), ("größe", "gr_e"), ("", "op")],
)
def test_a_name_that_cannot_be_used(name, instead, folder):
    assert (
        refused(name)
        == f"""new: this name cannot be used.
  got:      {name!r}
  expected: letters, digits and underscores, a letter first and no underscore last
  why:      it names a Python variable, a module and a project
  write:    jaxprim new {instead}"""
    )


@pytest.mark.parametrize("name", ["lambda", "print", "jnp", "kernel", "weights"])
def test_a_name_that_means_something_in_the_code(name, folder):
    assert (
        refused(name)
        == f"""new: the name '{name}' is taken.
  why:      it is a name in Python or in the generated code
  write:    jaxprim new my_{name}"""
    )


@pytest.mark.parametrize("name", ["scipy", "json"])
def test_a_name_of_a_module(name, folder):
    assert (
        refused(name)
        == f"""new: the name '{name}' is taken.
  why:      it is an importable module, which the new one would hide
  write:    jaxprim new my_{name}"""
    )


def test_an_unknown_kind(folder):
    assert (
        refused("op", "rust")
        == """new: unknown kind.
  got:      'rust'
  expected: cpp | cuda | numba | numpy | pallas | library"""
    )


@pytest.mark.parametrize("arguments", [("op", "--kind", "rust"), ("op",), ("my-op", "--kind", "cpp")])
def test_a_wrong_command_exits_2(arguments, folder):
    found = run("new", *arguments)
    assert found.exit_code == 2
    assert list(folder.iterdir()) == []
