"""Examples are imported from their files, once per process, under JAX's defaults."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "examples"


def load(name: str) -> tuple[ModuleType, str]:
    """An example as a module, and what it printed while it was imported."""
    module_name = f"examples_{name.replace('/', '_')}"
    known = sys.modules.get(module_name)
    if known is not None:
        return known, known.printed
    spec = importlib.util.spec_from_file_location(module_name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        spec.loader.exec_module(module)
    module.printed = printed.getvalue()
    return module, module.printed


@pytest.fixture
def example(request: pytest.FixtureRequest, jax_defaults: None) -> ModuleType:
    """The example that a test file is named after: tests/examples/test_kepler.py is about examples/kepler.py."""
    folder = request.path.parent.relative_to(Path(__file__).parent)
    return load((folder / request.path.stem.removeprefix("test_")).as_posix())[0]
