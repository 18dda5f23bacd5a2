"""The build hook for hatchling: what it runs, and what it makes of the wheel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tools import needs

pytestmark = needs("hatchling")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A hook for a project, and the commands that it ran."""
    from _jaxprim_hatch import JaxprimBuildHook

    (tmp_path / "src" / "fastop" / "_kernels").mkdir(parents=True)
    (tmp_path / "src" / "fastop" / "_kernels" / "old.so").touch()
    ran: list[list[str]] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        (tmp_path / "src" / "fastop" / "_kernels").mkdir()
        return subprocess.CompletedProcess(command, run.code, stdout="1 kernel\nlinux_x86_64\n")

    run.code = 0
    monkeypatch.setattr(subprocess, "run", run)

    def hook(target: str = "wheel", **config: Any) -> Any:
        return JaxprimBuildHook(str(tmp_path), config, None, None, str(tmp_path), target)

    return SimpleNamespace(hook=hook, ran=ran, run=run, kernels=tmp_path / "src" / "fastop" / "_kernels")


def test_a_wheel_gets_the_libraries_and_the_tag_of_its_platform(project):
    data: dict[str, Any] = {"artifacts": []}
    hook = project.hook(modules=["src/fastop"], types={"T": ["f32", "f64"]}, platform="linux-x86_64", call=["m:f"])
    hook.initialize("standard", data)
    assert project.ran == [
        [sys.executable, "-m", "jaxprim", "build", "src/fastop", "--print-tag", "--type=T=f32,f64", "--call=m:f", "--platform=linux-x86_64"]
    ]  # fmt: skip
    assert data == {"artifacts": ["/src/fastop/_kernels/"], "pure_python": False, "tag": "py3-none-linux_x86_64"}
    assert not (project.kernels / "old.so").exists()
    hook.finalize("standard", data, "x.whl")
    assert not project.kernels.exists()


def test_the_tag_may_be_given(project):
    data: dict[str, Any] = {"artifacts": []}
    project.hook(modules=["src/fastop"], tag="manylinux_2_28_x86_64").initialize("standard", data)
    assert data["tag"] == "py3-none-manylinux_2_28_x86_64"


@pytest.mark.parametrize(("target", "version"), [("sdist", "standard"), ("wheel", "editable")])
def test_other_builds_stay_as_they_are(project, target, version):
    data: dict[str, Any] = {}
    project.hook(target, modules=["src/fastop"]).initialize(version, data)
    assert (data, project.ran) == ({}, [])


@pytest.mark.parametrize(
    ("config", "words"), [({}, "no modules"), ({"modules": ["a"], "type": {}}, "unknown option 'type'")]
)
def test_a_wrong_configuration_is_refused(project, config, words):
    with pytest.raises(ValueError, match=words):
        project.hook(**config).initialize("standard", {})


def test_a_kernel_that_does_not_compile_ends_the_build(project):
    project.run.code = 1
    with pytest.raises(SystemExit, match="jaxprim build failed with exit code 1"):
        project.hook(modules=["src/fastop"]).initialize("standard", {"artifacts": []})


def test_loading_it_imports_neither_jaxprim_nor_jax():
    program = "import sys, _jaxprim_hatch; print({'jax', 'jaxprim'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
