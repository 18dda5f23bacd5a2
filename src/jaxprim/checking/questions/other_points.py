"""Are both rules right at other points than the example: with zeros in operands, and for other static params?"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import jax
import numpy as np

from jaxprim.checking.against_plain_call import compare_with_plain_call
from jaxprim.checking.answers import Answer, NotAsked, Note, collect, first_line
from jaxprim.checking.case import Case
from jaxprim.checking.question import question
from jaxprim.checking.questions.jvp_differences import jvp_differences
from jaxprim.checking.questions.vjp_differences import vjp_differences
from jaxprim.checking.values import has_tangents, is_scalar, wide


@question("Are both rules right where operands contain zeros?", group="first order", departs="vjp")
def zero_operands(case: Case) -> Answer:
    """Compare both rules with differences where each operand contains a zero, at different places to avoid 0/0.

    If that leaves the domain, only one operand contains a zero.
    """
    here = case.point.leaves
    zeroed = {i: new for i, leaf in enumerate(here) if (new := _put_zero(leaf, i)) is not leaf}
    if not zeroed:
        raise NotAsked("no operand is an array of nonzero numbers")

    def with_zeros_in(chosen: Collection[int], place: str) -> Case:
        return case.at([zeroed[i] if i in chosen else leaf for i, leaf in enumerate(here)], place)

    places = [with_zeros_in(zeroed, "with zeros in the operands")]
    why = _outside_domain(case, places[0])
    if why is not None:
        names = case.point.names
        alone = [with_zeros_in([i], f"with a zero in {names[i]}") for i in zeroed if len(zeroed) > 1]
        places = [place for place in alone if _outside_domain(case, place) is None]
    if not places:
        raise NotAsked(why)
    for place in places:
        yield from _both_rules(place)


def _outside_domain(case: Case, other: Case) -> str | None:
    """Why a point is outside the domain, or None if the implementation is finite there wherever it was before."""
    broken = other.failure()
    if broken is not None:
        return f"the implementation does not accept zeros: {first_line(broken)}"
    pairs = zip(case.native.results, other.native.results, strict=True)
    if any(np.any(np.isfinite(wide(before)) & ~np.isfinite(wide(after))) for before, after in pairs):
        return "the implementation is not finite where operands contain zeros"
    return None


def _put_zero(leaf: Any, place: int) -> Any:
    if is_scalar(leaf) or not has_tangents(leaf) or leaf.size <= place:
        return leaf
    index = np.unravel_index(place, leaf.shape)
    return leaf if leaf[index] == 0 else leaf.at[index].set(0)


def _both_rules(case: Case) -> Answer:
    """Compare both rules with differences; a rule may refuse operands that the implementation accepts."""
    for mode, ask in (("jvp", jvp_differences), ("vjp", vjp_differences)):
        found, refused = collect(ask(case))
        yield from found
        if refused is not None:
            yield Note(f"the {mode} rule is not evaluated{case.place}: {refused.why}")


@question("Are values and both rules right for other values of the static params?", group="first order", departs="vjp")
def static_params(case: Case) -> Answer:
    """Compare another value of each static param in one jit with the example's, and both rules there."""
    others = dict(_other_cases(case))
    if not others:
        raise NotAsked("no static param is a number or a bool with another valid value")
    for name, other in others.items():
        yield from _together(case, other, name)
        yield from _both_rules(other)


def _other_cases(case: Case) -> Iterator[tuple[str, Case]]:
    """For each static param, the case of the first other value that the implementation accepts."""
    for name, value in case.point.params.items():
        for another in _other_values(value):
            params = {**case.point.params, name: another}
            other = case.at(case.point.leaves, f"with {name}={another!r}", params)
            if other.failure() is None:
                yield name, other
                break


def _other_values(value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1]
    return [1.5 * value or 1.0] if isinstance(value, float) else []


def _together(case: Case, other: Case, name: str) -> Answer:
    """Two values of a param in one program must not be mixed up."""
    both = jax.jit(lambda *leaves: (case.native.flat(*leaves), other.native.flat(*leaves)))
    for at, found in zip((case, other), both(*case.native.point.leaves), strict=True):
        yield from compare_with_plain_call(at, "impl", f"two values of {name} in one jit, against a call", found)
