"""The notation of a sharding rule: the axes of each operand and result by name, as in ``"i k, k j -> i j"``.

An axis that all results have may be split over devices. One that a result lacks is ``reduced`` (that result is the sum
of what the devices compute) or ``replicated`` (each device needs it whole). One that only results have is never split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from jaxprim import _origin
from jaxprim._errors import BadCall, message
from jaxprim._split import Axes, Split

ELLIPSIS = "..."


@dataclass(frozen=True, eq=False)
class Sharding:
    """A sharding rule as its author wrote it.

    Attributes:
        owner: the name of the primitive.
        written: the rule.
        operands: the names of the axes of each operand leaf. The first may be `ELLIPSIS`.
        results: the same for each result leaf.
        reduced: the axes over which some result is summed.
        replicated: the axes that each device needs whole.
    """

    owner: str
    written: str
    operands: tuple[Axes, ...]
    results: tuple[Axes, ...]
    reduced: frozenset[str]
    replicated: frozenset[str]
    _origin: _origin.Origin

    @property
    def notes(self) -> tuple[str, ...]:
        """What ``explain`` says."""
        words = {"reduced": self.reduced, "replicated": self.replicated}
        said = [f"{word} {', '.join(sorted(axes))}" for word, axes in words.items() if axes]
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
        return Split(ins, outs, frozenset(n for axes in ins for n in axes if _declared(n) not in self.replicated))

    def line_with_whole(self, axis: str) -> str:
        """The line that gives this rule with one more axis that each device needs whole."""
        whole = _declared(axis)
        words = {"reduced": self.reduced - {whole}, "replicated": self.replicated | {whole}}
        said = [f"{word}={' '.join(sorted(axes))!r}" for word, axes in words.items() if axes]
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
def sharding_rule(owner: str, written: str, reduced: Names, replicated: Names) -> Sharding:
    """Read a rule.

    Raises:
        BadCall: it has no arrow, repeats an axis in one array, has `...` elsewhere than in front, names an axis that no
            array has, or leaves open whether an axis that some result lacks is reduced or replicated.
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
    found = Sharding(owner, written, operands, results, _names(reduced), _names(replicated), _origin.here())
    _settle(found, refuse)
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
    for name in sorted(rule.reduced | rule.replicated):
        if name not in ins:
            raise refuse(f"'{name}', which no operand has", f"axes of operands: {', '.join(sorted(ins))}")
    for name in sorted(rule.reduced & rule.replicated):
        raise refuse(f"'{name}' both reduced and replicated", "one of the two")
    for name in sorted(rule.reduced & everywhere):
        raise refuse(
            f"'{name}' reduced, which every result has", "a reduced axis that some result lacks, so that it is summed"
        )
    for name in sorted(ins - everywhere - rule.reduced - rule.replicated):
        raise refuse(
            f"'{name}', which a result lacks",
            "reduced, if that result is a sum over its parts, or replicated, if each device needs it whole",
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
