"""The plain records that layers hand to one another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from jaxprim._errors import BadCall, an, message
from jaxprim._origin import public

Status = Literal["given", "derived", "missing"]


@public
@dataclass(frozen=True)
class RuleInfo:
    """What is known of one rule of a primitive, for ``explain`` and the command line.

    Attributes:
        rule: the rule's name, such as ``"jvp"`` or ``"lowering[cuda]"``.
        status: given by the author, derived from other rules, or missing.
        origin: ``file.py:12`` of a given rule; the name of the rule that a derived one comes from; else ``""``.
        why: how it is derived, or why it is missing.
        write: the line to write where it is missing.
        notes: anything else a reader must know, such as the reason of a surrogate.
    """

    rule: str
    status: Status
    origin: str = ""
    why: str = ""
    write: str = ""
    notes: tuple[str, ...] = ()


@public
@dataclass(frozen=True)
class Example:
    """One set of inputs on which a primitive can be run: its operands and its static params.

    Raises:
        BadCall: the operands are no tuple, or the params no mapping.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxprim import Example
        >>> Example((jnp.ones(3), 2.0), {"order": 2}).params
        {'order': 2}
    """

    operands: tuple[Any, ...]
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given: list[tuple[str, Any, type]] = [("operands", self.operands, tuple), ("params", self.params, Mapping)]
        for what, value, kind in given:
            if not isinstance(value, kind):
                raise BadCall(
                    message(
                        f"Example: the {what} are no {kind.__name__.lower()}.",
                        got=an(type(value).__name__),
                        expected="the operands in a tuple, then the static params in a dict",
                        write='Example((x, y), {"order": 2})',
                    )
                )
