"""Where a subject is checked: one example, the random probes around it, and what each rule can differentiate there."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from jaxprim.checking import probes
from jaxprim.checking.precision import Point, Precision, Tangents
from jaxprim.checking.reports.report import Evidence
from jaxprim.checking.subject import Subject, refusal
from jaxprim.checking.values import Array, describe, is_scalar, wide


class NotAsked(Exception):
    """A question that cannot be asked of this subject; its text is the reason."""


@dataclass(frozen=True)
class Note:
    """Something that a reader should know beside the numbers."""

    text: str


Answer = Iterator[Evidence | Note]


@dataclass(frozen=True)
class Direction:
    """A tangent for some of the operand leaves; the others have none."""

    label: str
    tangents: Tangents

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes it the same direction in another question."""
        return self.label, *self.tangents


@dataclass
class Setting:
    """A subject at one point.

    Attributes:
        subject: what is checked.
        point: where.
        seed: the seed of everything random.
        number: which of several examples this is, such as ``"example 2: "``.
        others: other examples with operands of the same types, and the same static params.
    """

    subject: Subject
    point: Point
    seed: int
    number: str = ""
    others: tuple[Point, ...] = ()
    _memory: dict[Any, Any] = field(default_factory=dict[Any, Any])

    def is_like(self, other: Setting) -> bool:
        """Whether they differ in the numbers of their operands alone."""
        if other.subject is not self.subject or other.point.types != self.point.types:
            return False
        params = self.point.params, other.point.params
        # Those of a function may be arrays, which have no equality.
        return params[0] == params[1] if self.subject.primitive is not None else not any(params)

    def failure(self) -> Exception | None:
        """What the implementation raises at this point, or None: if it does not run, nothing can be asked."""
        try:
            _ = self.native
        except Exception as error:  # noqa: BLE001 - an implementation may raise anything
            return error
        return None

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """The value of ``make()``, or the exception that it raised, the first time."""
        if key not in self._memory:
            try:
                self._memory[key] = make()
            except Exception as error:  # noqa: BLE001 - raised again just below, each time it is asked for
                self._memory[key] = _Raised(error)
        value = self._memory[key]
        if isinstance(value, _Raised):
            raise value.error
        return value

    def knows(self, key: Any) -> bool:
        """Whether ``once`` was asked for it."""
        return key in self._memory

    def rng(self, *labels: object) -> probes.Stream:
        """The random numbers of one purpose."""
        return probes.stream(self.seed, *labels)

    @cached_property
    def label(self) -> str:
        """The example in a few words, such as ``x=float32[3], factor=2.0``."""
        leaves = zip(self.point.names, self.point.leaves, strict=True)
        operands = [f"{name}={leaf if is_scalar(leaf) else describe(leaf)}" for name, leaf in leaves]
        params = [f"{name}={reprlib.repr(value)}" for name, value in self.point.params.items()]
        return self.number + (", ".join([*operands, *params]) or "no operands")

    @property
    def native(self) -> Precision:
        """The example in the dtypes that it was given in."""
        return self.once("native", lambda: Precision.native(self.subject, self.point))

    # ----------------------------------------------------------------------------------------------------- probes
    def wrt(self, mode: str) -> tuple[int, ...]:
        """The leaves that ``jvp`` or ``vjp`` can differentiate; raises NotAsked if there is none."""
        return self.once(("wrt", mode), lambda: self._wrt(mode))

    def why_not(self, mode: str) -> str | None:
        """Why a derivative rule cannot be asked, or None if it can."""
        try:
            self.wrt(mode)
        except NotAsked as error:
            return str(error)
        return None

    def rules(self) -> Generator[Note, None, list[str]]:
        """Those of ``jvp`` and ``vjp`` that can be asked, and a note for each other: ``yield from`` gives both."""
        asked: list[str] = []
        for mode in ("jvp", "vjp"):
            why = self.why_not(mode)
            if why is None:
                asked.append(mode)
            else:
                yield Note(f"not asked of the {mode} rule: {why}")
        return asked

    def _wrt(self, mode: str) -> tuple[int, ...]:
        why = self.subject.missing(mode)
        if why is not None:
            raise NotAsked(why)
        if not self.point.differentiable:
            raise NotAsked("no operand has tangents")
        if not self.native.outputs:
            raise NotAsked("no result has tangents")
        return self._usable(mode, self.point.differentiable)

    def _usable(self, mode: str, leaves: tuple[int, ...]) -> tuple[int, ...]:
        """All leaves, if the rule takes them; else those that it takes alone."""
        try:
            self._differentiate(mode, leaves)
        except Exception as error:
            why = refusal(error)
            if why is None:
                raise
            usable = tuple(i for i in leaves if len(leaves) > 1 and self._usable_alone(mode, i))
            if not usable:
                raise NotAsked(why) from error
            return usable
        return leaves

    def _usable_alone(self, mode: str, leaf: int) -> bool:
        try:
            self._differentiate(mode, (leaf,))
        except Exception as error:
            if refusal(error) is None:
                raise
            return False
        return True

    def _differentiate(self, mode: str, leaves: tuple[int, ...], precision: Precision | None = None) -> None:
        precision = precision or self.native
        if mode == "jvp":
            precision.jvp({i: self.relative(i) for i in leaves})
        else:
            precision.vjp(self.cotangents(0), leaves)

    def refused(self, mode: str) -> Answer:
        """Names the operands that a rule does not differentiate."""
        left = [self.point.names[i] for i in self.point.differentiable if i not in self.wrt(mode)]
        if left:
            yield Note(f"the {mode} rule does not differentiate {', '.join(left)}")

    def relative(self, leaf: int, draw: int = 0) -> Array:
        """A random tangent of one leaf, in proportion to its elements."""
        value = wide(self.point.leaves[leaf])
        direction = probes.relative_direction(self.rng("relative", leaf, draw), value)
        return probes.rounded(direction, self.point.leaves[leaf])

    def _even(self, leaf: int) -> Array:
        value = wide(self.point.leaves[leaf])
        return probes.rounded(probes.even_direction(self.rng("even", leaf), value), self.point.leaves[leaf])

    def directions(self, mode: str) -> tuple[Direction, ...]:
        """Two directions in all operands, and one in each alone, which tells a reader whose derivative is wrong."""
        wrt = self.wrt(mode)
        what = "all operands" if len(wrt) > 1 else "".join(self.point.names[i] for i in wrt)
        every = [
            Direction(f"{what}, in proportion to its elements", {i: self.relative(i) for i in wrt}),
            Direction(f"{what}, the same size in every element", {i: self._even(i) for i in wrt}),
        ]
        alone = [Direction(f"{self.point.names[i]} alone", {i: self.relative(i, 1)}) for i in wrt]
        return (*every, *(alone if len(wrt) > 1 else ()))

    def cotangents(self, draw: int) -> list[Array]:
        """A random cotangent of each differentiable result."""
        found: list[Array] = []
        for i in self.native.outputs:
            leaf = self.native.results[i]
            found.append(probes.rounded(probes.unit(self.rng("cotangent", i, draw), wide(leaf)), leaf))
        return found


@dataclass(frozen=True)
class _Raised:
    error: Exception
