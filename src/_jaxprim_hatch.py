"""The build hook for hatchling: a wheel gets the package's kernels as libraries, and the tag of its platform.

    [build-system]
    requires = ["hatchling", "jaxprim"]
    build-backend = "hatchling.build"

    [tool.hatch.build.targets.wheel.hooks.jaxprim]
    modules = ["src/fastop"]

It runs `jaxprim build` in a process of its own. This module imports neither jaxprim nor JAX: hatchling loads the hooks of
all packages that are installed, in every build.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.plugin import hookimpl

FOLDER = "_kernels"
OPTIONS = {"dependencies", "enable-by-default", "require-runtime-dependencies", "require-runtime-features"}
OWN = {"modules", "types", "call", "platform", "tag"}


class JaxprimBuildHook(BuildHookInterface):  # pyright: ignore[reportMissingTypeArgument]
    """`jaxprim build` before a wheel is put together.

    Its options:
        modules: files or folders of packages, each with the kernels that it makes when it is imported.
        types: for each type variable, or ``kernel.T``, the dtypes that are wanted: ``{ T = ["f32", "f64"] }``.
        call: functions to call after the import, because they make kernels: ``["fastop.ops:prepare"]``.
        platform: the platform that the compiler builds for, such as ``linux-aarch64``, if it is another than this one.
        tag: the platform in the wheel's name, such as ``manylinux_2_28_x86_64``, if it is known to fit.
    """

    PLUGIN_NAME = "jaxprim"

    def clean(self, versions: list[str]) -> None:
        for folder in self._folders():
            shutil.rmtree(folder, ignore_errors=True)

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        # With the sources at hand, kernels are compiled on first use.
        if self.target_name != "wheel" or version == "editable":
            return
        unknown = sorted(set(self.config) - OWN - OPTIONS)
        if unknown or not self.config.get("modules"):
            wrong = f"unknown option {unknown[0]!r}" if unknown else "no modules"
            raise ValueError(f'jaxprim\'s build hook: {wrong}; write: modules = ["src/my_package"]')
        self.clean([version])
        tag = self._run("build", *self.config["modules"], *self._arguments()).strip().splitlines()[-1]
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{self.config.get('tag') or tag}"
        for folder in self._folders():
            build_data["artifacts"].append(f"/{folder.relative_to(self.root).as_posix()}/")

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        self.clean([version])  # the project stays as it was; there the kernels are compiled on first use

    def _folders(self) -> list[Path]:
        """Where the libraries of each module go: into its folder, which the wheel has."""
        paths = [Path(self.root, module) for module in self.config.get("modules", ())]
        return list(dict.fromkeys((path if path.is_dir() else path.parent) / FOLDER for path in paths))

    def _arguments(self) -> list[str]:
        types = [f"--type={name}={','.join(dtypes)}" for name, dtypes in self.config.get("types", {}).items()]
        calls = [f"--call={name}" for name in self.config.get("call", ())]
        platform = self.config.get("platform")
        return ["--print-tag", *types, *calls, *([f"--platform={platform}"] if platform else [])]

    def _run(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "jaxprim", *arguments]
        done = subprocess.run(command, cwd=self.root, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            sys.stderr.write(done.stdout)
            raise SystemExit(f"jaxprim build failed with exit code {done.returncode}")
        sys.stderr.write(done.stdout)
        return done.stdout


@hookimpl
def hatch_register_build_hook() -> type[JaxprimBuildHook]:
    return JaxprimBuildHook
