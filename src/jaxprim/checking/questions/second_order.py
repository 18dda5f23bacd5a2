"""Are higher derivatives right? Each mix of modes is compared with differences of the mode below it, and with the others.

Along tangents s and t, with a cotangent c of the results, the second derivative is one number, <c, f''(s, t)>. There are
four ways to compute it, where J is the Jacobian at x and d/dt the derivative along t:

    fwd-fwd   <c, d/dt (J s)>                  JVP of the JVP
    rev-fwd   <grad <c, J s>, t>               VJP of the JVP
    fwd-rev   <d/dt (J^T c), s>                JVP of the VJP
    rev-rev   <grad <J^T c, s>, t>             VJP of the VJP

It is symmetric in s and t, because f''(s, t) = sum_ij d2f/dx_i dx_j s_i t_j. All draws are random. A cotangent equal to the
result would be zero where the result is zero, and could hide a wrong second derivative.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np

from jaxprim._record import Record, record_rules
from jaxprim.checking import probes, tolerances
from jaxprim.checking.answers import Answer, NotAsked, Note, Refusal, attempt_rule, collect, failed, why_refused
from jaxprim.checking.case import Case
from jaxprim.checking.differences import derivative
from jaxprim.checking.precision import Precision
from jaxprim.checking.probes import Tangents
from jaxprim.checking.programs import jit_once
from jaxprim.checking.question import question
from jaxprim.checking.tolerances import Tolerance
from jaxprim.checking.values import Array, wide

MODES = ("jvp", "vjp")
CANNOT_TELL = "the differences of the first derivative do not converge at this point"
Leaves = Sequence[Any]
# A function of only the differentiated operands that returns a list.
Function = Callable[..., list[Any]]


@dataclass(frozen=True)
class _Rules:
    """One or both rules, as functions of the operands that they differentiate."""

    case: Case
    modes: tuple[str, ...]

    @cached_property
    def wrt(self) -> tuple[int, ...]:
        """The operands that all these modes differentiate."""
        found = [self.case.wrt(mode) for mode in self.modes]
        both = tuple(i for i in found[0] if all(i in other for other in found))
        if not both:
            raise NotAsked("the two rules differentiate different operands")
        return both

    @cached_property
    def precision(self) -> Precision:
        """The highest precision in which the rules of these modes run."""
        return self.case.precisions(*self.modes)[-1]

    def tangents(self, draw: int) -> Tangents:
        """Random tangents from draws that no other question uses."""
        return {i: self.case.relative(i, probes.HIGHER_ORDER + draw) for i in self.wrt}

    @cached_property
    def cotangents(self) -> list[Array]:
        return self.case.cotangents(probes.HIGHER_ORDER)

    def push(self, tangents: Mapping[int, Any]) -> Function:
        """The JVP along fixed tangents."""

        def function(*some: Any) -> list[Any]:
            found = self.precision.raw_jvp(self.all_leaves(some), tangents)[1]
            return [found[i] for i in self.precision.outputs]

        return function

    def pull(self, cotangents: Sequence[Any]) -> Function:
        """The VJP of fixed cotangents."""
        return lambda *some: list(self.precision.raw_vjp(self.all_leaves(some), self.wrt, cotangents)[1])

    def all_leaves(self, some: Leaves) -> list[Any]:
        """All operands, with ``some`` in place of the differentiated ones."""
        leaves = list(self.precision.point.leaves)
        for i, leaf in zip(self.wrt, some, strict=True):
            leaves[i] = leaf
        return leaves

    def operands(self, tangents: Tangents | None = None, step: float = 0.0) -> tuple[Any, ...]:
        """The differentiated operands, moved by a step along tangents."""
        leaves = self.precision.point.leaves
        if tangents is None:
            return tuple(leaves[i] for i in self.wrt)
        return tuple(probes.move(leaves[i], step * tangents[i]) for i in self.wrt)

    def cast(self, tangents: Tangents) -> dict[int, Any]:
        """Tangents as JAX values of this precision."""
        with self.precision.in_effect():
            return self.precision.cast(tangents)

    def seeds(self) -> list[Any]:
        """The cotangents as JAX values of this precision."""
        with self.precision.in_effect():
            return self.precision.cast_out(self.cotangents)

    def scale(self, *tangents: Tangents) -> float:
        """The size of this derivative along s, t, ... if the operation is of degree one in each step: |y| |s|/|x| |t|/|x| ...

        `tangent_scale` of t is |y| |t| / |x|. Divided by |y|, it is the factor for the direction t.
        """
        sizes = [self.case.tangent_scale(self.precision, t) for t in tangents]
        value = self.case.value_scale(self.precision) or 1.0
        return value * float(np.prod([size / value for size in sizes]))


@question(
    "Does the derivative of each rule agree with finite differences of that rule?", group="second order", departs="vjp"
)
def second_order(case: Case) -> Answer:
    """Compare the derivative of each rule in a second random direction with differences of that rule."""
    yield from _each_mode(case, _second_of)


def _each_mode(case: Case, ask: Callable[[_Rules, str], Answer]) -> Answer:
    with record_rules(quiet=True) as record:
        found, ended = collect(_each_of(case, ask))
    yield from found
    if failed(found):
        yield from _note_other_rules(record, case.subject.name)
    if ended is not None:
        raise ended.error


def _note_other_rules(record: Record, name: str) -> Answer:
    """A note that names derivative rules of other primitives: they are a part of this derivative, and may be the wrong ones."""
    rules = dict.fromkeys(
        f"{rule} of {who}, {where}" for who, rule, where in record.counts if who != name and rule in MODES
    )
    if rules:
        yield Note(f"rules of other operations take part, so check these too: {'; '.join(rules)}")


def _each_of(case: Case, ask: Callable[[_Rules, str], Answer]) -> Answer:
    refusals: list[str] = []
    for mode in MODES:
        try:
            yield from ask(_Rules(case, (mode,)), mode)
        except Exception as error:
            why = str(error) if isinstance(error, NotAsked) else why_refused(error)
            if why is None:
                raise
            refusals.append(why)
            yield Note(f"not asked of the {mode} rule: {why}")
    if len(refusals) == 2:
        raise NotAsked(refusals[-1])


def _first_derivative(rules: _Rules, mode: str) -> tuple[Function, list[str]]:
    """A rule along fixed tangents or cotangents, and the names of its outputs."""
    precision, names = rules.precision, rules.case.point.names
    if mode == "jvp":
        return rules.push(rules.cast(rules.tangents(0))), [f"tangent of {name}" for name in precision.output_names]
    return rules.pull(rules.seeds()), [f"cotangent of {names[i]}" for i in rules.wrt]


def _second_of(rules: _Rules, mode: str) -> Answer:
    function, names = _first_derivative(rules, mode)
    firsts = (rules.tangents(0),) if mode == "jvp" else ()
    pushed = _Pushed(rules, function, rules.tangents(1))
    yield from _against_differences(rules, f"fwd-{_word(mode)}", mode, pushed, names, *firsts)


@dataclass(frozen=True)
class _Pushed:
    """A lower derivative and its JVP along tangents, in one program: to compile two takes longer than to evaluate both."""

    rules: _Rules
    function: Function
    along: Tangents

    @cached_property
    def _program(self) -> Callable[..., Any]:
        lower = jax.jit(self.function)
        return jax.jit(lambda some, dots: jax.jvp(lower, some, dots))

    def at(self, step: float) -> tuple[list[Array], list[Array]]:
        """The lower derivative, and its JVP, where the operands are moved by a step along the tangents."""
        with self.rules.precision.in_effect():
            dots = tuple(self.rules.cast(self.along).values())
            some = self.rules.operands(self.along, step) if step else self.rules.operands()
            lower, pushed = self._program(some, dots)
            return list(map(wide, lower)), list(map(wide, pushed))

    @cached_property
    def got(self) -> list[Array]:
        """The JVP at the operands themselves."""
        return self.at(0.0)[1]


def _word(mode: str) -> str:
    return "fwd" if mode == "jvp" else "rev"


def _against_differences(
    rules: _Rules,
    mix: str,
    mode: str,
    pushed: _Pushed,
    names: Sequence[str],
    *others: Tangents,
) -> Answer:
    """Compare forward mode over a lower derivative with differences, element by element."""
    case, precision, got, along = rules.case, rules.precision, pushed.got, pushed.along
    found = derivative(lambda step: pushed.at(step)[0], precision.eps, case.accuracy)
    if not any(np.any(d.judged) for d in found) and any(d.judged.size for d in found):
        raise NotAsked(CANNOT_TELL)
    scale = rules.scale(along, *others) * (1.0 if mode == "jvp" else _inverse_size(case, rules))
    for name, value, d in zip(names, got, found, strict=True):
        own = case.rounding(precision, np.abs(d.value) + scale, numbers=d.value)
        tolerance = (
            tolerances.differences(np.abs(d.value) + tolerances.SHARE_OF_SCALE * scale, d.error, precision.eps) + own
        )
        tolerance = Tolerance(tolerance.size + d.slack, tolerance.why)
        against = f"{mix} against differences of the {mode} rule ({precision.label})"
        yield case.evidence(mode, against, name, value, d.value, tolerance, d.judged)


def _inverse_size(case: Case, rules: _Rules) -> float:
    """1 / |x| for the smallest operand: a cotangent has the size of a result divided by the size of an operand."""
    return 1.0 / min(probes.typical(wide(case.point.leaves[i])) for i in rules.wrt)


def _fwd_fwd(a: _Rules, some: Leaves, s: Any, t: Any, c: Any) -> list[Any]:
    return list(jax.jvp(a.push(s), tuple(some), tuple(t.values()))[1])


def _rev_fwd(a: _Rules, some: Leaves, s: Any, t: Any, c: Any) -> list[Any]:
    return list(jax.vjp(a.push(s), *some)[1](list(c)))


def _fwd_rev(a: _Rules, some: Leaves, s: Any, t: Any, c: Any) -> list[Any]:
    return list(jax.jvp(a.pull(c), tuple(some), tuple(t.values()))[1])


def _rev_rev(a: _Rules, some: Leaves, s: Any, t: Any, c: Any) -> list[Any]:
    return list(jax.vjp(a.pull(c), *some)[1](_like_results(a.pull(c), some, s.values())))


def _like_results(function: Function, some: Leaves, tangents: Any) -> list[Any]:
    """Cotangents of a VJP's own results: tangents, in the types of these results."""
    shapes = jax.eval_shape(function, *some)
    return [jax.numpy.asarray(t, shape.dtype) for t, shape in zip(tangents, shapes, strict=True)]


# A mix, and with what its vector is paired to give the one number: the cotangents c, or the tangents s or t.
MIXES: Mapping[str, tuple[Callable[..., list[Any]], str]] = {
    "fwd-fwd": (_fwd_fwd, "c"),
    "rev-fwd": (_rev_fwd, "t"),
    "fwd-rev": (_fwd_rev, "s"),
    "rev-rev": (_rev_rev, "t"),
}


@dataclass(frozen=True)
class _Number:
    """One second derivative as a number, how large the terms of its sum are, and its rounding errors."""

    value: float
    size: float
    noise: float


def _numbers(case: Case, *, swapped: bool = False) -> tuple[dict[str, _Number], list[str]]:
    """The number from each mix, and the reasons why some mixes have none."""
    return case.once(("mixes", swapped), lambda: _evaluate(case, swapped=swapped))


def _evaluate(case: Case, *, swapped: bool) -> tuple[dict[str, _Number], list[str]]:
    compiled, rules, refused = case.once("compiled mixes", lambda: _compile(case))
    s, t = rules.tangents(0), rules.tangents(1)
    if swapped:
        s, t = t, s
    factors = {"c": rules.cotangents, "s": list(s.values()), "t": list(t.values())}

    def numbers(some: Leaves) -> dict[str, tuple[Array, Array]]:
        with rules.precision.in_effect():
            found = compiled(some, rules.cast(s), rules.cast(t), rules.seeds())
            return {mix: _paired(list(map(wide, leaves)), factors[MIXES[mix][1]]) for mix, leaves in found.items()}

    base = numbers(rules.operands())

    def again(leaves: Sequence[Any], step: float) -> list[Array]:
        return [value for value, _ in numbers([leaves[i] for i in rules.wrt]).values()]

    noise = case.noise(rules.precision, [value for value, _ in base.values()], again, of_rule=True)
    rows = zip(base.items(), noise, strict=True)
    return {mix: _Number(float(value), float(size), float(n)) for (mix, (value, size)), n in rows}, refused


def _compile(case: Case) -> tuple[Callable[..., Any], _Rules, list[str]]:
    """Compile all mixes that JAX supports for this subject in one program, which is faster."""
    modes = tuple(mode for mode in ("jvp", "vjp") if case.why_not(mode) is None)
    if not modes:
        raise NotAsked("there is neither a JVP nor a VJP rule")
    rules = _Rules(case, modes)
    arguments = [rules.operands(), rules.cast(rules.tangents(0)), rules.cast(rules.tangents(1)), rules.seeds()]
    with rules.precision.in_effect():
        usable: list[str] = []
        refused: list[str] = []
        for mix, (function, _) in MIXES.items():
            found = attempt_rule(partial(jax.eval_shape, partial(function, rules), *arguments))
            if isinstance(found, Refusal):
                refused.append(f"{mix}: {found.why}")
            else:
                usable.append(mix)
        compiled = jit_once(lambda *a: {mix: MIXES[mix][0](rules, *a) for mix in usable})
    return compiled, rules, refused


def _paired(vector: Sequence[Array], factors: Sequence[Array]) -> tuple[Array, Array]:
    """Re sum v f, without conjugation, and sum |v f|, the size for the tolerance of the sum."""
    products = [v * f for v, f in zip(vector, factors, strict=True)]
    total, size = sum(np.sum(np.real(p)) for p in products), sum(np.sum(np.abs(p)) for p in products)
    return np.asarray(total, float), np.asarray(size, float)


