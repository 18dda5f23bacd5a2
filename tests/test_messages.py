"""Every message that a user can see, pinned whole; the line that it says to write is written, and then it runs.

The cases are in `messages/`, one wrong definition beside the corrected one.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from messages import CASES
from messages.case import Case, X, normalised, places

CALLS = {"eager": lambda fn: fn, "jit": jax.jit}


@pytest.fixture(params=CALLS, name="call")
def _call(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return CALLS[request.param]


@pytest.fixture(params=CASES, ids=lambda case: case.name, name="case")
def _case(request: pytest.FixtureRequest) -> Case:
    return request.param


def message(case: Case, call: Callable[..., Any], wrong: Callable[..., Any]) -> str:
    """The message of a wrong definition; under jit, that of a host function comes inside JAX's."""
    if call is jax.jit and case.on_host:
        with pytest.raises(jax.errors.JaxRuntimeError) as caught:
            jax.block_until_ready(call(wrong)(X))
        return within(normalised(str(caught.value)), case)
    with pytest.raises(case.error) as caught:
        call(wrong)(X)
    assert type(caught.value) is case.error
    return str(caught.value)


def within(text: str, case: Case) -> str:
    """The message at the end of JAX's longer one."""
    _, _, rest = text.rpartition(f"\n{case.error.__name__}: ")
    return rest.rstrip()


def test_message(case: Case, call: Callable[..., Any]):
    wrong = next(case.body())
    assert normalised(message(case, call, wrong)) == case.message


def test_place(case: Case):
    """The file and line are those of the author's own function, or of the line that made the primitive."""
    found = places(message(case, CALLS["eager"], next(case.body())))
    path = Path(inspect.getfile(case.body))
    source = path.read_text().splitlines()
    assert found
    for name, file, line in found:
        assert file == path.name
        definition = " ".join(source[line - 1 : line + 2])
        assert re.search(rf"def {name}\(" if name else r"Primitive\(|lambda", definition), definition


def test_correction(case: Case, call: Callable[..., Any]):
    """What the message says to write is in the corrected definition, which runs."""
    body = case.body()
    next(body)
    right, expected = next(body)
    jax.tree.map(np.testing.assert_allclose, call(right)(X), jax.tree.map(np.asarray, expected, is_leaf=is_numbers))
    corrected = inspect.getsource(case.body).partition("yield ")[2]
    assert re.search(pattern(line_to_write(case.message)), plain(corrected))


def is_numbers(value: Any) -> bool:
    """A result is written as nested lists of numbers; tuples and dicts are its pytree."""
    return isinstance(value, list)


def line_to_write(text: str) -> str:
    return text.rpartition("write:")[2].partition("  #")[0].strip()


def plain(code: str) -> str:
    return re.sub(r"\s+", " ", code.replace('"', "'"))


def pattern(line: str) -> str:
    """`...` stands for anything."""
    return re.escape(plain(line)).replace(r"\.\.\.", "[^,)]+")


def test_enough_causes():
    assert len({case.message for case in CASES}) == len(CASES) >= 40
