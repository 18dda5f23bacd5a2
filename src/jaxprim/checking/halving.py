"""Find the one element that makes a sum wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from jaxprim.checking.probes import Tangents
from jaxprim.checking.values import Array


def halve(tangents: Tangents, gap: Callable[[Tangents], float]) -> tuple[int, tuple[int, ...]]:
    """The leaf and the index of the element that contributes most to a gap, which is linear in the tangents.

    Of two halves of the elements it follows the one with the larger gap, so that n elements take 2 log2(n) evaluations.
    """
    places = [(leaf, k) for leaf, t in tangents.items() for k in range(t.size)]
    while len(places) > 1:
        half = len(places) // 2
        places = max(places[:half], places[half:], key=lambda part: gap(_restrict(tangents, part)))
    leaf, k = places[0]
    return leaf, tuple(int(i) for i in np.unravel_index(k, tangents[leaf].shape))


def _restrict(tangents: Tangents, places: Sequence[tuple[int, int]]) -> Tangents:
    """The tangents with only these elements kept: pairs of a leaf and a flat index."""
    kept: dict[int, Array] = {}
    for leaf in sorted({leaf for leaf, _ in places}):
        flat = np.zeros(tangents[leaf].size, tangents[leaf].dtype)
        use = [k for other, k in places if other == leaf]
        flat[use] = tangents[leaf].ravel()[use]
        kept[leaf] = flat.reshape(tangents[leaf].shape)
    return kept
