"""Are both rules right at other points than the example: with zeros in operands, and for other static params?"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxprim import _jax
from jaxprim.checking.against_plain_call import compare_with_plain_call
from jaxprim.checking.answers import Answer, NotAsked, Note, Refusal, attempt, collect
from jaxprim.checking.case import Case
from jaxprim.checking.domain import IF_OUTSIDE, invent, shown
from jaxprim.checking.question import question
from jaxprim.checking.questions.jvp_differences import jvp_at, on_and_off_the_real_axis
from jaxprim.checking.questions.vjp_differences import vjp_at
from jaxprim.checking.values import has_tangents, is_key, is_scalar, to_jax, wide


@question("Are both rules right where operands contain zeros?", group="first order", departs="vjp", invents=True)
def zero_operands(case: Case) -> Answer:
    """Compare both rules with differences where each operand contains a zero, at different places to avoid 0/0.

    If that leaves the domain, only one operand contains a zero.
    """
    here = case.point.leaves
    zeroed = {i: new for i, leaf in enumerate(here) if (new := _put_zero(leaf, i)) is not leaf}
    if not zeroed:
        raise NotAsked("no operand is an array of nonzero numbers")

    def with_zeros_in(chosen: Collection[int], place: str) -> Case:
        return invent(case, [zeroed[i] if i in chosen else leaf for i, leaf in enumerate(here)], place)

    try:
        places = [with_zeros_in(zeroed, "with zeros in the operands")]
    except NotAsked:
        places = list(_inside(with_zeros_in, zeroed, case.point.names))
        if not places:
            raise
    for place in places:
        yield Note(f"asked{place.place}: {shown(place)}; {IF_OUTSIDE}")
        yield from _both_rules(place, partial(jvp_at, jointly=True))


def _inside(
    with_zeros_in: Callable[[list[int], str], Case], zeroed: Collection[int], names: Sequence[str]
) -> Iterator[Case]:
    """The cases with a zero in one operand alone that are inside the domain."""
    for i in zeroed if len(zeroed) > 1 else ():
        with suppress(NotAsked):
            yield with_zeros_in([i], f"with a zero in {names[i]}")


def _put_zero(leaf: Any, place: int) -> Any:
    if is_scalar(leaf) or not has_tangents(leaf) or leaf.size <= place:
        return leaf
    index, numbers = np.unravel_index(place, leaf.shape), np.array(leaf)
    if numbers[index] == 0:
        return leaf
    numbers[index] = 0  # in NumPy, as JAX would compile this
    return to_jax(numbers)


def _both_rules(case: Case, ask_jvp: Callable[..., Answer] = jvp_at, *, only_precisely: bool = False) -> Answer:
    """Compare both rules with differences; a rule may refuse operands that the implementation accepts."""
    for mode, ask in (("jvp", ask_jvp), ("vjp", vjp_at)):
        found, refused = collect(on_and_off_the_real_axis(mode, ask, case, only_precisely=only_precisely))
        yield from found
        if refused is not None:
            yield Note(f"the {mode} rule is not evaluated{case.place}: {refused.why}")


@question(
    "Are values and both rules right for other values of the static params?",
    group="first order",
    departs="vjp",
    invents=True,
)
def static_params(case: Case) -> Answer:
    """Compare another value of each static param in one jit with the example's, and both rules there.

    Each value needs programs of its own, so the rules are asked only in the highest precision.
    """
    others = dict(_other_cases(case))
    if not others:
        raise NotAsked("no static param is a number or a bool with another valid value")
    for name, other in others.items():
        yield from _together(case, other, name)
        yield from _both_rules(other, only_precisely=True)


def _other_cases(case: Case) -> Iterator[tuple[str, Case]]:
    """For each static param, the case of the first other value that the implementation accepts."""
    is_foreign = any(_other_values(value) for value in case.point.params.values()) and _is_foreign(case)
    for name, value in case.point.params.items():
        for another in _safe_values(case, value) if is_foreign else _other_values(value):
            if _ends_indices(case, value, another):
                continue
            params = {**case.point.params, name: another}
            place = f"with {name}={another!r}"
            other = attempt(partial(invent, case, case.point.leaves, place, params))
            if not isinstance(other, Refusal) and not (is_foreign and _varies(other)):
                yield name, other
                break


def _other_values(value: Any) -> list[Any]:
    """Other values, nearest first: an integer may have to be odd, a power of two or a member of an enumeration."""
    found: list[Any] = []
    if isinstance(value, bool):
        found = [not value]
    elif isinstance(value, int):
        found = [value + 1, value - 1, value + 2, value - 2, 2 * value, value // 2]
    elif isinstance(value, float):
        found = [1.5 * value or 1.0, 0.5 * value]  # a rate may be no larger than one
    return [another for another in dict.fromkeys(found) if another != value]


def _safe_values(case: Case, value: Any) -> list[Any]:
    """Other values for foreign code, which may read past the end of an operand if an integer stands for its size.

    So a smaller integer comes first, and a larger one is left out for the size of an operand.
    """
    if type(value) is not int:
        return _other_values(value)
    values = _other_values(value)
    smaller = [another for another in values if 0 < another < value]
    sizes = {size for leaf in case.point.leaves for size in np.shape(leaf)} | {
        int(np.size(leaf)) for leaf in case.point.leaves if not is_key(leaf)
    }
    return smaller if value in sizes else [*smaller, *(another for another in values if another > value)]


def _ends_indices(case: Case, value: Any, another: Any) -> bool:
    """Whether integers in an operand, which this value may bound, would be out of the range of a smaller one."""
    most = [int(np.max(wide(case.point.leaves[i]), initial=-1)) for i in case.point.integers]
    return type(value) is int and any(another <= index < value for index in most)


def _is_foreign(case: Case) -> bool:
    """Whether the implementation runs code that JAX cannot look into, such as a kernel or a host function."""
    return case.native.lowered_has(_jax.words.FOREIGN_CALL)


def _varies(case: Case) -> bool:
    """Whether the implementation gives other values at each call: it may then read memory that is not its own."""
    first, second = (case.native.flat(*case.native.point.leaves) for _ in range(2))
    return any(not np.array_equal(wide(a), wide(b), equal_nan=True) for a, b in zip(first, second, strict=True))


def _together(case: Case, other: Case, name: str) -> Answer:
    """Two values of a param in one program must not be mixed up."""
    both = jax.jit(lambda *leaves: (case.native.flat(*leaves), other.native.flat(*leaves)))
    for at, found in zip((case, other), both(*case.native.point.leaves), strict=True):
        yield from compare_with_plain_call(at, "impl", f"two values of {name} in one jit, against a call", found)
