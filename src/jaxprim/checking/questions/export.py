"""Does an exported program give the same after it is loaded again?"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.export

from jaxprim._jax import words
from jaxprim.checking.against_plain_call import compare_with_plain_call, derivatives_of
from jaxprim.checking.answers import Answer, NotAsked, Note, Refusal, attempt
from jaxprim.checking.case import Case
from jaxprim.checking.question import question
from jaxprim.checking.values import is_key


@question("Does an exported program give the same results after it is loaded again?", group="scale", speed="thorough")
def export(case: Case) -> Answer:
    """Compare value, JVP and VJP of a program that was exported, saved to bytes and loaded with a plain call."""
    if importlib.util.find_spec("flatbuffers") is None:
        raise NotAsked("jax.export needs the package flatbuffers, which is not installed")
    if any(map(is_key, (*case.point.leaves, *case.native.results))):
        raise NotAsked("jax.export does not support typed keys")
    for item in derivatives_of(case):
        if isinstance(item, Note):
            yield item
            continue
        rule, transform = item
        program = jax.export.export(jax.jit(transform(case.native.flat)))
        written = attempt(partial(_written, program, case.point.leaves))
        if isinstance(written, Refusal):
            if not _lives_in_this_process(written.error):
                raise written.error
            yield Note(f"JAX does not export {rule}: {written.why}")
            continue
        found = jax.export.deserialize(written).call(*case.point.leaves)
        yield from compare_with_plain_call(case, rule, "exported, saved and loaded again", list(found))


def _written(program: Any, leaves: Sequence[Any]) -> bytearray:
    return program(*leaves).serialize()


def _lives_in_this_process(error: Exception) -> bool:
    """Whether the program has code that exists only in this process, such as a host function."""
    return any(word in str(error).lower() for word in words.NOT_EXPORTED)
