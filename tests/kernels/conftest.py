"""Kernels compile into a folder of the test run alone, which its workers share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def kernel_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    base = tmp_path_factory.getbasetemp()
    # With pytest-xdist, each worker's base folder lies in the run's.
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    before = os.environ.get("JAXPRIM_CACHE")
    os.environ["JAXPRIM_CACHE"] = str(shared / "kernels")
    yield os.environ["JAXPRIM_CACHE"]
    os.environ.pop("JAXPRIM_CACHE")
    if before is not None:
        os.environ["JAXPRIM_CACHE"] = before
