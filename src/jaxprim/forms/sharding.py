"""The notation of a sharding rule: the axes of each operand and result by name, as in ``"i k, k j -> i j"``.

An axis that all results have may be split over devices. One that a result lacks is ``reduced`` (that result is the sum
of what the devices compute, or another word of `WORDS`) or ``replicated`` (each device needs it whole). One that only
results have is never split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from jaxprim import _origin
from jaxprim._errors import BadCall, message
from jaxprim._split import MAX, SUM, WORDS, Axes, Split

ELLIPSIS = "..."


@dataclass(frozen=True, eq=False)
class Sharding:
    """A sharding rule as its author wrote it.

    Attributes:
        owner: the name of the primitive.
        written: the rule.
        operands: the names of the axes of each operand leaf. The first may be `ELLIPSIS`.
        results: the same for each result leaf.
        reduced: the axes that some result lacks, with a word for each of these results: what it is of the parts.
        replicated: the axes that each device needs whole.
    """

    owner: str
    written: str
    operands: tuple[Axes, ...]
    results: tuple[Axes, ...]
    reduced: Mapping[str, tuple[str, ...]]
    replicated: frozenset[str]
    _origin: _origin.Origin

    @property
    def notes(self) -> tuple[str, ...]:
        """What ``explain`` says."""
        summed = sorted(axis for axis, words in self.reduced.items() if {*words} == {SUM})
        others = {axis: words for axis, words in sorted(self.reduced.items()) if {*words} != {SUM}}
        said = [f"reduced {', '.join(summed)}"] if summed else []
        said += [f"reduced {axis}: {', '.join(words)}" for axis, words in others.items()]
        said += [f"replicated {', '.join(sorted(self.replicated))}"] if self.replicated else []
        return ("; ".join([repr(self.written), *said]),)

    def __call__(self, operands: Sequence[tuple[str, Sequence[int]]], results: Sequence[Sequence[int]]) -> Split:
        """What one call may split.

        Args:
            operands: the name and the shape of each operand leaf.
            results: the shape of each result leaf.

        Raises:
            BadCall: the rule has another number of operands, results or axes, or one name stands for two sizes.
        """
        named = [(f"result {i}", shape) for i, shape in enumerate(results)]
        self._count("operand", self.operands, operands)
        self._count("result", self.results, named)
        ours = self.operands if operands else ()
        leading: dict[str, int] = {}
        fit = lambda axes, row: self._fit(axes, row, leading)
        ins = tuple(map(fit, ours, [(f"operand '{name}'", shape) for name, shape in operands]))
        outs = tuple(map(fit, self.results, named))
        self._same_sizes([*ins, *outs], [*((f"operand '{name}'", shape) for name, shape in operands), *named])
        free = frozenset(n for axes in ins for n in axes if _declared(n) not in self.replicated)
        return Split(ins, outs, free, frozenset(self._otherwise(outs, free)))

    def _otherwise(self, results: Sequence[Axes], free: Iterable[str]) -> Iterator[tuple[int, str, str]]:
        for axis in free:
            words = iter(self.reduced.get(_declared(axis), ()))
            for place in (i for i, axes in enumerate(results) if axis not in axes):
                word = next(words, SUM)
                if word != SUM:
                    yield place, axis, word

    def line_with_whole(self, axis: str) -> str:
        """The line that gives this rule with one more axis that each device needs whole."""
        whole = _declared(axis)
        reduced = {axis: words for axis, words in sorted(self.reduced.items()) if axis != whole}
        is_sum = all({*words} == {SUM} for words in reduced.values())
        as_given = " ".join(reduced) if is_sum else {a: w[0] if len({*w}) == 1 else w for a, w in reduced.items()}
        said = [f"reduced={as_given!r}"] if reduced else []
        said.append(f"replicated={' '.join(sorted(self.replicated | {whole}))!r}")
        return f"{self.owner}.def_sharding({', '.join([repr(self.written), *said])})"

    def _count(self, kind: str, axes: Sequence[Axes], found: Sequence[tuple[str, Sequence[int]]]) -> None:
        if len(axes) != len(found) and not (axes == ((),) and not found):
            raise self.misfit(
                f"has another number of {kind}s than the operation.",
                got=f"{len(axes)} {kind}{'s' * (len(axes) != 1)}",
                expected=f"{len(found)}, one for each array: {', '.join(_shown(row) for row in found) or 'none'}",
            )

    def _fit(self, axes: Axes, row: tuple[str, Sequence[int]], leading: dict[str, int]) -> Axes:
        """The names of an array's axes, with one for each axis that `...` stands for."""
        own = axes[1:] if axes[:1] == (ELLIPSIS,) else axes
        count = len(row[1]) - len(own)
        if count < 0 or (own is axes and count):
            raise self.misfit(f"does not fit {row[0]}.", got=_written(axes), expected=f"names for {_shown(row)}")
        if own is not axes and leading.setdefault(row[0], count) != next(iter(leading.values())):
            first = next(iter(leading))
            raise self.misfit(
                "has `...` for different numbers of axes.",
                got=f"{count} in {_shown(row)}",
                expected=f"{leading[first]}, as in {first}",
            )
        return (*(f"{ELLIPSIS}{i}" for i in range(count)), *own)

    def _same_sizes(self, split: Sequence[Axes], arrays: Sequence[tuple[str, Sequence[int]]]) -> None:
        sizes: dict[str, tuple[str, int]] = {}
        for axes, (array, shape) in zip(split, arrays, strict=True):
            for name, size in zip(axes, shape, strict=True):
                first, known = sizes.setdefault(name, (array, size))
                if known != size:
                    raise self.misfit(
                        f"gives one name to axes of two sizes, '{name}'.",
                        got=f"{size} in {array}",
                        expected=f"{known}, as in {first}",
                        why="axes of one name are split into the same parts",
                    )

    def misfit(self, headline: str, *, got: str, expected: str, why: str | None = None) -> BadCall:
        """The error for a call that the rule does not fit."""
        return BadCall(
            message(
                f"{self.owner}: its sharding rule {headline}",
                got=got,
                expected=expected,
                why=why,
                rule=self,
                write=f"{self.owner}.def_sharding({self.written!r}, ...)  # one group of names for each array",
            )
        )


