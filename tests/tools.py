"""Marks that skip a test loudly where a tool is not on this machine, and what a compiled program for several devices says."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from collections.abc import Callable
from typing import Any

import jax
import pytest

from jaxprim import KernelError
from jaxprim.kernels import build
from jaxprim.kernels.languages import CPP, CUDA, Language


def _has(language: Language) -> bool:
    try:
        build.compiler(language)
    except KernelError:
        return False
    return True


def _gpu() -> bool:
    try:
        return bool(jax.devices("cuda"))
    except RuntimeError:
        return False


cxx = pytest.mark.skipif(not _has(CPP), reason="NOT TESTED: no C++ compiler on this machine (apt install g++)")
nvcc = pytest.mark.skipif(not _has(CUDA), reason="NOT TESTED: no nvcc on this machine (the CUDA toolkit)")
_skip_without_gpu = pytest.mark.skipif(
    not _gpu(), reason="NOT TESTED: JAX sees no NVIDIA GPU on this machine; the kernel only compiles"
)


def gpu(test: Callable[..., object]) -> Callable[..., object]:
    """Marks a test that needs a GPU, so that benchmarks/gpu/run.sh finds it."""
    return pytest.mark.gpu(_skip_without_gpu(test))


no_gpu = pytest.mark.skipif(_gpu(), reason="there is a GPU")


def needs(module: str) -> pytest.MarkDecorator:
    """A mark for a test that needs an optional package."""
    missing = importlib.util.find_spec(module) is None
    return pytest.mark.skipif(missing, reason=f"NOT TESTED: {module} is not installed (pip install {module})")


def header(name: str, package: str) -> pytest.MarkDecorator:
    """A mark for a test that compiles against a library of this machine."""
    try:
        words = [*build.compiler(CPP), "-x", "c++", "-fsyntax-only", "-include", name, os.devnull]
        found = subprocess.run(words, check=False, capture_output=True).returncode == 0
    except KernelError:
        found = False
    return pytest.mark.skipif(not found, reason=f"NOT TESTED: no {name} on this machine (apt install {package})")


def collectives(compiled: Any) -> dict[str, int]:
    """How often a compiled program communicates, by the kind of communication."""
    words = ("all-gather", "all-reduce", "collective-permute", "all-to-all")
    return {word: len(re.findall(rf" {word}(?:-start)?\(", compiled.as_text())) for word in words}


def shapes_seen(compiled: Any) -> set[str]:
    """The shapes of the results of foreign calls."""
    return set(re.findall(r"= f32\[([\d,]*)\]\S* custom-call", compiled.as_text()))
