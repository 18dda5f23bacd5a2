"""How one element of an application splits over devices, and what that says of the types of its results.

The rule belongs to the operation alone. A pushforward or a pullback is ordinary JAX code, which XLA splits, and each
operation in it splits itself.

Functions under ``@derives("sharding", ...)``: (call, avals, results) -> the `Split` of one element, or None if XLA is to
look into the program. ``avals`` and ``results`` are the types of one element.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxprim._calls import Call
from jaxprim._sharded_types import Splits, split_types
from jaxprim._split import Split
from jaxprim.derive.table import Derivation, choose, derivation, derives


@derives("sharding", "sharding")
def by_rule(call: Call, avals: Sequence[Any], results: Sequence[Any]) -> Split:
    rule = call.rules.given["sharding"].author
    operands = [(name, aval.shape) for name, aval in zip(call.names(), avals, strict=True)]
    return rule(operands, [aval.shape for aval in results])


@derives("sharding", "host")
@derives("sharding", "lowering")
def all_whole(call: Call, avals: Sequence[Any], results: Sequence[Any]) -> Split:
    name = lambda stem, i, aval: tuple(f"{stem}{i}_{axis}" for axis in range(aval.ndim))
    ins, outs = (
        tuple(name(stem, i, aval) for i, aval in enumerate(each)) for stem, each in (("x", avals), ("y", results))
    )
    return Split(ins, outs, frozenset())


@derives("sharding", "impl")
@derives("sharding", "kernel")
def left_to_xla(call: Call, avals: Sequence[Any], results: Sequence[Any]) -> None:
    return None


def splitter(call: Call, platform: str | None) -> Derivation | None:
    """The function that says what one element of a call may split; None if XLA is to look into its program."""
    choice = choose(call.rules, "sharding", platform)
    if choice.status != "given" and call.using is not None:
        found = derivation("sharding", call.using)
    else:
        found = left_to_xla if choice.row is None else choice.derive
    return None if found is left_to_xla else found


# ------------------------------------------------------------------------------------------------------- explicit axes
def explicit_types(call: Call, avals: Sequence[Any], results: Sequence[Any]) -> tuple[Any, ...]:
    """Result types in the mesh of the operands, for an operation into which XLA is not to look.

    Raises:
        BadCall: the rule does not allow such operands on explicit mesh axes; without a rule, no axis may be split.
    """
    rule: Any = call.rules.given["sharding"].author if "sharding" in call.rules.given else None
    who = Splits(
        call.rules.name,
        call.names(),
        whole="its sharding rule keeps whole" if rule else "it needs whole",
        expected=lambda _: ", ".join(rule.notes) if rule else "operands that are whole on each device",
        why="each device would compute a part of what needs all of it"
        if rule
        else "it has no sharding rule (def_sharding), and JAX cannot look into its implementation",
        axis=lambda name: f"axis '{name}'",
        facts={"rule": rule or call.rules.implementation_author},
    )
    of_element = by_rule if rule else all_whole
    return split_types(who, lambda: of_element(call, avals, results), results, avals)