def _declared(name: str) -> str:
    """The name under which a rule declares an axis: `...` for each axis that it stands for."""
    return ELLIPSIS if name.startswith(ELLIPSIS) else name


def shown(name: str) -> str:
    """An axis in words: those that `...` stands for are counted."""
    return f"axis {name.removeprefix(ELLIPSIS)} of `...`" if name.startswith(ELLIPSIS) else f"axis '{name}'"


def _shown(row: tuple[str, Sequence[int]]) -> str:
    name, shape = row
    return f"{name} of shape [{','.join(map(str, shape))}]"


def _written(axes: Axes) -> str:
    return f"'{' '.join(axes)}'"


# ------------------------------------------------------------------------------------------------------ reading a rule
def sharding_rule(
    owner: str, written: str, reduced: Names | Mapping[str, str | Sequence[str]], replicated: Names
) -> Sharding:
    """Read a rule.

    Raises:
        BadCall: it has no arrow, repeats an axis in one array, has `...` elsewhere than in front, names an axis that no
            array has, leaves open whether an axis that some result lacks is reduced or replicated, or has no word for it.
    """
    refuse = lambda got, expected, write=None: _refused(owner, written, got, expected, write)
    if not isinstance(written, str) or written.count("->") != 1:  # pyright: ignore[reportUnnecessaryIsInstance] users may err
        raise refuse(repr(written), "operands -> results, as in 'i k, k j -> i j'")
    left, right = written.split("->")
    operands, results = _read(left), _read(right)
    for axes in (*operands, *results):
        for place, name in enumerate(axes):
            if name == ELLIPSIS and place:
                raise refuse(f"`...` after '{axes[place - 1]}'", "`...` in front of the other names of an array")
            if name != ELLIPSIS and not name.isidentifier():
                raise refuse(f"'{name}'", "names such as i or batch, with a space between two of them")
            if axes.count(name) > 1:
                raise refuse(f"'{name}' twice in {_written(axes)}", "a name of its own for each axis of an array")
    lacking = lambda axis: sum(axis not in axes for axes in results)
    given = reduced if isinstance(reduced, Mapping) else dict.fromkeys(_names(reduced), SUM)
    words = {axis: (how,) * lacking(axis) if isinstance(how, str) else tuple(how) for axis, how in given.items()}
    found = Sharding(owner, written, operands, results, words, _names(replicated), _origin.here())
    _settle(found, refuse)
    for axis, each in words.items():
        if len(each) != lacking(axis) or not {*each} <= {*WORDS}:
            raise refuse(
                f"reduced {axis!r}: {given[axis]!r}",
                f"one of {', '.join(map(repr, WORDS))}, or one for each of the {lacking(axis)} results that lack it",
                f"reduced={{{axis!r}: {MAX!r}}}",
            )
    return found


Names = str | Iterable[str]
Refuse = Callable[..., BadCall]


def _read(part: str) -> tuple[Axes, ...]:
    return tuple(tuple(array.split()) for array in part.split(","))


def _names(value: Names) -> frozenset[str]:
    return frozenset(value.replace(",", " ").split() if isinstance(value, str) else value)


def _settle(rule: Sharding, refuse: Refuse) -> None:
    """Refuse a rule that does not say of each axis whether it may be split."""
    ins = {name for axes in rule.operands for name in axes}
    everywhere = set.intersection(*map(set, rule.results))
    for name in sorted({*rule.reduced} | rule.replicated):
        if name not in ins:
            raise refuse(f"'{name}', which no operand has", f"axes of operands: {', '.join(sorted(ins))}")
    for name in sorted({*rule.reduced} & rule.replicated):
        raise refuse(f"'{name}' both reduced and replicated", "one of the two")
    for name in sorted({*rule.reduced} & everywhere):
        raise refuse(
            f"'{name}' reduced, which every result has", "a reduced axis that some result lacks, so that it is summed"
        )
    for name in sorted(ins - everywhere - {*rule.reduced} - rule.replicated):
        raise refuse(
            f"'{name}', which a result lacks",
            "reduced, if that result is a sum over its parts (or 'max', 'min', 'invarying'), or replicated, if each device "
            "needs it whole",
            f"reduced='{name}'",
        )


def _refused(owner: str, written: object, got: str, expected: str, write: str | None) -> BadCall:
    return BadCall(
        message(
            f"{owner}: its sharding rule cannot be read.",
            got=f"{got}, in {written!r}" if got != repr(written) else got,
            expected=expected,
            defined=_origin.place(),
            write=f"{owner}.def_sharding({written!r}, {write})"
            if write
            else f"{owner}.def_sharding('i k, k j -> i j', reduced='k')",
        )
    )
