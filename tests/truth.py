"""Numbers that come from elsewhere than the code under test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def along(fn: Callable[..., Any], primals: Any, tangents: Any, step: float = 1e-3) -> Any:
    """The derivative of a function in one direction, by differences of 6th order; give it double precision."""
    terms = {1: 3 / 4, 2: -3 / 20, 3: 1 / 60}
    at = lambda t: jax.tree.map(np.asarray, fn(*jax.tree.map(lambda x, v: x + t * v, primals, tangents)))
    slope = lambda k: jax.tree.map(lambda right, left: right - left, at(k * step), at(-k * step))
    rows = [jax.tree.map(lambda d, w=weight: w * d / step, slope(k)) for k, weight in terms.items()]
    return jax.tree.map(lambda *parts: sum(parts), *rows)
