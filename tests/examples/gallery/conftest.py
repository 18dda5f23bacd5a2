"""Each file of the gallery is tested in double precision, and its kernels compile into a folder of the test run alone.

Its `check` asks the fast questions here, to save time; `jaxprim check examples/gallery/FILE.py` asks all that are ordinary.
"""

from __future__ import annotations

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(autouse=True)
def _compiled_here(kernel_cache: str) -> None:
    pass


@pytest.fixture(autouse=True)
def _x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield
