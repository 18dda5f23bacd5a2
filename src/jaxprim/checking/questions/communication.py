"""Do several devices communicate only what the sharding rule says? It reads compiled programs, and runs none."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxprim._jax import words
from jaxprim._split import INVARYING, SUM, Axes, Split
from jaxprim.checking.answers import Answer, NotAsked, Note, Refusal, attempt
from jaxprim.checking.case import Case
from jaxprim.checking.collectives import Moved, foreign_calls, moved
from jaxprim.checking.question import question
from jaxprim.checking.questions.split import free_axes, split_of
from jaxprim.checking.reports.findings import Evidence
from jaxprim.checking.values import is_scalar
from jaxprim.forms.sharding import shown

DEVICES = 2
ONE_DEVICE = (
    "JAX has only one device here; set JAX_NUM_CPU_DEVICES=2 in the environment, or "
    'jax.config.update("jax_num_cpu_devices", 2) before JAX is used'
)
AXIS = "devices"


@question("Do devices communicate only the sums that the sharding rule says?", group="scale")
def communication(case: Case) -> Answer:
    """Compile value, JVP and VJP for two devices with each axis split that may be, and look for what they communicate.

    A value may only sum what the rule says. A derivative may sum what follows from that, but not gather an array that was
    split. No foreign call may take all of an array that was split, which would be computed on each device.
    """
    rule = case.subject.sharding
    if rule is None:
        raise NotAsked(_without_rule(case))
    found = split_of(case, rule)
    devices = jax.local_devices()[:DEVICES]
    if len(devices) < DEVICES:
        raise NotAsked(ONE_DEVICE)
    axes = free_axes(case, found)
    modes = yield from case.rules()
    mesh = Mesh(np.array(devices), (AXIS,))
    for axis, size in axes.items():
        if size % DEVICES or not size:
            yield Note(f"{shown(axis)} has size {size} in the example, which two devices cannot share evenly")
            continue
        yield from _ask(case, _Split(case, found, axis, mesh), modes)


def _without_rule(case: Case) -> str:
    """Why nothing is asked, and for foreign code, what the missing rule costs."""
    if case.subject.kernel_platforms:
        return (
            "no sharding rule: on several devices, a kernel splits along its batch axes at most, and operands that are split "
            "along others are gathered; def_sharding says how it splits"
        )
    info = case.subject.rule("sharding")
    if info is None or info.origin not in ("host", "lowering"):
        return "no sharding rule"
    size = sum(leaf.nbytes for leaf in case.point.arrays)
    return (
        f"no sharding rule: on several devices, its operands are gathered, {size} bytes here; "
        "def_sharding says how it splits"
    )


class _Split:
    """The arrays of an operation with one axis split over two devices, and the programs that take them."""

    def __init__(self, case: Case, found: Split, axis: str, mesh: Mesh) -> None:
        self.case, self.found, self.axis, self.mesh = case, found, axis, mesh
        precision = case.native
        self.leaves = tuple(map(self._typed, precision.point.leaves, found.operands))
        self.results = list(map(self._typed, precision.results, found.results))

    def _typed(self, leaf: Any, axes: Axes) -> Any:
        if is_scalar(leaf):
            return leaf
        spec = PartitionSpec(*[AXIS if name == self.axis else None for name in axes])
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(self.mesh, spec))

    def program(self, rule: str) -> str:
        """The compiled value, JVP or VJP, as text."""
        function, *args = self._functions()[rule]()
        return str(jax.jit(function).lower(*args).compile().as_text())

    def _functions(self) -> Mapping[str, Callable[[], tuple[Any, ...]]]:
        precision, case = self.case.native, self.case
        seeds = [self.results[i] for i in precision.outputs]
        return {
            "sharding": lambda: (precision.flat, *self.leaves),
            "jvp": lambda: (precision.raw_jvp, self.leaves, {i: self.leaves[i] for i in case.wrt("jvp")}),
            "vjp": lambda: (lambda xs, cts: precision.raw_vjp(xs, case.wrt("vjp"), cts), self.leaves, seeds),
        }

    @property
    def joined(self) -> list[int]:
        """The results that are joined over the axis."""
        every = enumerate(self.found.results)
        return [i for i, axes in every if self.axis not in axes and self.found.word(i, self.axis) != INVARYING]

    def most(self, rule: str) -> int | None:
        """The number of elements that a program may sum; None if the sharding rule does not say.

        An operation is a sum over the parts of what depends on one part alone, y = sum_p f(x_p, w). So the least is a sum
        of each result and each of its tangents, sum_p df(x_p, w), and of the cotangents of what all parts share, w. A rule
        may sum the term of each operand, or result, by itself.
        """
        results, case = self.case.native.results, self.case
        values = sum(results[i].size for i in self.joined)
        if rule == "sharding":
            return values
        if any(self.found.word(i, self.axis) != SUM for i in self.joined):
            return None  # which part has the largest number is a question of its own
        if rule == "jvp":
            tangents = sum(results[i].size for i in self.joined if i in case.native.outputs)
            return values + tangents * len(case.wrt("jvp"))
        shared = [i for i in case.wrt("vjp") if self.axis not in self.found.operands[i]]
        return values + sum(math.prod(np.shape(self.leaves[i])) for i in shared) * len(case.native.outputs)

    def wholly(self, program: str) -> list[tuple[str, tuple[int, ...]]]:
        """The foreign calls that take all of an array that was split: what they call, and the shape."""
        every = zip(self.found.arrays, self._shapes, strict=True)
        others = {shape for axes, shape in every if self.axis not in axes}
        rows = [(target, shape) for target, operands in foreign_calls(program) for shape in operands]
        return [(target, shape) for target, shape in dict.fromkeys(rows) if shape not in others and self.names(shape)]

    @property
    def _shapes(self) -> list[tuple[int, ...]]:
        return [*map(np.shape, self.case.point.leaves), *self.case.native.shapes]

    def names(self, shape: tuple[int, ...]) -> str:
        """The operands and results of this shape that have the axis."""
        every = zip((*self.case.point.names, *self.case.native.names), self.found.arrays, strict=True)
        return " and of ".join(
            name
            for (name, axes), known in zip(every, self._shapes, strict=True)
            if known == shape and self.axis in axes
        )


def _ask(case: Case, arrays: _Split, modes: Sequence[str]) -> Answer:
    said: list[str] = []
    for rule in ("sharding", *modes):
        program = attempt(lambda rule=rule: arrays.program(rule))
        what = "value" if rule == "sharding" else rule
        if isinstance(program, Refusal):
            yield Note(f"not asked of the {what} with {shown(arrays.axis)} split: {program.why}")
            continue
        found = moved(program)
        said.append(f"{what} {_words(found)}")
        yield from _judge(case, arrays, rule, program, found)
    yield Note(f"{shown(arrays.axis)} split: {'; '.join(said)}")


def _judge(case: Case, arrays: _Split, rule: str, program: str, found: Sequence[Moved]) -> Answer:
    gathered = [(each, arrays.names(each.shape)) for each in found if each.how in words.MOVES]
    gathered = [(each, names) for each, names in gathered if names]
    against = f"{shown(arrays.axis)} split over two devices"
    # Elements and not bytes: XLA adds numbers of two bytes as such of four.
    sums, most = sum(math.prod(each.shape) for each in found if each.how == words.ALL_REDUCE), arrays.most(rule)
    is_too_much = most is not None and sums > most
    if (gathered or is_too_much) and _is_of_impl(case, rule):
        yield Note(
            f"{against}: the {rule} is JAX's derivative of the impl, into which the rule does not reach, and XLA "
            + (f"gathers {_words([each for each, _ in gathered])}" if gathered else f"sums {sums} elements, not {most}")
        )
        return
    allowed = "sums alone" if most is None else f"sums of at most {most} elements"
    wholly = arrays.wholly(program)
    if not gathered and not is_too_much and not wholly:
        yield Evidence(rule, against, got=_words(found), expected=allowed)
        return
    whole = dict.fromkeys(f"{each}, the shape of {names} ({each.bytes} bytes)" for each, names in gathered)
    # As a message, so that no smaller operands are looked for: each try would compile three programs.
    on_each = [f"each device computes {target} of {list(s)}, the shape of {arrays.names(s)}" for target, s in wholly]
    said = "; ".join(whole) or (_words(found) if is_too_much else f"{'; '.join(on_each)}, and not of its part")
    yield Evidence(rule, against, message=f"{said}; expected {allowed}" if whole or is_too_much else said, ok=False)
    yield from _calls(program, {each.shape for each, _ in gathered} or {shape for _, shape in wholly})


def _is_of_impl(case: Case, rule: str) -> bool:
    info = case.subject.rule(rule)
    return info is not None and info.status == "derived" and info.origin == "impl"


def _calls(program: str, shapes: set[tuple[int, ...]]) -> Iterator[Note]:
    """The foreign calls that take an array which was gathered."""
    for target in dict.fromkeys(target for target, operands in foreign_calls(program) if shapes & {*operands}):
        what = "a host function (jax.pure_callback)" if words.CALLBACK in target else f"the foreign function {target}"
        yield Note(
            f"{what} is called on whole arrays: a call that stands in a rule as it is has no sharding rule. "
            "Make it a Primitive of its own, with def_sharding"
        )


def _words(found: Sequence[Moved]) -> str:
    """How often and how much devices communicate."""
    if not found:
        return "nothing"
    kinds = dict.fromkeys(each.how for each in found)
    rows = [[each for each in found if each.how == how] for how in kinds]
    return ", ".join(f"{len(row)} x {row[0].how} ({sum(each.bytes for each in row)} bytes)" for row in rows)
