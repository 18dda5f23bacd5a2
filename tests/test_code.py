"""What changes the digest of a function's code, and what does not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
import pytest

from jaxprim import Primitive
from jaxprim._code import digest
from jaxprim.derive.on_device import _rules_inside

SOURCE = "import jax.numpy as jnp\n\ndef helper(x):\n    return 3 * x\n\nCONFIG = {'n': [1, 2.0]}\n\n"
PLAIN = "def f(x, k=1):\n    g = lambda y: y + len(CONFIG)\n    return helper(g(jnp.sin(x)) if x.shape == (4,) else x) + k\n"


def of(*things):
    return digest(things, _rules_inside)


def made(source):
    """The function `f` of a module."""
    names = {"__name__": "somebody"}
    exec(source, names)
    return names["f"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(4,)", "(5,)"),
        ("y + len", "y - len"),
        ("3 * x", "4 * x"),
        ("k=1", "k=2"),
        ("2.0", "2.5"),
        ("2.0", "2"),
        ("jnp.sin", "jnp.cos"),
    ],
)
def test_what_the_code_says(old, new):
    assert old in SOURCE + PLAIN
    assert of(made(SOURCE + PLAIN)) != of(made((SOURCE + PLAIN).replace(old, new)))


def test_what_the_code_does_not_say():
    assert of(made(SOURCE + PLAIN)) == of(made("# a comment\n\n" + SOURCE + "\n\n# another\n" + PLAIN))


@dataclass
class Setting:
    n: int


class Counter:
    def __init__(self, n):
        self.n = n

    def __call__(self, x):
        return x * self.n


def closure(value):
    return lambda x: (x, value)


def operation(number):
    p = Primitive("p")
    p.def_impl(lambda x: x * number)
    return p


CLOSED_OVER = {
    "a number": closure,
    "containers": lambda n: closure([n, {"key": {n}}]),
    "a dataclass": lambda n: closure(Setting(n)),
    "an array": lambda n: closure(np.arange(n)),
    "a jitted function": lambda n: closure(jax.jit(closure(n))),
    "a partial": lambda n: partial(max, n),
    "an object": Counter,
    "a method": lambda n: Counter(n).__call__,
    "an operation": lambda n: closure(operation(n)),
}


@pytest.mark.parametrize("make", CLOSED_OVER.values(), ids=CLOSED_OVER)
def test_what_it_closes_over(make):
    assert of(make(3)) == of(make(3))
    assert of(make(3)) != of(make(4))


def test_what_leads_to_itself_and_what_has_no_words():
    def f(x):
        return f(x) if x else math.sin(later)

    cycle = [f]
    cycle.append(cycle)
    assert of(f, cycle) == of(f, cycle)
    later = object()
    assert of(f) == of(f)


def test_a_derivative_rule_has_no_part_in_it():
    p, q = operation(2), operation(2)
    q.def_jvp(lambda primals, tangents: (q(*primals), 7 * tangents[0]))
    assert of(p) == of(q)
    q.def_partition(lambda x, axis: 7 * x)
    assert of(p) != of(q)
