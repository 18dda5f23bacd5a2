"""Kernels compile into a folder of the test run alone."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def _compiled_here(kernel_cache: str) -> None:
    pass
