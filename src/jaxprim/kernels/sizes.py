"""Arithmetic on sizes, in a result's shape or a function's arguments: ``n``, ``n + 1``, ``2 * n // 3``."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping

LARGEST = 2**63 - 1  # of the sizes of XLA
_DEEPEST = 100  # operations inside each other: far more than a size needs, and far less than Python's stack allows

_OPERATIONS: dict[type[ast.operator], tuple[str, Callable[[int, int], int]]] = {
    ast.Add: ("+", lambda a, b: a + b),
    ast.Sub: ("-", lambda a, b: a - b),
    ast.Mult: ("*", lambda a, b: a * b),
    ast.FloorDiv: ("//", lambda a, b: a // b),
}


def parse(text: str) -> ast.expr | None:
    """The expression; None if it has anything but names, integers, ``+ - * //`` and parentheses."""
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last two: too deep for Python's parser
        return None
    return node if _is_size(node) else None


def _is_size(node: ast.expr, depth: int = 0) -> bool:
    if isinstance(node, ast.BinOp):
        is_known = type(node.op) in _OPERATIONS and depth < _DEEPEST
        return is_known and _is_size(node.left, depth + 1) and _is_size(node.right, depth + 1)
    is_integer = isinstance(node, ast.Constant) and type(node.value) is int and node.value <= LARGEST
    return isinstance(node, ast.Name) or is_integer


def names(node: ast.expr) -> Iterator[str]:
    """The sizes that an expression reads."""
    yield from (child.id for child in ast.walk(node) if isinstance(child, ast.Name))


def evaluate(node: ast.expr, sizes: Mapping[str, int]) -> int:
    """The value of an expression at these sizes.

    Raises:
        ZeroDivisionError: the right side of a `//` is 0.
    """
    if isinstance(node, ast.BinOp):
        _, operation = _OPERATIONS[type(node.op)]
        return operation(evaluate(node.left, sizes), evaluate(node.right, sizes))
    return sizes[node.id] if isinstance(node, ast.Name) else int(ast.unparse(node))


def to_c(node: ast.expr) -> str:
    """The expression in C. Each size is a 64-bit integer variable, whose name `local` gives."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.FloorDiv):  # C's own rounds to 0, and traps at 0
        return f"jaxprim::floor_div({to_c(node.left)}, {to_c(node.right)})"
    if isinstance(node, ast.BinOp):
        return f"({to_c(node.left)} {_OPERATIONS[type(node.op)][0]} {to_c(node.right)})"
    return local(node.id) if isinstance(node, ast.Name) else f"INT64_C({ast.unparse(node)})"


def to_python(node: ast.expr) -> str:
    """The expression in Python, with the same names."""
    if isinstance(node, ast.BinOp):
        return f"({to_python(node.left)} {_OPERATIONS[type(node.op)][0]} {to_python(node.right)})"
    return to_c(node) if isinstance(node, ast.Name) else ast.unparse(node)


def local(name: str) -> str:
    """The variable for a signature's name in generated code, where the name itself may be a keyword or taken.

    Not every compiler takes letters beyond ASCII, so they are written as numbers.
    """
    return "v_" + "".join(char if char.isascii() else f"_u{ord(char):x}_" for char in name)
