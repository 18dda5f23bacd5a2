from __future__ import annotations

import numpy as np

from jaxprim.checking.halving import halve


def test_halving_finds_the_element():
    tangents = {0: np.ones((3, 4)), 2: np.ones(5)}
    wrong = {(2, (3,)): 5.0, (0, (1, 1)): 1.0}

    def gap(some):
        return sum(size * float(some[leaf][index]) for (leaf, index), size in wrong.items() if leaf in some)

    assert halve(tangents, gap) == (2, (3,))
