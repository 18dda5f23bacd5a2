"""The JAX that runs, among those of [tool.jaxprim.supported]."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import jax

_META: Any = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
_TABLE: dict[str, dict[str, str]] = _META["tool"]["jaxprim"]["supported"]
# Each release that works, and the Python that it is tested on.
RELEASES = {release: row["python"] for release, row in _TABLE.items()}
# Those on which `.ci/run` runs everything.
SUPPORTED = {release: row["python"] for release, row in _TABLE.items() if row["ci"] == "whole"}
# Set by tests/releases.py: one op of each kind alone, so that a release takes minutes.
ROWS_ALONE = "JAXPRIM_ROWS_ALONE" in os.environ
# A JAX that is not in the table is a newer one.
IS_OLDER_JAX = jax.__version__ in list(SUPPORTED)[:-1]
