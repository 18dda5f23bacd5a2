"""Skips a test loudly where a tool that it needs is not on this machine."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

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
