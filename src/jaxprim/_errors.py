"""Errors that users meet, and the one form that every message has.

A message names the primitive, the rule, the operand and leaf, what was got and what was expected, the author's own
file and line, and the line to write.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxprim._origin import named, public


@public
class JaxprimError(Exception):
    """Base of every error that jaxprim raises."""


@public
class BadCall(JaxprimError, TypeError):
    """A primitive was called with operands or static params that do not fit its signature."""


@public
class RuleMissing(JaxprimError, NotImplementedError):
    """A transformation needs a rule that was neither given nor derivable."""


@public
class RuleWrong(JaxprimError, TypeError):
    """A rule returned something that does not fit the operation (tree, arity, shape, dtype)."""


@public
class HostError(JaxprimError, RuntimeError):
    """A host function did what a host function must not do (use JAX, write its input, return a wrong type)."""


@public
class KernelError(JaxprimError, RuntimeError):
    """A kernel can't be described, compiled or loaded."""


@public
class CheckFailed(JaxprimError, AssertionError):
    """A check has at least one bad finding."""


def header(fn: Callable[..., Any], arguments: str) -> str:
    """The first line of an author's function with other arguments: ``def impl(x, *, n):`` or ``lambda x, *, n:``."""
    name = getattr(fn, "__name__", "_")
    return f"lambda {arguments}:" if name == "<lambda>" else f"def {name}({arguments}):"


def an(noun: str) -> str:
    """A noun with its article."""
    return f"an {noun}" if noun[:1].lower() in "aeiou" else f"a {noun}"


def message(
    headline: str,
    *,
    got: object = None,
    expected: object = None,
    why: str | None = None,
    rule: Callable[..., Any] | None = None,
    defined: str | None = None,
    write: str | None = None,
) -> str:
    """The form of every message: a headline, then one labelled line for each fact there is.

    Args:
        headline: what is wrong, and of which primitive.
        got: what there is.
        expected: what there should be.
        why: the reason, where it is not plain.
        rule: the author's function; its name, file and line are shown.
        defined: the file and line where the primitive was made, where no function is to blame.
        write: the line to write.
    """
    facts = [
        ("got", got),
        ("expected", expected),
        ("why", why),
        ("rule", None if rule is None else named(rule)),
        ("defined", defined),
        ("write", write),
    ]
    lines = [f"  {label + ':':<10}{fact}" for label, fact in facts if fact is not None]
    return "\n".join([headline, *lines])
