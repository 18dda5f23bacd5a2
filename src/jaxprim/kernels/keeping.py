"""``keep="Factors(ap, ai, ax)"``: what is expensive to set up is kept between calls, and found again by its operands.

A set-up is a C++ class of the author's. Its constructor takes what `keep=` names; it is freed by its destructor. The
handler looks it up by the bytes of all that, so a call computes the same whether the set-up was made now or is kept, and
an operation stays a function of its operands. With several, each may be made from those before it, which it may refer to.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from jaxprim import _origin
from jaxprim._errors import KernelError, message
from jaxprim._keeping import FEW
from jaxprim._types import Kept
from jaxprim.kernels import sizes
from jaxprim.kernels.arguments import Argument, Layout, c_arguments
from jaxprim.kernels.dtypes import DTYPES
from jaxprim.kernels.languages import Device, Language
from jaxprim.kernels.signature import KernelSignature
from jaxprim.kernels.sizes import local

COUNTS, FORGET = "jaxprim_kept", "jaxprim_forget"  # the C functions of a library that keeps set-ups
MOST = 2**31 - 1
_EXAMPLE = 'keep="Factors(a)"  # for a struct Factors { Factors(const double* a, int64_t n); ~Factors(); };'
_SETUP = re.compile(r"\s*((?:\w+::)*[A-Za-z_]\w*)\s*(<[^()]*>)?\s*\(([^()]*)\)\s*")


@dataclass(frozen=True)
class SetUp:
    """A class of set-ups.

    Attributes:
        name: its name.
        given: the operands, attributes and sizes that its constructor gets, in order, after what `earlier` names.
        earlier: the set-ups that it is made from, by their places.
        template: the arguments of a class template, ``<T>``; a type variable stands for its dtype.
    """

    name: str
    given: tuple[str, ...]
    earlier: tuple[int, ...]
    template: str = ""

    @property
    def type(self) -> str:
        """The class in C++."""
        return self.name + self.template


def set_ups(signature: KernelSignature, keep: str | Sequence[str] | None, language: Language) -> tuple[SetUp, ...]:
    """Read ``keep=``.

    Raises:
        KernelError: it can't be read, or names what the signature does not have, or what the host can't read.
    """
    if keep is None:
        return ()
    texts: list[Any] = [keep] if isinstance(keep, str) else list(keep) if isinstance(keep, list | tuple) else []
    if not texts or not all(isinstance(text, str) for text in texts):
        raise _refused(keep, "the name of a class, and in parentheses what it is made from", write=_EXAMPLE)
    found: list[SetUp] = []
    for text in texts:
        found.append(_set_up(signature, keep, text, found))
    if language.device is not None:
        _refuse_on_device(signature, keep, found, language)
    used = {place for each in found for place in each.earlier}
    idle = next((each.name for place, each in enumerate(found[:-1]) if place not in used), None)
    if idle is not None:
        raise _refused(
            keep, f"{idle} as the first argument of a set-up that comes after it", f"nothing is made from {idle}"
        )
    return tuple(found)


def _set_up(signature: KernelSignature, keep: Any, text: str, before: Sequence[SetUp]) -> SetUp:
    match = _SETUP.fullmatch(text)
    if match is None:
        raise _refused(keep, "the name of a class, and in parentheses what it is made from", write=_EXAMPLE)
    names = [name.strip() for name in match[3].split(",") if name.strip()]
    types = [each.name for each in before]
    if match[1] in types:
        raise _refused(keep, "another class for each set-up", f"{match[1]} stands there twice")
    earlier = tuple(types.index(name) for name in names if name in types)
    given = [name for name in names if name not in types]
    if names[: len(earlier)] != [types[place] for place in earlier]:
        raise _refused(keep, f"the set-ups first: {match[1]}({', '.join([types[p] for p in earlier] + given)})")
    arrays = {array.name: array for array in signature.operands}
    known = {*arrays, *(row.name for row in signature.attributes), *signature.sizes, *types}
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        expected = f"operands, attributes and sizes of {signature}"
        raise _refused(keep, expected + (f", or {', '.join(types)}" if types else ""), f"no '{unknown}' is known there")
    if not names:
        raise _refused(
            keep, f"at least one operand, attribute or size of {signature}", f"{match[1]} is made from nothing"
        )
    if not set(given) & set(signature.sizes):  # else the author says which sizes, and where
        dims = (
            name for one in given if one in arrays for node in arrays[one].expressions for name in sizes.names(node)
        )
        given += [name for name in dict.fromkeys(dims) if name not in given]
    return SetUp(match[1], tuple(given), earlier, "".join((match[2] or "").split()))


def _refuse_on_device(signature: KernelSignature, keep: Any, kept: Sequence[SetUp], language: Language) -> None:
    """Refuse a set-up that is made from numbers that are in the device's memory."""
    operands = [array.name for array in signature.operands]
    name = next((name for each in kept for name in each.given if name in operands), None)
    if name is not None:
        raise KernelError(
            message(
                f"a {language.name} kernel keeps nothing that is made from the operand '{name}'.",
                got=f"keep={keep!r}",
                expected=f"attributes and sizes of {signature}",
                why=f"{name} is in the device's memory: to compare it, each call would copy it to the host and wait",
                defined=_origin.place(),
                write="x = solve(factorize(a), b)  # two kernels: the first returns its factors as arrays",
            )
        )


