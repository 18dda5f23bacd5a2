"""Shared by many questions: evaluate the operation and both derivatives in some context (scan, jit, ...), and compare
with a plain call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim.checking.answers import Answer, Note, Refusal, attempt, attempt_rule, collect
from jaxprim.checking.case import Case
from jaxprim.checking.contexts import Flat, Transform
from jaxprim.checking.precision import of_some
from jaxprim.checking.programs import jit_once
from jaxprim.checking.values import wide


def derivatives_of(case: Case) -> Iterator[tuple[str, Transform] | Note]:
    """The function, and if it has them, its JVP along a random tangent and its VJP of a random cotangent."""
    yield "impl", lambda function: function
    make = {"jvp": _jvp, "vjp": _vjp}
    for mode in (yield from case.rules()):
        yield mode, make[mode](case, case.wrt(mode))


def _jvp(case: Case, wrt: Sequence[int]) -> Transform:
    precision = case.native
    # A Python number would be a constant of a compiled program that JAX's own checks refuse; an array of it stays weak.
    tangents = {i: jnp.asarray(t) for i, t in precision.cast(case.directions("jvp")[0].tangents).items()}

    def transform(function: Flat) -> Flat:
        def push(*leaves: Any) -> list[Any]:
            primals, along = tuple(leaves[i] for i in wrt), tuple(tangents[i] for i in wrt)
            found = jax.jvp(of_some(function, leaves, wrt), primals, along)[1]
            return [found[i] for i in precision.outputs]

        return push

    return transform


def _vjp(case: Case, wrt: Sequence[int]) -> Transform:
    precision, cotangents = case.native, case.native.cast_out(case.cotangents(0))

    def transform(function: Flat) -> Flat:
        def pull(*leaves: Any) -> list[Any]:
            as_tuple = lambda *every: tuple(function(*every))  # the cotangents are a tuple
            return list(precision.pull(as_tuple, leaves, wrt, cotangents)[1])

        return pull

    return transform


def compare_with_plain_call(case: Case, rule: str, against: str, found: Sequence[Any]) -> Answer:
    """Compare results from some context with those of a plain call: one array per leaf, in its shape.

    An infinite derivative is not compared: an element that a loop does not use gives 0 x inf = NaN.
    """
    names, expected, noise = _plain_call(case, rule)
    for name, got, value, n in zip(names, map(wide, found), expected, noise, strict=True):
        judged = None if rule == "impl" else np.isfinite(value)
        yield case.evidence(rule, against, name, got, value, case.roughly(case.native, value, n), judged)


def _plain_call(case: Case, rule: str) -> tuple[Sequence[str], Sequence[Any], Sequence[Any]]:
    precision = case.native
    if rule == "impl":
        return precision.names, *case.value(precision)
    if rule == "jvp":
        pushed, noise = case.jvp(precision, case.directions("jvp")[0])
        return [f"tangent of {name}" for name in precision.output_names], pushed.tangent, noise
    pulled, noises = case.vjp(precision, 0)
    names = [f"cotangent of {case.point.names[i]}" for i in noises]
    return names, list(pulled.cotangent.values()), list(noises.values())


def compare_in(case: Case, places: Mapping[str, Transform], rules: Mapping[str, Sequence[str]] | None = None) -> Answer:
    """Compare the operation and its derivatives in each of these places, such as the body of a loop.

    Args:
        case: the case.
        places: by name, a transform that puts a function into the place and keeps its signature.
        rules: the rules that can run in a place, for places where not all can.
    """
    asked: dict[tuple[str, str], Flat] = {}

    def derive() -> Answer:
        for item in derivatives_of(case):
            if isinstance(item, Note):
                yield item
                continue
            rule, transform = item
            usable = {name: put for name, put in places.items() if rule in (rules or {}).get(name, (rule,))}
            asked.update({(rule, name): transform(put(case.native.flat)) for name, put in usable.items()})

    notes, ended = collect(derive())
    yield from notes
    for (rule, name), found in _together(case, asked):
        if isinstance(found, Note):
            yield found
        else:
            yield from compare_with_plain_call(case, rule, f"{name}, against a plain call", found)
    if ended is not None:
        raise ended.error


def _together(
    case: Case, functions: Mapping[tuple[str, str], Flat]
) -> Iterator[tuple[tuple[str, str], Sequence[Any] | Note]]:
    """Run all functions in one program, which is faster; those of one rule alone, or one by one, if some cannot run."""
    leaves, rules = case.native.point.leaves, dict.fromkeys(rule for rule, _ in functions)
    program = jit_once(lambda *leaves: [function(*leaves) for function in functions.values()])
    found = (attempt if len(rules) > 1 else attempt_rule)(lambda: program(*leaves))
    if not isinstance(found, Refusal):
        yield from zip(functions, found, strict=True)
    elif len(functions) == 1:
        (key,) = functions
        yield key, Note(f"not asked in {key[1]}: {found.why}")
    elif len(rules) > 1:
        for rule in rules:
            yield from _together(case, {key: function for key, function in functions.items() if key[0] == rule})
    else:
        for key, function in functions.items():
            yield from _together(case, {key: function})
