"""Keys of programs: equal for what computes the same, and for nothing else."""

from __future__ import annotations

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim import _jax
from jaxprim._structure import key_of

X = jnp.ones(3)


def key(fn, *args):
    return key_of(_jax.trace_open(lambda *xs: jax.tree.leaves(fn(*xs)), list(map(jax.typeof, args)), "fn")[0])


def with_rule(rule):
    """x, with a custom_jvp whose rule is ``rule(x_dot)``."""

    @jax.custom_jvp
    def same(x):
        return x

    same.defjvp(lambda primals, tangents: (same(*primals), rule(tangents[0])))
    return same


def multiplying(factor):
    return with_rule(lambda x_dot: factor * x_dot)


def reading(module):
    return with_rule(lambda x_dot: module.factor * x_dot)


def by_default(factor):
    def rule(x_dot, factor=factor):
        return factor * x_dot

    return with_rule(rule)


def with_fwd(factor):
    same = jax.custom_vjp(lambda x: x)
    same.defvjp(lambda x: (x, None), lambda _, ct: (factor * ct,))
    return same


def static(factor):
    @functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
    def times(n, x):
        return x

    times.defjvp(lambda n, primals, tangents: (primals[0], n * tangents[0]))
    return lambda x: times(factor, x)


MAKE = {
    "literal": lambda n: lambda x: x * n,
    "jit": lambda n: lambda x: jax.jit(lambda x: x * n)(x),
    "scan": lambda n: lambda x: jax.lax.scan(lambda c, y: (c + n * y, c), jnp.float32(0), x),
    "cond": lambda n: lambda x: jax.lax.cond(x[0] > n, jnp.sin, jnp.cos, x),
    "while": lambda n: lambda x: jax.lax.while_loop(lambda y: jnp.sum(y) < n, lambda y: y + 1, x),
    "checkpoint": lambda n: jax.checkpoint(lambda x: jnp.sin(x * n)),
    "NumPy array": lambda n: lambda x: jax.jit(lambda x: x + np.full(3, n, "float32"))(x),
    "rule's variable": multiplying,
    "rule's default": by_default,
    "rule's function": lambda n: with_rule(functools.partial(jnp.multiply, n)),
    "backward function": with_fwd,
    "static argument of a rule": static,
    "rule reads a module": lambda n: reading(MODULES.setdefault(n, module(n))),
}
MODULES: dict[float, types.ModuleType] = {}


def module(factor):
    made = types.ModuleType("made")
    made.factor = factor
    return made


@pytest.mark.parametrize("name", MAKE)
def test_key(name: str):
    """Two functions that are made alike are equal, and two with another number are not."""
    make = MAKE[name]
    first, again, other = (key(make(n), X) for n in (2.0, 2.0, 3.0))
    assert first == again
    assert hash(first) == hash(again)
    assert first != other


def test_types_differ():
    fn = lambda x: x + 1
    assert len({key(fn, x) for x in (X, X.astype("int32"), X[:2], jnp.float32(1), 1.0)}) == 5


@pytest.mark.parametrize(
    "change", [{"factor": 2.0}, [2.0], types.SimpleNamespace(factor=2.0)], ids=lambda v: type(v).__name__
)
def test_what_may_change_is_never_equal(change):
    """A rule reads a dict, a list, or an object: a later trace may see another value."""
    make = lambda: with_rule(lambda x_dot: (x_dot, change)[0])
    assert key(make(), X) != key(make(), X)


def test_module_that_changes():
    made = module(2.0)
    first = key(reading(made), X)
    assert first == key(reading(made), X)
    made.factor = 3.0
    assert first != key(reading(made), X)


def test_recursion():
    def rule(x_dot, n=3):
        return x_dot if n == 0 else rule(x_dot, n - 1)

    assert key(with_rule(rule), X) == key(with_rule(rule), X)
