"""What the source of a differentiable kernel must be, and what a compiler's refusal of its derivative means.

The author's function is compiled again with numbers that carry derivatives, so it must be a template of its number type.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from jaxprim import _origin
from jaxprim._errors import KernelError, message
from jaxprim.kernels import parameters
from jaxprim.kernels.compilers import compiler
from jaxprim.kernels.instantiation import FEW, NOT_REAL, REALS, count_of
from jaxprim.kernels.languages import Language
from jaxprim.kernels.signature import KernelSignature
from jaxprim.kernels.source import LINE

WAYS = ("tangents", "tape")
_KEPT = re.compile(r"\b(?:static|thread_local)\b(?!\s*(?:constexpr|const|inline|void|_assert)\b)([^;(){}=]*)([;(={])")


def by_tape(signature: KernelSignature, way: object) -> bool:
    """Whether pullbacks record a tape, of ``differentiable=``."""
    count = count_of(signature)
    if way is True:
        return count is None or count > FEW
    if way not in WAYS:
        raise KernelError(
            message(
                "invalid value for `differentiable`.",
                got=f"differentiable={way!r}",
                expected="True, or how a VJP is computed: 'tangents' or 'tape'",
                defined=_origin.place(),
                write="differentiable=True",
            )
        )
    if way == "tangents" and count is None:
        raise KernelError(
            message(
                "invalid value for `differentiable`.",
                got=f"differentiable='tangents' for {signature}",
                expected="integers as the sizes of all real operands, as there is a tangent for each number",
                defined=_origin.place(),
                write="differentiable='tape'",
            )
        )
    return way == "tape"


def means(signature: KernelSignature, tape: bool) -> dict[str, str]:
    """How each mode is computed, and about what it costs."""
    count = count_of(signature) or 0
    many = f"{count} tangents at once, about {2 + count // 2}" if count != 1 else "one tangent, about 2"
    return {
        "jvp": "the C++ source with dual numbers, about 2 times the time of the impl",
        "vjp": f"the C++ source with {'a tape, about 25' if tape else many} times the time of the impl",
    }


# ------------------------------------------------------------------------------------------------- when a kernel is made
def refuse_signature(name: str, signature: KernelSignature, defined: str | None = None) -> None:
    """Refuse what has no derivative by its types alone."""
    rows = (*signature.operands, *signature.results)
    for row in rows:
        if row.dtype in NOT_REAL:
            is_complex = NOT_REAL[row.dtype] == "complex"
            raise _refused(
                name,
                f"{row.name} has {NOT_REAL[row.dtype]} numbers.",
                got=f"{row.name}: {row}",
                expected="f32, f64, integers and bool",
                why="std::complex takes no other numbers than C++'s own"
                if is_complex
                else f"a C++ function gets {row.dtype} numbers as bits",
                defined=defined,
                write="@p.def_vjp  # for the Primitive p that the kernel implements",
            )
    if len({row.dtype for row in rows if row.dtype in REALS}) > 1:
        raise _refused(
            name,
            "f32 and f64 numbers move together.",
            got=str(signature),
            expected="one type for all real operands and results",
            defined=defined,
            write=f'"{signature}"'.replace("f32", "f64"),
        )


def refuse_source(name: str, texts: Iterable[str], plain: str, place: str) -> str:
    """Refuse a function that is no template, or keeps numbers between calls, where the source shows it.

    Args:
        name: the function's name.
        texts: the author's sources.
        plain: its declaration with plain numbers, as the signature says it.
        place: the author's file and line, as `#line` wants them.

    Returns:
        its declaration, as its author wrote it if that is found.
    """
    declared: list[tuple[str, bool]] = []
    for text in texts:
        code = parameters.without_text(text)
        kinds = [_type_names(match[1]) for match in re.finditer(r"template\s*<([^{};()]*?)>\s*[\w:]", code)]
        types = {kind for each in kinds for kind in each}
        declared += _declarations(code, name)
        _refuse_kept(name, text, code, types, place)
    own = declared[0][0] if declared else plain
    if declared and not any(is_template for _, is_template in declared):
        raise no_template(name, own, _origin.place())
    return own


def _declarations(code: str, name: str) -> Iterator[tuple[str, bool]]:
    """For each definition of the function its first line, and whether it is a template."""
    for at, inside in parameters.places(code, name):
        before = re.split(r"[;}]|^\s*#[^\n]*", code[:at], flags=re.MULTILINE)[-1]
        is_template = re.search(r"\btemplate\s*<", before) or re.search(r"\bauto\b", inside)
        # The language that `extern "C"` names is blank here, and no template can have it.
        returned = " ".join(before.strip().rpartition("\n")[2].split()).removeprefix("extern ")
        yield f"{returned} {name}({' '.join(inside.split())})", bool(is_template)


def _type_names(inside: str) -> list[str]:
    return re.findall(r"(?:class|typename)\s+(\w+)", inside)


def _refuse_kept(name: str, text: str, code: str, types: set[str], place: str) -> None:
    """Refuse a static variable of the number type. (`static T square(T x) {` is a function.)"""
    for found in _KEPT.finditer(code):
        is_number = re.search(rf"\b(?:{'|'.join(map(re.escape, types))})\b", found[1]) if types else None
        is_function = found[2] == "(" and parameters.is_definition(code, found.end())
        if is_number is None or is_function:
            continue
        raise _refused(
            name,
            "a variable keeps numbers between calls.",
            got=f"{' '.join(found[0][:-1].split())}, at {_place(text, found.start(), place)}",
            expected="numbers that live as long as a call",
            why="the next call would go on with the derivatives of this one",
            write=f"{' '.join(found[1].split())}  # without static; or static constexpr for a constant",
        )


def _place(text: str, at: int, place: str) -> str:
    """The author's line of a place in a source."""
    line, known = text.count("\n", 0, at), re.match(r'#line (\d+) "(.*)"', place)
    if not text.startswith(LINE) or known is None:
        return f"line {line + 1} of the source"
    return f"{_origin.shorten(known[2])}:{int(known[1]) + line - 1}"


