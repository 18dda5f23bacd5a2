"""Keys of static params: which of them share a program."""

from __future__ import annotations

import dataclasses
import enum
import itertools
import math
from collections import namedtuple
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim import BadCall, Primitive
from jaxprim._keys import typed

Point = namedtuple("Point", ["x", "y"])
Other = namedtuple("Other", ["x", "y"])


@dataclasses.dataclass(frozen=True)
class Config:
    n: Any
    label: str = dataclasses.field(default="", compare=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    n: Any


@dataclasses.dataclass(frozen=True, eq=False)
class ById:
    n: Any


@dataclasses.dataclass(eq=False)
class ByOwn:
    """Compared by a method of its own, which is blind to types, as that of an equinox module."""

    n: Any
    rest: Any = None

    def __eq__(self, other):
        return isinstance(other, ByOwn) and self.n == other.n

    def __hash__(self):
        return hash(self.n)


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Level(enum.IntEnum):
    ONE = 1


class Frozen(Mapping):
    def __init__(self, **items):
        self._items = items

    def __getitem__(self, key):
        return self._items[key]

    def __iter__(self):
        return iter(self._items)

    def __len__(self):
        return len(self._items)

    def __hash__(self):
        return hash(frozenset(self._items.items()))


DIFFERENT = [
    (1, 1.0),
    (1, True),
    (0.0, -0.0),
    ((1,), (1.0,)),
    (((1, 2), 0), ((1, 2), False)),
    ("1", 1),
    (None, ()),
    (np.float32(1), np.float64(1)),
    (np.float32(0.0), np.float32(-0.0)),
    (np.float32(0.0), 0.0),
    (np.float16(0.0), np.float16(-0.0)),
    (np.longdouble(0.0), np.longdouble(-0.0)),
    (np.bool_(True), True),
    (np.bool_(True), np.int8(1)),
    (np.datetime64(1, "s"), np.datetime64(1000, "ms")),
    (jnp.bfloat16(0.0).dtype.type(0.0), jnp.bfloat16(0.0).dtype.type(-0.0)),
    (complex(-4, 0.0), complex(-4, -0.0)),
    (complex(0.0, 1), complex(-0.0, 1)),
    (np.complex64(complex(-4, 0.0)), np.complex64(complex(-4, -0.0))),
    (2, 2 + 0j),
    (Config(2), Config(2.0)),
    (Config(1), Config(True)),
    (Config(0.0), Config(-0.0)),
    (Config(np.float32(0.0)), Config(np.float32(-0.0))),
    (Config((1, Config(2))), Config((1, Config(2.0)))),
    (Slotted(2), Slotted(2.0)),
    (ById(2), ById(2)),
    (ByOwn(2), ByOwn(2.0)),
    (ByOwn(2, [1]), ByOwn(3, [1])),
    (Point(1, 2), Point(1, 2.0)),
    (Point(1, 2), Other(1, 2)),
    (Point(1, 2), (1, 2)),
    (frozenset({1}), frozenset({1.0})),
    (frozenset({0.0}), frozenset({-0.0})),
    (Frozen(a=1), Frozen(a=1.0)),
    (Color.RED, Color.BLUE),
    (Level.ONE, 1),
    (Level.ONE, True),
    (range(0), range(1, 1)),
    (slice(0, 1), slice(0, True)),
    (Decimal(0), Decimal("-0")),
    (Decimal(1), Decimal("1.0")),
    (np.dtype("float32"), np.dtype("float64")),
    (np.dtype("float32"), np.float32),
    (float, int),
]


@pytest.mark.parametrize(("one", "other"), DIFFERENT, ids=range(len(DIFFERENT)))
def test_params_that_differ_have_different_keys(one, other):
    assert typed(one) != typed(other)
    assert typed((one, "x")) != typed((other, "x"))
    assert typed(Config(one)) != typed(Config(other))
    assert hash(typed(one)) == hash(typed(one))


@pytest.mark.parametrize(("one", "other"), DIFFERENT, ids=range(len(DIFFERENT)))
def test_params_that_differ_are_told_apart(one, other):
    """A program that was traced with the first is not used for the second."""
    kind = Primitive("kind")
    kind.def_impl(lambda x, *, a: x + _code(a))
    for call in (kind, lambda x, a: jax.jit(lambda x: kind(x, a=a))(x)):
        assert float(call(0.0, a=one)) == _code(one)
        assert float(call(0.0, a=other)) == _code(other)


def _code(value):
    """A number for the type and value of a static param."""
    text = f"{type(value).__name__}{value!r}{math.copysign(1, value) if isinstance(value, float) else ''}"
    return float(sum(map(ord, text)))


COUNTER = itertools.count()
SAME = {
    "nan": lambda: float("nan"),
    "nan of NumPy": lambda: np.float32("nan"),
    "complex nan": lambda: complex(0, float("nan")),
    "nan in a dataclass": lambda: Config(float("nan")),
    "tuple": lambda: (1, ("x", 2.0)),
    "namedtuple": lambda: Point(1, (2.0, "x")),
    "dataclass": lambda: Config(Config(2.0)),
    "label that is not compared": lambda: Config(1, label=f"{next(COUNTER)}"),
    "own equality": lambda: ByOwn(2.0, [1]),
    "frozenset": lambda: frozenset({1, 2.0, "x"}),
    "mapping": lambda: Frozen(a=1, b=2.0),
    "long double": lambda: np.longdouble("1.5"),
    "slice": lambda: slice(0, 2),
    "dtype": lambda: np.dtype("float32"),
}


@pytest.mark.parametrize("make", SAME.values(), ids=SAME)
def test_equal_params_do_not_trace_again(make):
    count = []
    p = Primitive("p")
    p.def_impl(lambda x, *, a, b=1: count.append(1) or x)
    p(1.0, a=make())
    first = len(count)  # JAX 0.10 traces in two contexts
    for _ in range(3):
        p(1.0, a=make())
        p(1.0, b=1, a=make())
    assert len(count) == first


@dataclasses.dataclass
class Mutable:
    n: Any


@pytest.mark.parametrize(
    "value", [[1], {"a": 1}, {1}, np.ones(2), Mutable(1), Config([1]), ([1],)], ids=lambda v: type(v).__name__
)
def test_what_cannot_be_hashed_is_refused(value):
    p = Primitive("p")
    p.def_impl(lambda x, *, a: x)
    for call in (p, lambda x, a: jax.jit(lambda x: p(x, a=a))(x)):
        with pytest.raises(BadCall, match="'a' is not hashable"):
            call(1.0, a=value)
