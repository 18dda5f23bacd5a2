"""The way of a maintainer, from nothing to a user without a compiler: ``uv run python tests/maintainer.py``.

1. jaxprim's sdist and wheel are built, and `twine check --strict` reads them.
2. `jaxprim new fastop --kind cpp`, in an environment that has that wheel alone.
3. The commands of the project's README, word by word, with the pip that the Python came with: set up, check, test, build a
   wheel. In between the kernel is changed, the check finds that the rules are wrong now, and the rules are changed too.
4. The project's wheel in environments whose PATH is empty, with the oldest and the newest JAX of [tool.jaxprim.supported]:
   value and gradient are compared with formulas in NumPy.

`--kind` and `--python` walk it for other kinds of projects and with other Pythons. Everything is installed from the package
index. What can't be walked here is said in a line that begins with SKIPPED. Exits with 1 when a step fails.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pages
from releases import ROOT, environment, find_python, releases, say

KINDS = ("cpp", "cuda", "numba", "numpy", "pallas", "library")
# What a kind needs on this machine, and says so in its README.
TOOLS = {"cpp": "g++", "library": "g++", "numba": "g++", "cuda": "nvcc"}
NAME = "fastop"

# The maintainer's own kernel: y = 2 log sum_i exp(x_i), so that dy/dx_i = 2 exp(x_i - y / 2).
KERNEL = (f"src/{NAME}/{NAME}.cpp", "*out = shift + std::log(sum);", "*out = 2 * (shift + std::log(sum));")
RULES = (f"src/{NAME}/ops.py", "return jnp.exp(x - y[..., None])", "return 2 * jnp.exp(x - y[..., None] / 2)")
REFERENCE = (f"tests/test_{NAME}.py", "return jax.nn.logsumexp", "return 2 * jax.nn.logsumexp")

PROGRAM = f"""
import os, shutil, sys
import jax, numpy as np
from {NAME} import {NAME}

assert not any(map(shutil.which, ("c++", "g++", "clang++", "cc", "nvcc"))), "there is a compiler"
x = np.linspace(-2, 2, 6, dtype=np.float32).reshape(2, 3)
total, kind, factor = np.sum(np.exp(x), axis=-1), sys.argv[1], float(sys.argv[2])
value, slope = factor * np.log(total), factor * np.exp(x) / total[:, None]
if kind == "library":
    from math import erf, pi
    value, slope = np.vectorize(erf)(x), 2 / pi**0.5 * np.exp(-(x**2))
