"""The exceptions that jaxprim raises, and the format that all messages share.

A message names the primitive, the rule, and the operand and leaf. It shows the value received and the value expected,
the author's own file and line, and the line to write.
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
    """A transformation needs a rule that was not given and cannot be derived."""


@public
class RuleWrong(JaxprimError, TypeError):
    """A rule returned something that does not fit the operation (tree, arity, shape, dtype)."""


@public
class HostError(JaxprimError, RuntimeError):
    """A host function did something it must not do: use JAX, write to its input, or return a wrong type."""


@public
class KernelError(JaxprimError, RuntimeError):
    """A kernel cannot be described, compiled or loaded."""


@public
class CheckFailed(JaxprimError, AssertionError):
    """A check has at least one bad finding."""


def header(fn: Callable[..., Any], arguments: str) -> str:
    """The first line of an author's function, with new arguments: ``def impl(x, *, n):`` or ``lambda x, *, n:``."""
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
    """Format a message: a headline, then one labelled line for each fact.

    Args:
        headline: what is wrong, and of which primitive.
        got: the value received.
        expected: the value that was expected.
        why: the reason, if it is not obvious.
        rule: the author's function; the message shows its name, file and line.
        defined: the file and line where the primitive was made, if no function is to blame.
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