def resolved(kept: Sequence[SetUp], signature: KernelSignature, types: KernelSignature) -> tuple[SetUp, ...]:
    """The set-ups of a signature whose type variables stand for what `types` has in their places."""
    pairs = zip(signature.operands, types.operands, strict=True)
    known = {x.dtype: DTYPES[y.dtype].c for x, y in pairs if x.dtype in signature.variables}
    swap = lambda text: re.sub(r"\w+", lambda found: known.get(found[0], found[0]), text)
    return tuple(replace(row, template=swap(row.template)) for row in kept)


def most_of(most: Any, keep: Any) -> int:
    """How many set-ups are kept."""
    if keep is None and most != FEW:
        raise KernelError(
            message(
                "`most` has no meaning without keep=.",
                got=f"most={most!r}",
                expected="keep=, which says what is kept",
                defined=_origin.place(),
                write=_EXAMPLE,
            )
        )
    if type(most) is not int or not 0 <= most <= MOST:
        raise KernelError(
            message(
                "invalid value for `most`.",
                got=f"most={most!r}",
                expected="an integer of 0 or more: how many set-ups are kept that no call uses now",
                defined=_origin.place(),
                write="most=16",
            )
        )
    return most


def names(kept: Sequence[SetUp]) -> set[str]:
    """All that the set-ups are given."""
    return {name for each in kept for name in each.given}


def left_over(signature: KernelSignature, kept: Sequence[SetUp]) -> list[str]:
    """The arguments of the function beside its set-up, in the default order: what no set-up gets, and the sizes of it."""
    taken = names(kept)
    operands = [array for array in signature.inputs if array.name not in taken]
    results = [array for array in signature.results if not array.by_value]
    attributes = [row.name for row in signature.attributes]
    dims = (name for array in (*operands, *results) for node in array.expressions for name in sizes.names(node))
    return [
        *(array.name for array in operands),
        *(name for name in attributes if name not in taken),
        *(name for name in dict.fromkeys(dims) if name not in attributes),
        *(array.name for array in results),
    ]


# ----------------------------------------------------------------------------------------------------------- the handler
def functions(kept: Sequence[SetUp], most: int) -> list[str]:
    """The caches of a library, and the C functions that look into them."""
    if not kept:
        return []
    each = range(len(kept))
    return [
        *(f"static jaxprim::PerProcess<::{row.type}> kept_{i}(INT64_C({most}));" for i, row in enumerate(kept)),
        f"JAXPRIM_EXPORT void {COUNTS}(int64_t place, int64_t* counts) {{",
        *(f"  if (place == {i}) kept_{i}.get().counts(counts);" for i in each),
        "}",
        f"JAXPRIM_EXPORT void {FORGET}() {{",
        *(f"  kept_{i}.get().forget();" for i in reversed(each)),  # those that refer to others first
        "}",
    ]


def lease(signature: KernelSignature, kept: Sequence[SetUp], device: Device | None = None) -> list[str]:
    """The statements that take the set-up of the current element, as the variable ``kept``."""
    if not kept:
        return []
    found = _lookup("take", signature, kept, len(kept) - 1, device)
    return [*([] if device is None else [device.place]), f"auto kept = {found};"]


def _lookup(how: str, signature: KernelSignature, kept: Sequence[SetUp], place: int, device: Device | None) -> str:
    key, make = _key(signature, kept, place, device), _make(signature, kept, place, device)
    return f"kept_{place}.get().{how}({key}, {make})"


def _make(signature: KernelSignature, kept: Sequence[SetUp], place: int, device: Device | None) -> str:
    """The function that makes a set-up, from those before it that it needs."""
    row, passed = kept[place], _passed(signature, kept[place])
    shared = [f"const auto from_{i} = {_lookup('share', signature, kept, i, device)};" for i in row.earlier]
    given = [*(f"*from_{i}" for i in row.earlier), *(argument.value for argument in passed)]
    before = [argument.before for argument in passed if argument.before]
    earlier = ", ".join(f"from_{i}" for i in row.earlier)
    free = f"[=](::{row.type}* made) {{ {'delete made;' if device is None else device.free} }}"
    made = f"return jaxprim::make<::{row.type}>({', '.join([f'{{{earlier}}}', free, *given])});"
    own = _own(signature, row, _key_parts(signature, kept, place, device))
    return f"[&]([[maybe_unused]] const jaxprim::Bytes& own) {{ {' '.join([*shared, *own, *before, made])} }}"