np.testing.assert_allclose({NAME}(x), value, rtol=1e-5)
np.testing.assert_allclose(jax.jit(jax.grad(lambda x: {NAME}(x).sum()))(x), slope, rtol=1e-4)
assert os.listdir(os.environ["HOME"]) == [], "something was written into the user's home"
print(f"JAX {{jax.__version__}}, Python {{sys.version.split()[0]}}")
"""


class Failed(Exception):
    """A step failed; the message has its output."""


def main() -> int:
    supported = releases()
    newest = list(supported)[-1]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kind", action="append", choices=KINDS, help="a kind of project (cpp)")
    parser.add_argument("--python", action="append", metavar="3.N", help=f"a Python ({supported[newest]['python']})")
    given = parser.parse_args()
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder).resolve()
            distributions(work / "dist")
            for python in given.python or [supported[newest]["python"]]:
                for kind in given.kind or ["cpp"]:
                    walk(kind, python, work)
    except Failed as error:
        say(f"FAILED   {error}")
        return 1
    say(f"walked   all of it in {time.monotonic() - began:.0f} s")
    return 0


# ------------------------------------------------------------------------------------------------------------- the steps
def distributions(out: Path) -> None:
    """jaxprim's own sdist, and the wheel that is built from it."""
    run(["uv", "build", "--quiet", "--python", sys.executable, "--out-dir", str(out)], ROOT)
    found = sorted(path for path in out.iterdir() if path.suffix in (".whl", ".gz"))
    run(["uv", "tool", "run", "--quiet", "twine", "check", "--strict", *map(str, found)], ROOT)
    with zipfile.ZipFile(next(path for path in found if path.suffix == ".whl")) as wheel:
        metadata = next(wheel.read(name).decode() for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    relative = [target for target in pages.links(metadata) if not re.match(r"[a-z]+:|#", target)]
    if relative:
        raise Failed(f"links in the wheel's README that lead nowhere: {relative}")
    sizes = ", ".join(f"{path.name} {path.stat().st_size // 1000} kB" for path in found)
    say(f"walked   {sizes}: twine check --strict")


def walk(kind: str, python: str, work: Path) -> None:
    """Make a project of a kind, and do with it what its README says."""
    interpreter = find_python(python)
    if interpreter is None or (kind in TOOLS and not shutil.which(TOOLS[kind])):
        lacking = f"Python {python}" if interpreter is None else TOOLS[kind]
        say(f"SKIPPED  {kind} on Python {python}: no {lacking} on this machine")
        return
    began, folder = time.monotonic(), work / f"{kind}-{python}"
    project = new_project(kind, interpreter, folder, work)
    setup, check, build = project.commands()
    project.shell(setup)
    ran = run([str(project.folder / ".venv/bin/python"), "--version"], project.folder)
    if not ran.startswith(f"Python {python}."):
        raise Failed(f"Python {python} was asked for, and `python3` is {ran}")
    if kind == "cpp":
        project.change(*KERNEL)
        refused(project, f"jaxprim check src/{NAME} --only jvp-differences")
        project.change(*RULES)
        project.change(*REFERENCE)
    project.shell(check)
    project.shell(build)
    say(f"walked   {kind} on Python {python}, by the new project's README: {time.monotonic() - began:.0f} s")
    (wheel,) = (project.folder / "dist").iterdir()
    supported = releases()
    oldest, newest = next(iter(supported)), list(supported)[-1]
    for release in (oldest, newest) if kind == "cpp" else (newest,):
        use(wheel, kind, release, supported[release]["python"], work)


def new_project(kind: str, interpreter: str, folder: Path, work: Path) -> Project:
    """What `jaxprim new` writes, in an environment that has jaxprim's wheel and what that depends on."""
    folder.mkdir()
    python = environment_with([*map(str, (work / "dist").glob("*.whl"))], interpreter, folder / "tool", work)
    run([str(python.parent / "jaxprim"), "new", NAME, "--kind", kind], folder)
    env = {**environment(), "JAXPRIM_CACHE": str(folder / "cache"), "JAX_PLATFORMS": "cpu"}
    # Where pip looks for jaxprim, beside the index; and the Python that `python3` is.
    env["PIP_FIND_LINKS"] = f"{env.get('PIP_FIND_LINKS', '')} {work / 'dist'}".strip()
    env["PIP_NO_COMPILE"] = "1"  # Python compiles what is imported, and pip all of JAX and SciPy, in each environment
    env["PATH"] = os.pathsep.join([str(Path(interpreter).parent), env["PATH"]])
    return Project(folder / NAME, env)


@dataclass(frozen=True)
class Project:
    """A project, and the environment of its maintainer's shell."""

    folder: Path
    env: dict[str, str]

    def commands(self) -> list[str]:
        """What its README says to type: to set up, to check and test, to build."""
        text = (self.folder / "README.md").read_text()
        return [block.text for block in pages.blocks(text) if block.info == ("bash",)]

    def shell(self, lines: str) -> None:
        """Type lines into a shell, where what the set-up has activated is active."""
        activate = ". .venv/bin/activate\n" if (self.folder / ".venv").exists() else ""
        run(["bash", "-e", "-c", activate + lines], self.folder, self.env)

    def change(self, path: str, old: str, new: str) -> None:
        text = (self.folder / path).read_text()
        if text.count(old) != 1:
            raise Failed(f"{path} does not hold one {old!r}")
        (self.folder / path).write_text(text.replace(old, new))


def refused(project: Project, check: str) -> None:
    """The check must fail where the rules are not those of the kernel."""
    try:
        project.shell(check)
    except Failed as error:
        if not str(error).startswith("status 1 "):
            raise
    else:
        raise Failed("the check did not see that the kernel had changed")


def use(wheel: Path, kind: str, release: str, python: str, work: Path) -> None:
    """A user's machine, with a JAX, and without a compiler."""
    interpreter = find_python(python)
    if interpreter is None:
        say(f"SKIPPED  the wheel on JAX {release}: no Python {python} on this machine")
        return
    folder, home = wheel.parents[2] / f"user-{release}", wheel.parents[2] / f"home-{release}"
    home.mkdir()
    user = environment_with([str(wheel), f"jax=={release}"], interpreter, folder, work)
    env = {"PATH": "/nowhere", "HOME": str(home), "JAX_PLATFORMS": "cpu"}
    said = run([str(user), "-c", PROGRAM, kind, "2" if kind == "cpp" else "1"], home, env)
    if f"JAX {release}," not in said:
        raise Failed(f"JAX {release} was asked for, and another ran: {said}")
    size = wheel.stat().st_size / 1000
    say(f"walked   {wheel.name}, {size:.0f} kB, without a compiler on {said.strip()}: value and gradient are right")


# --------------------------------------------------------------------------------------------------------------- helpers
def environment_with(packages: list[str], interpreter: str, folder: Path, work: Path) -> Path:
    """A new environment with these packages, by uv, whose cache makes it quick; returns its Python."""
    run(["uv", "venv", "--quiet", "--python", interpreter, str(folder)], work)
    python = folder / "bin" / "python"
    find = ["--find-links", str(work / "dist")]
    run(["uv", "pip", "install", "--quiet", "--python", str(python), *find, *packages], work)
    return python


def run(command: list[str], folder: Path, env: dict[str, str] | None = None) -> str:
    """Run a command; returns what it printed."""
    env = environment() if env is None else env
    done = subprocess.run(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise Failed(f"status {done.returncode} of: {' '.join(command)}\n{done.stdout}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
