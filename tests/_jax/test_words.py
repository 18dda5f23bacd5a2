"""The texts of JAX that are recognised stand in one file, and this JAX says them."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from jaxprim import Zero, _jax
from jaxprim._jax import words

SOURCE = Path(words.__file__).parents[1]
X = jnp.arange(1.0, 4.0)


def texts(value: Any) -> set[str]:
    """The texts in a constant of `words`, or in part of one."""
    if isinstance(value, str):
        return {value}
    if isinstance(value, dict):
        return set().union(*map(texts, [*value.keys(), *value.values()]))
    return set().union(*map(texts, value)) if isinstance(value, (tuple, frozenset)) else set()


WORDS = set().union(*(texts(value) for name, value in vars(words).items() if name.isupper()))
# Words that mean something else too are no use of JAX's: `"transpose"` is a rule, `"callback"` an argument.
TELLING = {word for word in WORDS if any(c in word for c in "_ .`\\") or word.isupper()} - {"ffi_call", "host_call"}


def literals(path: Path) -> set[str]:
    return {
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_a_text_of_jax_stands_in_one_file() -> None:
    others = [path for path in SOURCE.rglob("*.py") if path != Path(words.__file__)]
    twice = {f"{path.relative_to(SOURCE)}: {word!r}" for path in others for word in literals(path) & TELLING}
    # A word of batching too, and a layer of random programs.
    assert {line for line in twice if not line.endswith(("'expand_dims'", "'shard_map'"))} == set()


def test_every_word_is_used() -> None:
    text = "".join(path.read_text() for path in SOURCE.rglob("*.py") if path != Path(words.__file__))
    assert [name for name in vars(words) if name.isupper() and f"words.{name}" not in text] == []


# ------------------------------------------------------------------------------------------------ what this JAX says
def names_in(fn: Any, *args: Any) -> set[str]:
    return {eqn.primitive.name for eqn in jax.make_jaxpr(fn)(*args).eqns}


@pytest.mark.parametrize(
    ("name", "fn"),
    [
        ("add", lambda x: x + x),
        ("while", lambda x: jax.lax.while_loop(lambda y: y.sum() < 9, lambda y: y + 1, x)),
        ("pure_callback", lambda x: jax.pure_callback(lambda y: y, x, x)),
        ("ffi_call", lambda x: jax.ffi.ffi_call("some_target", jax.ShapeDtypeStruct((), x.dtype))(x)),
    ],
)
def test_a_primitive_has_its_name(name: str, fn: Any) -> None:
    known = words.SUMS | words.OPAQUE | {words.WHILE}
    assert name in known
    assert name in names_in(fn, X)


def test_array_operators_stand_in_that_file() -> None:
    """`x * zero` asks the zero, which stays symbolic."""
    assert isinstance(X * Zero.of((3,), X.dtype), Zero)


def test_a_pullback_of_jax_is_one_of_its_modules() -> None:
    _, pullback = jax.vjp(jnp.sin, X)
    assert type(pullback).__module__.startswith(words.OWN_MODULES)


@pytest.mark.parametrize("use", [int, float, bool, hash])
def test_a_value_is_asked_for(use: Any) -> None:
    with pytest.raises(Exception) as caught:
        jax.make_jaxpr(use)(2)
    assert _jax.asks_for_value(caught.value)


def test_another_error_asks_for_no_value() -> None:
    assert not _jax.asks_for_value(TypeError("unhashable type: 'list'"))


def test_an_effect_has_its_name() -> None:
    closed = jax.make_jaxpr(lambda x: jax.new_ref(x)[...])(X)
    inner = {type(effect).__name__ for eqn in closed.jaxpr.eqns for effect in eqn.effects}
    assert inner & set(words.REF_EFFECTS)


def test_a_program_that_failed_has_a_status() -> None:
    assert _jax.is_runtime_error(ValueError("INTERNAL: CpuCallback error"))
    assert not _jax.is_runtime_error(ValueError("shapes differ: (2,) and (3,)"))