def _own(signature: KernelSignature, row: SetUp, parts: list[str]) -> list[str]:
    """Operands as the cache holds them. The set-up may refer to them: they are there as long as it is."""
    arrays = [array for array in signature.operands if array.name in row.given and not array.by_value]
    places = [parts.index(_parts(signature, array.name)[-1]) for array in arrays]
    return [
        f"const {array.type.c}* {local(array.name)} = own.part<{array.type.c}>({place});"
        for array, place in zip(arrays, places, strict=True)
    ]


def constructors(signature: KernelSignature, kept: Sequence[SetUp]) -> str:
    """The declarations that the author's classes must have, for messages."""
    said: list[str] = []
    for row in kept:
        types = [argument.type for argument in c_arguments(signature, ", ".join(row.given), Layout())]
        given = [f"{type_} {name}" for type_, name in zip(types, row.given, strict=True)]
        said.append(f"{row.name}({', '.join([*(f'const {kept[i].type}&' for i in row.earlier), *given])})")
    return "".join(f", and a class with {text} and a destructor that does not throw" for text in said)


def _passed(signature: KernelSignature, row: SetUp) -> list[Argument]:
    """The arguments of the constructor."""
    return c_arguments(signature, ", ".join(row.given), Layout(is_declared=True))


def _key(signature: KernelSignature, kept: Sequence[SetUp], place: int, device: Device | None) -> str:
    return f"jaxprim::Key{{{', '.join(_key_parts(signature, kept, place, device))}}}"


def _key_parts(signature: KernelSignature, kept: Sequence[SetUp], place: int, device: Device | None) -> list[str]:
    parts = dict.fromkeys(part for name in _all_names(kept, place) for part in _parts(signature, name))
    # Work that uses it may go on when a call has returned. The order on one stream keeps two calls apart.
    parts |= dict.fromkeys(f"{{&{name}, sizeof({name})}}" for name in ("place", "stream") if device is not None)
    return list(parts)


def _all_names(kept: Sequence[SetUp], place: int) -> list[str]:
    """What a set-up depends on: what it is given, and what those before it depend on."""
    row = kept[place]
    return [*(name for i in row.earlier for name in _all_names(kept, i)), *row.given]


def _parts(signature: KernelSignature, name: str) -> list[str]:
    arrays = [array.name for array in signature.operands]
    if name not in arrays or signature.operands[arrays.index(name)].by_value:
        return [f"{{&{local(name)}, sizeof({local(name)})}}"]
    buffer = f"buffers[{arrays.index(name)}]"
    own = f"{{{buffer}.dims + {buffer}.batch_rank(), {buffer}.own * sizeof(int64_t)}}"
    return [own, f"{{{local(name)}, {buffer}.count() * sizeof(*{local(name)})}}"]


# ------------------------------------------------------------------------------------------------------ what is kept now
class Caches:
    """The caches of a kernel: one for each library, that is, for each set of dtypes."""

    def __init__(self, kept: Sequence[SetUp]) -> None:
        self.types = [row.name for row in kept]
        names = [[*(self.types[i] for i in row.earlier), *row.given] for row in kept]
        said = [f"{row.name}({', '.join(given)})" for row, given in zip(kept, names, strict=True)]
        self.note = f"keeps {', '.join(said)}"
        self._libraries: dict[str, ctypes.CDLL] = {}

    def add(self, key: str, library: ctypes.CDLL) -> None:
        """A library that was loaded."""
        getattr(library, COUNTS).restype = None
        getattr(library, COUNTS).argtypes = (ctypes.c_int64, ctypes.c_void_p)
        getattr(library, FORGET).restype = None
        self._libraries[key] = library

    def counts(self, place: int) -> Kept:
        """The counts of one class of set-ups."""
        rows: list[list[int]] = [[0, 0, 0]]
        for library in self._libraries.values():
            found = (ctypes.c_int64 * 3)()
            getattr(library, COUNTS)(place, found)
            rows.append(list(found))
        return Kept(*map(sum, zip(*rows, strict=True)))

    def forget(self) -> None:
        for library in self._libraries.values():
            getattr(library, FORGET)()


def _refused(keep: Any, expected: str, why: str | None = None, write: str | None = None) -> KernelError:
    return KernelError(
        message(
            "keep= can't be read.",
            got=f"keep={keep!r}",
            expected=expected,
            why=why,
            defined=_origin.place(),
            write=write,
        )
    )