# ------------------------------------------------------------------------------------------- when a derivative is compiled
_AT = r"^\s*(?:jaxprim's )?(?P<at>[^\n:]+:\d+):\d+: error: "
_INTO = re.compile(
    _AT
    + r"(?:cannot convert|conversion from|no viable conversion from|assigning to|cannot initialize)[^\n]*?(?:Dual|Rev)<[^\n]*?"
    r"(?:to(?: non-scalar type)?|from) '(?:const )?(?P<kind>float|double|long double)'",
    re.MULTILINE,
)
_TO = re.compile(r"initializing argument \d+ of '[^'(]*?(?P<name>[\w:]+)\((?:float|double|long double)")
_LOST = re.compile(r"jaxprim: this conversion loses the derivative")
_UNKNOWN = re.compile(
    _AT + r"no matching function for call to '(?P<name>[\w:]+)(?:<[^\n]*>)?\([^\n]*(?:Dual|Rev)<", re.MULTILINE
)


def explained(name: str, degree: int, language: Language, error: KernelError, plain: str, defined: str) -> KernelError:
    """What went wrong with the library of a derivative, in the author's terms."""
    said = str(error)
    try:
        compiler(language)
    except KernelError:
        return _no_library(name, degree, defined)
    if "jaxprim: the function is no template" in said or re.search(
        rf"jaxprim's handler\S* error: (?:no matching function for call to|cannot convert)[^\n]*(?:{re.escape(name)}|Dual|Rev)",
        said,
    ):
        return no_template(name, plain, defined)
    if _LOST.search(said):
        at = _lost_at(said)
        return _into_plain(name, at, "floating-point type", defined)
    if found := _INTO.search(said):
        to = _TO.search(said, found.end())
        if to is not None and to.start() - found.end() < 1500:
            return _no_derivative(name, found["at"], to["name"], defined)
        return _into_plain(name, found["at"], f"'{found['kind']}'", defined)
    if found := _UNKNOWN.search(said):
        return _no_derivative(name, found["at"], found["name"], defined)
    return error


def _lost_at(said: str) -> str:
    """The author's line in the chain of instantiations of a conversion."""
    places = re.findall(r"^\s*([^\n]+?:\d+):\d+:\s+required from", said, re.MULTILINE)
    own = [
        place for place in places if "jaxprim_" not in place and "jaxprim's" not in place and "/include/" not in place
    ]
    return own[0].strip() if own else "a conversion of a number"


def _into_plain(name: str, at: str, kind: str, defined: str) -> KernelError:
    return _refused(
        name,
        f"a number that carries a derivative goes into a {kind}.",
        got=at,
        expected="T or auto, as the type of whatever is computed from the operands",
        why="the derivative would end there",
        defined=defined,
        write="T  # or jaxprim::ad::value(x), where the derivative is meant to end",
    )


def _no_derivative(name: str, at: str, function: str, defined: str) -> KernelError:
    short = function.rpartition("::")[2]
    return _refused(
        name,
        f"'{function}' has no derivative that jaxprim knows.",
        got=f"{at}: {function}(...)",
        expected="a function of <cmath> but the special ones, or a template of yours",
        defined=defined,
        write=f"an overload of {short} that ends in jaxprim::ad::chain(value, x, slope), or a rule: @p.def_vjp",
    )


def no_template(name: str, plain: str, defined: str) -> KernelError:
    """The error for a function that takes no other numbers than its own."""
    line = re.sub(r"\b(float|double)\b", "T", plain)
    return _refused(
        name,
        "the function takes no other numbers than its own.",
        got=plain,
        expected="a template of its number type, which is compiled again with numbers that carry derivatives",
        defined=defined,
        write=f"template <class T> {line}",
    )


def _no_library(name: str, degree: int, defined: str) -> KernelError:
    """The error for a derivative that was not built ahead, where there is no compiler."""
    words = ("", "first", "second", "third", "fourth", "fifth")
    which = words[degree] if degree < len(words) else f"{degree}th"
    return KernelError(
        message(
            f"{name}: its {which} derivative is not among the libraries that were built ahead.",
            got="no library that fits, and no C++ compiler",
            expected="a library of it that was built ahead, or a compiler",
            defined=defined,
            write=f"jaxprim build MODULE --orders {degree}  # where there is a compiler",
        )
    )


def _refused(
    name: str, why_not: str, *, got: str, expected: str, why: str | None = None, defined: str | None = None,
    write: str | None = None,
) -> KernelError:  # fmt: skip
    return KernelError(
        message(
            f"{name}: its derivative cannot be taken from this source: {why_not}",
            got=got,
            expected=expected,
            why=why,
            defined=defined or _origin.place(),
            write=write,
        )
    )


def refuse_without_source(way: object, **ignored: Sequence[str] | str | None) -> None:
    """Refuse options that leave no source to differentiate."""
    for option, value in ignored.items():
        if way and value is not None:
            raise KernelError(
                message(
                    f"a kernel with {option}= is not differentiable from its source.",
                    got=f"differentiable={way!r}, {option}={value!r}",
                    expected=f"{option}= alone, and rules of a Primitive",
                    why="XLA calls the handler itself"
                    if option == "handler"
                    else "what is kept between calls would keep derivatives too",
                    defined=_origin.place(),
                    write="@p.def_vjp  # for the Primitive p that the kernel implements",
                )
            )
