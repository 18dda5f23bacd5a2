"""What the devices of a compiled program communicate, from its text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from jaxprim._jax import words

# `%all-gather = f32[8,4]{1,0} all-gather(%param), ...`. Several arrays are a tuple: `(f32[8,4]{1,0}, f32[4]{0})`. On
# accelerators, two halves do it: the first has `-start` in its name, and the second, `-done`, moves nothing.
_COLLECTIVE = re.compile(rf" = (\(.*?\)|\S+) ({'|'.join((words.ALL_REDUCE, *words.MOVES))})(?:-start)?\(")
_ARRAY = re.compile(r"([a-z]+)(\d*)\w*\[([\d,]*)\]")
_FOREIGN = re.compile(rf'{words.FOREIGN_TARGET}="([^"]+)".*?{words.FOREIGN_OPERANDS}={{(.*?\}})}}')


@dataclass(frozen=True)
class Moved:
    """An array that devices communicate.

    Attributes:
        how: the kind of communication, such as ``all-gather``.
        dtype: its dtype, as XLA writes it.
        shape: its shape on one device, afterwards.
    """

    how: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Its size on one device."""
        bits = int(re.sub(r"\D", "", self.dtype) or 8)
        return math.ceil(bits * math.prod(self.shape) / 8)

    def __str__(self) -> str:
        return f"{self.how} of {self.dtype}[{','.join(map(str, self.shape))}]"


def moved(program: str) -> list[Moved]:
    """All arrays that the devices of a compiled program communicate, in the order of its text."""
    return [
        Moved(how, dtype, shape) for arrays, how in _COLLECTIVE.findall(program) for dtype, shape in _arrays(arrays)
    ]


def foreign_calls(program: str) -> list[tuple[str, list[tuple[int, ...]]]]:
    """The calls of code that is no JAX: what they call, and the shapes of their operands on one device."""
    return [(target, [shape for _, shape in _arrays(types)]) for target, types in _FOREIGN.findall(program)]


def _arrays(text: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    for kind, bits, dims in _ARRAY.findall(text):
        yield kind + bits, tuple(int(n) for n in dims.split(",") if n)
