"""Plain records that several layers share: `RuleInfo`, `Explanation`, `Example`, `Kept`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from jaxprim._errors import BadCall, an, message
from jaxprim._origin import public

Status = Literal["given", "derived", "missing"]


@public
@dataclass(frozen=True)
class RuleInfo:
    """One row of ``explain()``: where a rule of a primitive comes from.

    Attributes:
        rule: the rule's name, such as ``"jvp"`` or ``"kernel[cuda]"``.
        status: given by the author, derived from other rules, or missing.
        origin: ``file.py:12`` for a given rule; the source rule's name for a derived one; otherwise ``""``.
        why: how it is derived, or why it is missing.
        write: the line to write if it is missing.
        notes: anything else the reader must know, such as the reason for a surrogate.
    """

    rule: str
    status: Status
    origin: str = ""
    why: str = ""
    write: str = ""
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The row as text: first where the rule comes from, then the notes and the line to write."""
        first = {"given": self.origin, "derived": f"from {self.origin}: {self.why}", "missing": self.why}[self.status]
        return [first, *self.notes, *([f"write: {self.write}"] if self.write else [])]


@public
@dataclass(frozen=True)
class Explanation:
    """The result of ``explain()``: one row for each rule. It prints as text.

    Attributes:
        name: the primitive's name.
        rows: each rule, and whether it is given (where), derived (from what), or missing (why, and what to write).

    Example:
        >>> from jaxprim import primitive
        >>> @primitive
        ... def square(x):
        ...     return x * x
        >>> square.explain()["jvp"].origin
        'impl'
        >>> [row.rule for row in square.explain().rows if row.status == "missing"]
        []
    """

    name: str
    rows: tuple[RuleInfo, ...]

    def __getitem__(self, rule: str) -> RuleInfo:
        """Return the row of one rule, such as ``"jvp"`` or ``"kernel[cuda]"``."""
        for row in self.rows:
            if row.rule == rule:
                return row
        raise KeyError(rule)

    def __iter__(self) -> Iterator[RuleInfo]:
        return iter(self.rows)

    def __str__(self) -> str:
        width = max(len(row.rule) for row in self.rows)
        lines = [self.name]
        for row in self.rows:
            first, *more = row.lines()
            lines.append(f"  {row.rule.ljust(width)}  {row.status:<8} {first}")
            lines += [f"  {'':{width}}  {'':8} {line}" for line in more]
        return "\n".join(lines)

    __repr__ = __str__


@public
@dataclass(frozen=True)
class Example:
    """One set of inputs for a primitive: operands and static params.

    Attributes:
        operands: the operands, in a tuple.
        params: the static params.
        accuracy: the relative error to which the primitive computes its function here; None if it only rounds.

    Raises:
        BadCall: the operands are not a tuple, or the params are not a mapping.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxprim import Example
        >>> Example((jnp.ones(3), 2.0), {"order": 2}).params
        {'order': 2}
    """

    operands: tuple[Any, ...]
    params: Mapping[str, Any] = field(default_factory=dict)
    accuracy: float | None = None

    def __post_init__(self) -> None:
        given: list[tuple[str, Any, type]] = [("operands", self.operands, tuple), ("params", self.params, Mapping)]
        for what, value, kind in given:
            if not isinstance(value, kind):
                raise BadCall(
                    message(
                        f"Example: the {what} must be a {kind.__name__.lower()}.",
                        got=an(type(value).__name__),
                        expected="the operands in a tuple, then the static params in a dict",
                        write='Example((x, y), {"order": 2})',
                    )
                )


class Kept(NamedTuple):
    """How often set-ups were made and found again, and how many there are now."""

    made: int
    found: int
    alive: int
