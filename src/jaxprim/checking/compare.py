"""Comparing arrays element by element, each with a tolerance of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxprim.checking.tolerances import Tolerance
from jaxprim.checking.values import Array


@dataclass(frozen=True)
class Comparison:
    """The outcome, at the element with the largest error in units of its tolerance.

    Attributes:
        ok: whether every judged element is within its tolerance.
        index: where the worst element is.
        ratio: its error in units of its tolerance.
        judged: how many elements were compared.
        bad: how many of them are off by more than their tolerance.
    """

    ok: bool
    index: tuple[int, ...]
    got: complex
    expected: complex
    error: float
    tolerance: float
    why: str
    ratio: float
    judged: int
    bad: int


def compare(got: Array, expected: Array, tolerance: Tolerance, judged: Array | None = None) -> Comparison:
    """Compare two arrays of one shape. Equal infinities and two NaNs agree; NaN against a number never does."""
    got, expected = np.asarray(got), np.asarray(expected)
    allowed = np.broadcast_to(tolerance.size, got.shape)
    use = np.ones(got.shape, bool) if judged is None else judged
    if not np.any(use):
        return Comparison(True, (), 0.0, 0.0, 0.0, 0.0, tolerance.why, 0.0, 0, 0)
    error = _distance(got, expected)
    with np.errstate(all="ignore"):
        ratio = np.where(error == 0, 0.0, error / allowed)
    ratio = np.where(use, np.where(np.isnan(ratio), np.inf, ratio), -1.0)
    worst = np.unravel_index(int(np.argmax(ratio)), got.shape)
    return Comparison(
        ok=bool(np.all(ratio <= 1)),
        index=tuple(int(i) for i in worst),
        got=got[worst].item(),
        expected=expected[worst].item(),
        error=float(error[worst]),
        tolerance=float(allowed[worst]),
        why=tolerance.why,
        ratio=float(ratio[worst]),
        judged=int(np.count_nonzero(use)),
        bad=int(np.count_nonzero(ratio > 1)),
    )


def _distance(got: Array, expected: Array) -> Array:
    """|got - expected|; 0 for equal infinities and for two NaNs; infinite where only one is finite."""
    if got.dtype.kind in "biu" and expected.dtype.kind in "biu":
        return np.where(got == expected, 0.0, np.maximum(1.0, np.abs(got.astype(float) - expected.astype(float))))
    with np.errstate(all="ignore"):
        distance = np.abs(got - expected)
        same = (got == expected) | (np.isnan(got) & np.isnan(expected))
        return np.where(same, 0.0, np.where(np.isnan(distance), np.inf, distance))


def overflow(value: Array, largest: float) -> Array:
    """``value``, infinite where it is beyond a dtype's largest number, as it would be in that dtype."""
    if np.iscomplexobj(value) or not np.isfinite(largest):
        return value
    return np.where(np.abs(value) > largest, np.copysign(np.inf, value), value)


def root_sum_square(*parts: Array | float) -> float:
    """The size of a sum of independent errors. They are squared in units of the largest, so that no square leaves the range."""
    largest = max((float(np.max(np.abs(part), initial=0.0)) for part in parts), default=0.0)
    if not largest or not np.isfinite(largest):
        return largest
    return largest * float(np.sqrt(sum(float(np.sum(np.abs(part / largest) ** 2)) for part in parts)))