@question(
    "Do all mixes of forward and reverse mode give the same second derivative?",
    group="second order",
    departs="vjp",
)
def mixes(case: Case) -> Answer:
    """Compare the number from each mix with the first."""
    found, refused = _numbers(case)
    yield from (Note(f"not asked: {why}") for why in refused)
    if len(found) < 2:
        raise NotAsked("there is only one mix of modes" if found else refused[0])
    (first, expected), *others = found.items()
    for mix, number in others:
        yield from _compare(case, mix, f"{mix} against {first}", number, expected)


@question("Is the second derivative symmetric in its two directions?", group="second order", departs="vjp")
def symmetry(case: Case) -> Answer:
    """Compare the number from each mix with the number for swapped tangents."""
    found, swapped = _numbers(case)[0], _numbers(case, swapped=True)[0]
    if not found:
        raise NotAsked(_numbers(case)[1][0])
    for mix, number in found.items():
        yield from _compare(case, mix, f"{mix} with its two tangents swapped", number, swapped[mix])


def _compare(case: Case, mix: str, against: str, got: _Number, expected: _Number) -> Answer:
    rules: _Rules = case.once("compiled mixes", lambda: None)[1]
    if not (np.isfinite(got.value) and np.isfinite(expected.value)):
        yield Note(f"{against}: not finite at this point")
        return
    precision, noise = rules.precision, max(got.noise, expected.noise)
    scale = rules.scale(rules.tangents(0), rules.tangents(1)) * max(np.sqrt(c.size) for c in rules.cotangents)
    size = np.asarray(max(got.size, expected.size) + scale)
    tolerance = case.rounding(precision, size, noise)
    rule = "jvp" if mix.endswith("fwd") else "vjp"
    value, truth = np.asarray(got.value), np.asarray(expected.value)
    yield case.evidence(rule, f"{against} ({precision.label})", "<c, d2f(s, t)>", value, truth, tolerance)


@question(
    "Does the second derivative of each rule agree with finite differences of its first derivative?",
    group="second order",
    speed="thorough",
    departs="vjp",
)
def third_order(case: Case) -> Answer:
    """Compare the second derivative of each rule in two more random directions with differences of its first derivative."""
    yield from _each_mode(case, _third_of)


def _third_of(rules: _Rules, mode: str) -> Answer:
    function, names = _first_derivative(rules, mode)
    second, third = rules.tangents(1), rules.tangents(2)
    firsts = (rules.tangents(0),) if mode == "jvp" else ()
    along = tuple(rules.cast(second).values())
    lower = lambda *some: jax.jvp(function, some, along)[1]
    pushed = _Pushed(rules, lower, third)
    yield from _against_differences(rules, f"fwd-fwd-{_word(mode)}", mode, pushed, names, second, *firsts)
    scale = rules.scale(third, second, *firsts) * (1.0 if mode == "jvp" else _inverse_size(rules.case, rules))
    yield from _in_reverse(rules, mode, lower, pushed.got, third, scale)


def _in_reverse(
    rules: _Rules, mode: str, lower: Function, forward: list[Array], along: Tangents, scale: float
) -> Answer:
    """Reverse mode over a lower derivative L, as one number: <c, d/dt L> = <grad <c, L>, t>."""
    case, precision = rules.case, rules.precision
    cotangents = [probes.unit(case.rng("third", k), leaf) for k, leaf in enumerate(forward)]

    def pull(*some: Any) -> list[Any]:
        primal, back = jax.vjp(lower, *some)
        return list(back([jax.numpy.asarray(c, p.dtype) for c, p in zip(cotangents, primal, strict=True)]))

    with precision.in_effect():
        found = attempt_rule(lambda: [wide(leaf) for leaf in jax.jit(pull)(*rules.operands())])
    if isinstance(found, Refusal):
        yield Note(f"not asked in reverse mode: {found.why}")
        return
    got, size = _paired(found, list(along.values()))
    expected, other = _paired(cotangents, forward)
    terms = scale * float(np.sqrt(sum(leaf.size for leaf in forward)))
    tolerance = case.rounding(precision, size + other + terms) + tolerances.relative(size + other, precision.eps)
    against = f"rev-fwd-{_word(mode)} against fwd-fwd-{_word(mode)} ({precision.label})"
    judged = np.isfinite(got) & np.isfinite(expected)
    yield case.evidence("vjp", against, "<c, d3f(s, t, u)>", got, expected, tolerance, judged)
