"""What a case is, and the list of all cases."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

# What every case is applied to.
X = jnp.array([1.0, 2.0, 3.0])

Body = Callable[[], Iterator[Any]]
_PLACE = re.compile(r"\S*?(\w+\.py):(\d+)")
_NAMED = re.compile(r"(?:(\w+) at )?\S*?(\w+\.py):(\d+)")


@dataclass(frozen=True)
class Case:
    """A message and what causes it.

    Attributes:
        error: the class of the error.
        message: the whole message, with FILE:LINE for the author's file and line.
        body: yields ``wrong``, a function of `X` that raises; then makes the suggested correction, and yields
            ``(right, expected)``, a function of `X` that runs, and its result.
        on_host: the message comes from a host function, so that under jit it stands within JAX's own message.
    """

    error: type[Exception]
    message: str
    body: Body
    on_host: bool

    @property
    def name(self) -> str:
        return self.body.__name__


CASES: list[Case] = []


def case(error: type[Exception], message: str, *, on_host: bool = False) -> Callable[[Body], Body]:
    """Add a case; the decorated function is its body."""

    def add(body: Body) -> Body:
        CASES.append(Case(error, textwrap.dedent(message).strip(), body, on_host))
        return body

    return add


def normalised(message: str) -> str:
    """A message without what depends on where the repository lies and on which line a rule stands."""
    return _PLACE.sub("FILE:LINE", message)


def places(message: str) -> list[tuple[str, str, int]]:
    """The functions (empty where none is named), files and lines that a message names."""
    return [(name, file, int(line)) for name, file, line in _NAMED.findall(message)]
