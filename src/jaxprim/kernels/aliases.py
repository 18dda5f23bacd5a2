"""``aliases={"y": "x"}``: a result in the memory of an operand, for kernels that work in place.

For JAX, operands are values all the same. XLA gives the kernel one piece of memory for both, which holds the operand when
the kernel starts. It copies the operand there first where anything else needs it.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jaxprim import _origin
from jaxprim._errors import KernelError, an, message
from jaxprim.kernels.signature import Array, KernelSignature

_EXAMPLE = 'aliases={"y": "x"}  # the result y is in the memory of the operand x'


def shared(signature: KernelSignature, aliases: Mapping[str, str] | None) -> KernelSignature:
    """The signature of a kernel that works in place.

    Args:
        signature: the signature as it was read.
        aliases: for the name of a result, that of the operand in whose memory it is.

    Raises:
        KernelError: a name is unknown, or a result cannot be in the memory of its operand.
    """
    if aliases is None:
        return signature
    said = f"aliases={aliases!r}"
    if not isinstance(aliases, Mapping) or not all(isinstance(x, str) for row in aliases.items() for x in row):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise _refused("invalid value for `aliases`.", said, "the name of an operand for that of a result", _EXAMPLE)
    for result, operand in aliases.items():
        _check_pair(signature, said, result, operand)
    twice = [operand for operand in aliases.values() if list(aliases.values()).count(operand) > 1]
    if twice:
        raise _refused(
            f"two results would be in the memory of the operand '{twice[0]}'.",
            said,
            "another operand for each result",
        )
    return replace(signature, aliases=tuple(aliases.items()))


def _check_pair(signature: KernelSignature, said: str, result: str, operand: str) -> None:
    results, operands = ({array.name: array for array in rows} for rows in (signature.results, signature.operands))
    if result in operands and operand in results:
        raise _refused(
            f"'{result}' is an operand, and '{operand}' is a result.",
            said,
            "the result first, then the operand in whose memory it is",
            f'aliases={{"{operand}": "{result}"}}',
        )
    for kind, name, known in (("result", result, results), ("operand", operand, operands)):
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            other = f"{close[0]!r} for {name!r} in aliases=" if close else None
            raise _refused(f"aliases= names {an(kind)} '{name}'.", said, f"{an(kind)} of {signature}", other)
    y, x = results[result], operands[operand]
    if _type(y) != _type(x):
        raise _refused(
            f"the result '{result}' does not fit into the memory of the operand '{operand}'.",
            f"{result}: {y}, and {operand}: {x}",
            "the same dtype, sizes and batch axes",
        )
    if x.by_value:
        raise _refused(
            f"the operand '{operand}' is passed by value, so it has no memory to share.",
            f"{operand}: {x}",
            f"arrays, {operand}: {x.dtype}[...] and {result}: {x.dtype}[...]",
        )


def _type(array: Array) -> tuple[Any, ...]:
    return array.dtype, array.batched, array.by_value, [ast.unparse(node) for node in array.expressions]


def refuse_returned(name: str, signature: KernelSignature, names: Sequence[str]) -> None:
    """Refuse a Numba function whose parameters say that it takes its operands and returns its results."""
    wanted = [row.name for row in (*signature.inputs, *signature.attributes, *signature.results)]
    if signature.aliases and (len(names) != len(wanted) or set(names) & set(signature.in_place)):
        operand, result = next(iter(signature.in_place.items()))
        raise KernelError(
            message(
                f"{name}: a function that works in place gets '{operand}' as '{result}'.",
                got=f"the parameters {', '.join(names) or 'none'}",
                expected=", ".join(wanted),
                why=f"{result} holds the values of {operand} when the function starts, and the result when it ends",
                defined=_origin.place(),
                write=f"def {name if name.isidentifier() else 'f'}({', '.join(wanted)}):",
            )
        )


def note(signature: KernelSignature) -> str | None:
    """What `explain` says; None for a kernel that does not work in place."""
    said = [f"{result} in the memory of {operand}" for result, operand in signature.aliases]
    return f"in place: {', '.join(said)}" if said else None


def _refused(headline: str, got: str, expected: str, write: str | None = None) -> KernelError:
    return KernelError(
        message(
            headline,
            got=got,
            expected=expected,
            defined=_origin.place(),
            write=write,
        )
    )
