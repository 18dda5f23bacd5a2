"""Points far from the example: other sizes and signs, without its symmetries and ties, but with the structure it needs.

An example may be right by chance: at a symmetric A, A and A.T are the same; at zero, x^2 and x^3 have one slope. So the
numbers of each operand are drawn anew. What an implementation may rely on is kept:

- infinities and NaNs, such as those of a mask; integers, truth values and keys;
- rows that sum to one, which are probabilities;
- behind code that JAX cannot look into, or in a loop: symmetry and definiteness, an increasing grid and its equal spacing,
  zeros, orthogonality. A solver gives numbers for a matrix that it is not made for, and they mean nothing.

Such code also gives numbers, and no NaN, where an iteration does not converge. So unless def_domain says how far it goes,
its operands stay among the numbers of the example. A loop that carries only integers, such as a search in a grid, is no
such iteration.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from jaxprim import _jax
from jaxprim.checking import probes, tolerances
from jaxprim.checking.answers import NotAsked, Refusal, attempt
from jaxprim.checking.case import Case
from jaxprim.checking.domain import invent
from jaxprim.checking.probes import Stream
from jaxprim.checking.structures import MONOTONIC, has_equal_steps, structure_of
from jaxprim.checking.values import Array, has_tangents, wide

# The sizes of drawn numbers, in powers of ten of the operand's typical size. Together they cover 1e-2 to 1e2.
SIZES = {"of about its size": (-0.5, 0.5), "of small numbers": (-2.0, -0.5), "of large numbers": (0.5, 2.0)}
# The same where nothing says how far the domain goes: no larger, and of the same sign.
AMONG = {"among the numbers of the example": (-0.3, 0.0)}
# Where a point is outside the domain, the next has half and a quarter of these powers.
SHRINK = (1.0, 0.5, 0.25)
# Beyond this many numbers a point takes long, and says as much as several.
MANY = 10_000


def redrawn(case: Case) -> Iterator[Case]:
    """A case for each of the sizes, with as many operands drawn anew as the domain allows."""
    hides = hides_its_domain(case)
    many = sum(np.size(leaf) for leaf in case.point.leaves) > MANY
    among = hides and not case.subject.declares_domain and may_iterate(case)
    for words, decades in list((AMONG if among else SIZES).items())[: 1 if many else None]:
        place = f"at a point {words}"
        found = case
        for i in case.point.differentiable:
            found = _with_operand_redrawn(case, found, i, decades, place, hides=hides, among=among) or found
        if found is not case:
            yield found


def hides_its_domain(case: Case) -> bool:
    """Whether the implementation has a loop, or runs code that JAX cannot look into: it may need more than it checks."""
    return case.native.lowered_has(*_jax.words.MAY_NOT_CHECK)


def may_iterate(case: Case) -> bool:
    """Whether the numbers of the implementation may come from an iteration: a loop that carries real numbers, or hidden code."""
    others = [word for word in _jax.words.MAY_NOT_CHECK if word != _jax.words.LOOP]
    if case.native.lowered is None or case.native.lowered_has(*others):
        return True
    leaves = case.native.point.leaves
    program = attempt(lambda: _jax.trace(case.native.flat, [_jax.typeof(leaf) for leaf in leaves], case.subject.name))
    if isinstance(program, Refusal):
        return True
    loops = _jax.loops_carry_reals(program)
    return any(loops) or case.native.lowered.count(_jax.words.LOOP) > len(
        loops
    )  # the others are inside JAX's operations


def _with_operand_redrawn(
    case: Case, found: Case, i: int, decades: tuple[float, float], place: str, *, hides: bool, among: bool
) -> Case | None:
    """The first case inside the domain in which this operand also has other numbers; None if there is none."""
    leaf = case.point.leaves[i]
    for shrink in SHRINK:
        for signs in (False,) if among else (True, False):
            low, high = (shrink * power for power in decades)
            new = redraw(case.rng("redrawn", i, place), leaf, (low, high), signs=signs, hides=hides, among=among)
            leaves = [new if k == i else other for k, other in enumerate(found.point.leaves)]
            if new is leaf:
                return None
            try:
                return replace(invent(case, leaves, place), leeway=tolerances.LEEWAY_ELSEWHERE)
            except NotAsked:
                continue
    return None


def redraw(rng: Stream, leaf: Any, decades: tuple[float, float], *, signs: bool, hides: bool, among: bool) -> Any:
    """Other numbers for a leaf; the leaf itself if its structure leaves no choice.

    Args:
        rng: the random numbers.
        leaf: an array of real or complex numbers, or a Python number.
        decades: the range of sizes, in powers of ten of the typical size.
        signs: whether to draw signs too, or to keep those of the leaf.
        hides: whether to keep a structure that an implementation may rely on without a check.
        among: whether to stay among the numbers of the leaf.
    """
    value = wide(leaf)
    if not value.size or not has_tangents(leaf):
        return leaf
    factors = 10.0 ** rng.uniform(*decades, value.shape)
    drawn = probes.signs(rng, value.shape, np.iscomplexobj(value))
    structure = structure_of(value, hides=hides)
    if among and (structure is None or structure is MONOTONIC):
        new = _among(rng, value, factors)
    elif structure is not None:
        new = structure.draw(value, factors, drawn if signs else np.ones_like(drawn))
    else:
        new = probes.typical(value) * factors * (drawn if signs else _own_signs(value))
        new = np.where(np.isfinite(value) & ((value != 0) | (not hides) | (not np.any(value))), new, value)
    with np.errstate(invalid="ignore"):  # inf - inf
        change = np.where(new == value, 0, new - value)
    return probes.move(leaf, change) if np.any(change) else leaf


def _among(rng: Stream, value: Array, factors: Array) -> Array:
    """Other numbers between the smallest and the largest, increasing if these do; zeros and all that is not finite stay."""
    inside = value[np.isfinite(value)]
    if np.iscomplexobj(value) or not inside.size or inside.min() == inside.max():
        return value * factors  # nearer to zero
    new = rng.uniform(inside.min(), inside.max(), value.shape)
    if not MONOTONIC.fits(value):
        return np.where(np.isfinite(value) & (value != 0), new, value)
    if has_equal_steps(value):
        middle = (value[..., :1] + value[..., -1:]) / 2
        return middle + (value - middle) * factors.flat[0]
    return np.sort(new, -1)[..., :: _direction(value)]


def _direction(value: Array) -> int:
    return 1 if value.flat[0] < value.flat[1] else -1


def _own_signs(value: Array) -> Array:
    sizes = np.abs(value)
    with np.errstate(all="ignore"):
        return np.where(sizes > 0, value / sizes, 1.0)
