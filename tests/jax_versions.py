"""The JAX that runs, among the supported ones."""

from __future__ import annotations

import tomllib
from pathlib import Path

import jax

SUPPORTED: dict[str, str] = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["tool"][
    "jaxprim"
]["supported"]
# A JAX that is not in the table is a newer one.
IS_OLDER_JAX = jax.__version__ in list(SUPPORTED)[:-1]
