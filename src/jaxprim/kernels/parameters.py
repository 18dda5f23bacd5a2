"""Compare a function's parameters with what it is given, where a compiler would say nothing.

Arguments go by position. If a function takes ``(int64_t n, int64_t d)`` and gets ``d, n``, no compiler can tell, and it
overwrites memory. The names can: where both sides use the same names, they must be at the same places. If it takes an
``int`` and gets a real number, C++ cuts off the fraction.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from jaxprim import _origin
from jaxprim._errors import KernelError, message

_NOT_CODE = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|\[\[.*?\]\]', re.DOTALL)
_AFTER = re.compile(r"\s*(?:(?:const|noexcept|override|final)\b\s*(?:\([^()]*\))?\s*|->[^{};]*)*\{")
_WORD = re.compile(r"(?:\w+::)*\w+")
# Words of a type, which are no names even if they come last.
_TYPE_WORDS = frozenset(
    [
        "const",
        "volatile",
        "restrict",
        "__restrict",
        "__restrict__",
        "unsigned",
        "signed",
        "short",
        "long",
        "int",
        "char",
        "bool",
        "float",
        "double",
        "void",
        "auto",
        "struct",
        "enum",
        "class",
        "typename",
        "register",
    ]
)

_INTEGER = re.compile(
    r"(?:const\s+)?(?:"
    r"(?:(?:unsigned|signed|short|long|int|char|bool)(?:\s+(?=\w)|$))+"
    r"|(?:std::)?(?:u?int\d+_t|size_t|ptrdiff_t))"
)


@dataclass(frozen=True)
class Parameter:
    """One parameter of a definition: its name, empty where it has none, and the text of its type."""

    name: str
    type: str = ""


def refuse_cut_numbers(
    name: str, passed: Sequence[tuple[str, str]], definitions: Iterable[Sequence[Parameter]]
) -> None:
    """Refuse a function that takes an integer where it is given a real number.

    Args:
        name: the function's name.
        passed: the name and the C type of what is passed, in order.
        definitions: the parameters, for each definition of the function.
    """
    fitting = [found for found in definitions if len(found) == len(passed)]
    for index, (argument, kind) in enumerate(passed):
        types = [found[index].type for found in fitting]
        if kind in ("float", "double") and types and all(map(_INTEGER.fullmatch, types)):
            raise KernelError(
                message(
                    f"{name}: the parameter for '{argument or index}' is an integer, and what it is given is real.",
                    got=f"{types[0]} {fitting[0][index].name}".strip(),
                    expected=f"{kind} {fitting[0][index].name}".strip(),
                    why="the compiler would cut off the fraction",
                    defined=_origin.place(),
                    write=f"{kind} {fitting[0][index].name or argument} in {name}, or an integer type in the signature",
                )
            )


def refuse_another_order(
    name: str, passed: Sequence[str], definitions: Iterable[Sequence[str]], said: str, in_place: Mapping[str, str]
) -> None:
    """Refuse a function whose parameters have the names of what is passed, at other places.

    Args:
        name: the function's name.
        passed: the names of what is passed, in order; empty where there is none.
        definitions: the names of the parameters, for each definition of the function; empty where there is none.
        said: the signature as its author wrote it. Names that jaxprim made up mean nothing.
        in_place: the results that are in the memory of operands, by the names of the operands.
    """
    own = [in_place.get(word, word) if word and re.search(rf"\b{word}\b", said) else "" for word in passed]
    fitting = [names for names in definitions if len(names) == len(own)]
    # A parameter with the name of such an operand is meant for that memory.
    meant = [[in_place.get(word, word) for word in names] for names in fitting]
    if not fitting or not all(_differs(names, own) for names in meant):
        return
    raise KernelError(
        message(
            f"{name}: its parameters have another order than what it is given.",
            got=f"the parameters {', '.join(word or '_' for word in fitting[0])}",
            expected=f"{', '.join(word or '_' for word in passed)}, the order in which jaxprim passes them",
            why="arguments go by position, so each would get another's value",
            defined=_origin.place(),
            write=f'arguments="{", ".join(meant[0])}"'
            if "&" not in said and sorted(meant[0]) == sorted(passed)
            else None,
        )
    )


def _differs(names: Sequence[str], passed: Sequence[str]) -> bool:
    """Whether a name stands on both sides, at different places."""
    return any(word and word != other and word in passed for word, other in zip(names, passed, strict=True))


def definitions(text: str, function: str) -> Iterator[list[Parameter]]:
    """The parameters in each definition of a function in a source."""
    for _, inside in places(without_text(text), function):
        yield [_parameter(piece) for piece in _pieces(inside)]


def places(code: str, function: str) -> Iterator[tuple[int, str]]:
    """Where the name stands in each definition of a function, and the text of the parameters."""
    for found in re.finditer(rf"\b{re.escape(function.rpartition('::')[2])}\s*\(", code):
        inside = _inside(code, found.end())
        if inside is not None and is_definition(code, found.end()):
            yield found.start(), inside


def is_definition(code: str, start: int) -> bool:
    """Whether a body follows after the bracket that was opened before `start`."""
    inside = _inside(code, start)
    return inside is not None and _AFTER.match(code, start + len(inside) + 1) is not None


def without_text(text: str) -> str:
    """A source whose comments and strings are blanks. Everything else stays at its place."""
    return _NOT_CODE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)


def _inside(code: str, start: int) -> str | None:
    """The text up to the bracket that closes; None if nothing closes."""
    depth = 1
    for index in range(start, len(code)):
        depth += (code[index] == "(") - (code[index] == ")")
        if depth == 0:
            return code[start:index]
    return None


def _pieces(inside: str) -> list[str]:
    """The pieces between commas, except commas in brackets."""
    depth, pieces = 0, [""]
    for char in inside:
        depth += (char in "([{<") - (char in ")]}>")
        if char == "," and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += char
    return [piece for piece in pieces if piece.strip() not in ("", "void")]


def _parameter(piece: str) -> Parameter:
    """A parameter from its text. Its name comes last, after its type."""
    piece = re.sub(r"\[[^\]]*\]", "", piece.partition("=")[0]).strip()
    name = _name(piece)
    return Parameter(name, piece.removesuffix(name).strip())


def _name(piece: str) -> str:
    words = _WORD.findall(piece)
    last = words[-1] if words else ""
    if not piece.endswith(last) or "::" in last or last in _TYPE_WORDS:
        return ""  # it ends in a star or an ampersand, or is a pointer to a function
    is_type = not [
        word for word in words[:-1] if word not in ("const", "volatile", "struct", "enum", "class", "typename")
    ]
    return "" if is_type else last
