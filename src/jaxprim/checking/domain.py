"""Points that a question invents: inside the domain of the operation, and named in the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxprim.checking import probes
from jaxprim.checking.answers import Answer, NotAsked, Note, failed, first_line
from jaxprim.checking.case import Case
from jaxprim.checking.values import Array, is_key, wide

# Moves an operand off the real axis: x becomes x + 0.3i x. That is far enough for conj(z) to differ from z by more than
# any tolerance, and near enough to stay in the domain of most functions.
TURN = 0.3j
# What an author can do about a failure at operands that a question made up.
IF_OUTSIDE = "if these are outside the domain, say so with def_domain"


def off_the_real_axis(case: Case) -> list[Case]:
    """This case. If a complex operand lies on the real axis, also a case off it, where conj(z) is not z."""
    return case.once("off the real axis", lambda: [case, *_turned(case)])


def _turned(case: Case) -> list[Case]:
    leaves = list(case.point.leaves)
    complex_ = [i for i in case.point.differentiable if np.iscomplexobj(wide(leaves[i]))]
    real = [i for i in complex_ if not np.any(np.imag(wide(leaves[i])))]
    for i in real:
        leaves[i] = probes.move(leaves[i], TURN * wide(leaves[i]))
    try:
        return [invent(case, leaves, "turned off the real axis")] if real else []
    except NotAsked:  # outside the domain
        return []


def invent(case: Case, leaves: Sequence[Any], place: str, params: Mapping[str, Any] | None = None) -> Case:
    """The case of operands that the author never gave, or of those that his ``def_domain`` makes of them.

    Raises:
        NotAsked: they are outside the domain: ``def_domain`` says so, or the implementation does not accept them, or it
            is not finite there.
    """
    other = declared(case, leaves, place, params)
    broken = other.failure()
    if broken is not None:
        raise NotAsked(f"the implementation does not accept {shown(other)}: {first_line(broken)}")
    pairs = zip(case.native.results, other.native.results, strict=True)
    if any(_loses_numbers(np.isfinite(wide(before)), np.isfinite(wide(after))) for before, after in pairs):
        raise NotAsked(f"the implementation is not finite at {shown(other)}")
    return other


def _loses_numbers(before: Array, after: Array) -> bool:
    """Whether something is not finite that was before; a static param may change the shape of a result."""
    if before.shape != after.shape:
        return bool(np.all(before) and not np.all(after))
    return bool(np.any(before & ~after))


def declared(case: Case, leaves: Sequence[Any], place: str, params: Mapping[str, Any] | None = None) -> Case:
    """The case of other operands, or of those that ``def_domain`` makes of them; the implementation is not asked.

    Raises:
        NotAsked: ``def_domain`` says that they are outside the domain.
    """
    other = case.at(leaves, place, params)
    inside = case.subject.into_domain(other.point.operands, other.point.params)
    if inside is None:
        raise NotAsked(f"{place} ({shown(other)}), it is outside the domain that def_domain declares")
    return case.at(jax.tree.leaves(inside), place, params)


def ask_inside(
    case: Case, leaves: Sequence[Any], place: str, ask: Callable[[Case], Answer], *, names: Callable[[Case, bool], bool]
) -> Answer:
    """Ask at other operands, if they are inside the domain that ``def_domain`` declares.

    ``names(other, is_off)`` says whether to name them: of the case that was asked about, and of whether something is off.
    """
    try:
        other = declared(case, leaves, place)
    except NotAsked as error:
        yield Note(f"not asked: {error}")
        return
    answer = list(ask(other))
    if names(other, bool(failed(answer))):
        yield Note(f"asked {place}: {shown(other)}; {IF_OUTSIDE}")
    yield from answer


def shown(case: Case) -> str:
    """The operands and static params with their numbers, such as ``x=[0. 1.5], n=2``; long arrays are shortened."""
    operands = [f"{name}={_numbers(leaf)}" for name, leaf in zip(case.point.names, case.point.leaves, strict=True)]
    return ", ".join([*operands, *(f"{name}={value!r}" for name, value in case.point.params.items())])


def _numbers(leaf: Any) -> str:
    if is_key(leaf):
        return "a key"
    with np.printoptions(threshold=8, edgeitems=3, precision=4):
        return " ".join(str(np.asarray(leaf)).split())
