"""One example of a subject: its precisions, the values and derivatives there, and their rounding errors."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from jaxprim.checking import compare, draw, probes, tolerances
from jaxprim.checking.answers import Answer, NotAsked, Note, Refusal, attempt, attempt_rule
from jaxprim.checking.differences import Derivative, derivative
from jaxprim.checking.noise import measure_noise
from jaxprim.checking.precision import JvpResult, Point, Precision, VjpResult
from jaxprim.checking.probes import Direction, Tangents
from jaxprim.checking.reports.findings import Evidence
from jaxprim.checking.subject import Subject
from jaxprim.checking.tolerances import Tolerance
from jaxprim.checking.values import Array, describe, epsilon, is_scalar, largest, peak, wide


@dataclass
class Case:
    """A subject at one point. Values that several questions need are evaluated once and kept.

    Attributes:
        subject: the primitive or function under check.
        point: the operands and static params.
        seed: the random seed.
        number: which of several examples this is, such as ``"example 2: "``.
        place: how it differs from the example, such as ``", in float16"``; shown in evidence.
        others: other examples with operands of the same types, and the same static params.
        accuracy: the relative error to which the operation computes its function; 0 if it only rounds.
        leeway: what every tolerance is multiplied by: more than 1 where only large errors are looked for.
        measures_noise: whether the rounding errors of rules are measured. That takes many evaluations, and without them
            tolerances are only smaller: what passes without passes with them.
    """

    subject: Subject
    point: Point
    seed: int
    number: str = ""
    place: str = ""
    others: tuple[Point, ...] = ()
    accuracy: float = 0.0
    leeway: float = 1.0
    measures_noise: bool = True
    _memory: dict[Any, Any] = field(default_factory=dict[Any, Any], init=False, repr=False, compare=False)

    @staticmethod
    def of(
        subject: Subject, operands: tuple[Any, ...], params: Mapping[str, Any], seed: int, number: str = "",
        accuracy: float | None = None,
    ) -> Case:  # fmt: skip
        """The case of one example; types are filled with random numbers. Without an accuracy, ``def_accuracy`` says it."""
        operands, params = subject.split(operands, params)
        closed, operands = subject.close_over_static(operands)
        point = Point.of(closed, draw.draw_types(operands, seed), params)
        declared = subject.accuracy(point.operands, params) if accuracy is None else accuracy
        return Case(closed, point, seed, number, accuracy=declared)

    def at(self, leaves: Sequence[Any], place: str, params: Mapping[str, Any] | None = None) -> Case:
        """The case of other operands or static params; it shares no stored values with this one."""
        params = self.point.params if params is None else params
        point = replace(self.point, leaves=tuple(leaves), params=params)
        point = replace(point, is_retyped=self.point.is_retyped or point.types != self.point.types)
        accuracy = attempt(lambda: self.subject.accuracy(point.operands, params))
        if isinstance(accuracy, Refusal) or self.accuracy != self._declared_accuracy:
            accuracy = self.accuracy  # the check says it, or the example
        return replace(self, point=point, place=f", {place}", others=(), accuracy=accuracy)

    @cached_property
    def _declared_accuracy(self) -> float:
        return self.subject.accuracy(self.point.operands, self.point.params)

    @cached_property
    def with_noise(self) -> Case:
        """The same case, with the rounding errors of rules measured."""
        return self if self.measures_noise else replace(self, measures_noise=True)

    def is_like(self, other: Case) -> bool:
        """Whether they differ only in the numbers of their operands."""
        if other.subject is not self.subject or other.point.types != self.point.types:
            return False
        params = self.point.params, other.point.params
        # Params of a function may be arrays, which have no equality.
        return params[0] == params[1] if self.subject.is_primitive else not any(params)

    @cached_property
    def label(self) -> str:
        """A short label of the example, such as ``x=float32[3], factor=2.0``."""
        leaves = zip(self.point.names, self.point.leaves, strict=True)
        operands = [f"{name}={leaf if is_scalar(leaf) else describe(leaf)}" for name, leaf in leaves]
        params = [f"{name}={reprlib.repr(value)}" for name, value in self.point.params.items()]
        return self.number + (", ".join([*operands, *params]) or "no operands")

    # ------------------------------------------------------------------------------------------------------- memory
    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """The value of ``make()``, or the exception that it raised, the first time."""
        if key not in self._memory:
            self._memory[key] = attempt(make)
        value = self._memory[key]
        if isinstance(value, Refusal):
            raise value.error
        return value

    def knows(self, key: Any) -> bool:
        """Whether ``once`` was called with this key."""
        return key in self._memory

    # --------------------------------------------------------------------------------------------------- precisions
    @property
    def native(self) -> Precision:
        """The example in the dtypes that it was given in."""
        return self.once("native", lambda: Precision.native(self.subject, self.point))

    def failure(self) -> Exception | None:
        """The exception that the implementation raises at this point, or None. If it fails, no question applies."""
        found = attempt(lambda: self.native)
        return found.error if isinstance(found, Refusal) else None

    @cached_property
    def _double(self) -> tuple[Precision | None, str | None]:
        """The example in float64, or the reason against it; (None, None) if it is in float64 already."""
        leaves = [self.point.leaves[i] for i in self.point.differentiable]
        if not leaves or all(tolerances.is_double(epsilon(leaf)) for leaf in leaves):
            return None, None
        double = attempt(lambda: Precision.in_double(self.subject, self.point))
        if isinstance(double, Refusal):
            return None, f"the implementation does not run in float64 ({double.why})"
        if not self._is_same_function(double):
            return None, "the implementation gives other values in float64"
        return double, None

    def _is_same_function(self, double: Precision) -> bool:
        """Whether the values in double precision, rounded, agree with those in the example's own dtypes."""
        native, errors = self.value(self.native)
        if double.names != self.native.names or double.shapes != self.native.shapes:
            return False
        rows = zip(native, double.value(), errors, self.native.results, strict=True)
        return all(
            compare.compare(got, self.round_to(truth, leaf), self.grossly(got, n, leaf)).ok
            for got, truth, n, leaf in rows
        )

    def precisions(self, *modes: str) -> tuple[Precision, ...]:
        """The precisions to evaluate in: the example's own, and float64 if the implementation and the rules run there."""
        double = self._double[0]
        if double is None or any(self._refusal_in_double(mode, double) for mode in modes):
            return (self.native,)
        return self.native, double

    def _refusal_in_double(self, mode: str, double: Precision) -> str | None:
        """Why a rule does not run in float64, or None. That does not make it wrong in its own dtypes."""

        def make() -> str | None:
            found = attempt(lambda: self._differentiate(mode, self.wrt(mode), double))
            return f"the {mode} rule does not run in float64 ({found.why})" if isinstance(found, Refusal) else None

        return self.once(("refusal in double", mode), make)

    @property
    def truth(self) -> Precision:
        """The most precise of the precisions; differences of the implementation are taken there."""
        return self.precisions()[-1]

    def precision_note(self, mode: str) -> Answer:
        """A note if the implementation or a rule runs only in the example's own precision."""
        double, why = self._double
        if why is not None:
            yield Note(f"{why}: differences are taken in {self.native.label}, with larger steps")
        refused = None if double is None else self._refusal_in_double(mode, double)
        if refused is not None:
            yield Note(f"{refused}: it is evaluated only in {self.native.label}")

    # ------------------------------------------------------------------------------------------------ what rules take
    def wrt(self, mode: str) -> tuple[int, ...]:
        """The leaves that ``jvp`` or ``vjp`` can differentiate; raises NotAsked if there is none."""
        return self.once(("wrt", mode), lambda: self._wrt(mode))

    def why_not(self, mode: str) -> str | None:
        """Why a derivative rule cannot be checked, or None if it can."""
        try:
            self.wrt(mode)
        except NotAsked as error:
            return str(error)
        return None

    def rules(self) -> Generator[Note, None, list[str]]:
        """Returns the modes (``jvp``, ``vjp``) that can be checked, and yields a note for each other one."""
        asked: list[str] = []
        for mode in ("jvp", "vjp"):
            why = self.why_not(mode)
            if why is None:
                asked.append(mode)
            else:
                yield Note(f"not asked of the {mode} rule: {why}")
        return asked

    def _wrt(self, mode: str) -> tuple[int, ...]:
        """All leaves with tangents, if the rule takes them together; else the leaves that it takes one at a time."""
        why, leaves = self.subject.missing(mode), self.point.differentiable
        if why is not None:
            raise NotAsked(why)
        if not leaves:
            raise NotAsked("no operand has tangents")
        if not self.native.outputs:
            raise NotAsked("no result has tangents")
        found = attempt_rule(lambda: self._differentiate(mode, leaves))
        if not isinstance(found, Refusal):
            return leaves
        alone = tuple(i for i in leaves if len(leaves) > 1 and self._takes_alone(mode, i))
        if not alone:
            raise NotAsked(found.why) from found.error
        return alone

    def _takes_alone(self, mode: str, leaf: int) -> bool:
        return not isinstance(attempt_rule(lambda: self._differentiate(mode, (leaf,))), Refusal)

    def _differentiate(self, mode: str, leaves: tuple[int, ...], precision: Precision | None = None) -> None:
        precision = precision or self.native
        if mode == "jvp":
            precision.jvp({i: self.relative(i) for i in leaves})
        else:
            precision.vjp(self.cotangents(0), leaves)

    # ------------------------------------------------------------------------------------------------------- probes
    def rng(self, *labels: object) -> probes.Stream:
        """The random numbers of one purpose."""
        return probes.stream(self.seed, *labels)

    def relative(self, leaf: int, draw: int = 0) -> Array:
        """A random tangent of one leaf, in its shape, in proportion to its elements."""
        like = self.point.leaves[leaf]
        make = lambda: probes.relative_direction(self.rng("relative", leaf, draw), wide(like))
        return self.once(("relative", leaf, draw), lambda: probes.round_to(make(), like))

    def directions(self, mode: str) -> tuple[Direction, ...]:
        """Two directions in all operands, and one in each operand, which shows whose derivative is wrong."""
        return self.once(("directions", mode), lambda: self._directions(mode))

    def _directions(self, mode: str) -> tuple[Direction, ...]:
        wrt, leaves = self.wrt(mode), self.point.leaves
        even = lambda i: probes.round_to(probes.even_direction(self.rng("even", i), wide(leaves[i])), leaves[i])
        what = "all operands" if len(wrt) > 1 else "".join(self.point.names[i] for i in wrt)
        every = [
            Direction(f"{what}, in proportion to its elements", {i: self.relative(i) for i in wrt}),
            Direction(f"{what}, the same size in every element", {i: even(i) for i in wrt}),
        ]
        alone = [Direction(f"{self.point.names[i]} alone", {i: self.relative(i, probes.ALONE)}) for i in wrt]
        return (*every, *(alone if len(wrt) > 1 else ()))

    def cotangents(self, draw: int) -> list[Array]:
        """A random cotangent of each differentiable result, in its shape."""
        return list(self.once(("cotangents", draw), lambda: [self._cotangent(i, draw) for i in self.native.outputs]))

    def _cotangent(self, result: int, draw: int) -> Array:
        leaf = self.native.results[result]
        return probes.round_to(probes.unit(self.rng("cotangent", result, draw), wide(leaf)), leaf)

    # -------------------------------------------------------------------------------------------------- evaluations
    def differences(self, direction: Direction) -> list[Derivative]:
        """The derivative of each differentiable result along a direction, by differences of the implementation."""
        return self.once(("differences", direction.key), lambda: self.differentiate(direction.tangents))

    def differentiate(self, tangents: Tangents) -> list[Derivative]:
        """Like `differences`, along any tangents: one array per leaf, in its shape."""
        return derivative(lambda step: self.truth.value_along(tangents, step), self.truth.eps, self.accuracy)

    def value(self, precision: Precision) -> tuple[list[Array], list[Array]]:
        """The results of the implementation, and the size of the rounding errors in each."""

        def make() -> tuple[list[Array], list[Array]]:
            found = precision.value()
            return found, self.noise(precision, found, lambda leaves, _: precision.value(leaves), of_rule=False)

        return self.once(("value", precision.double), make)

    def jvp(self, precision: Precision, direction: Direction) -> tuple[JvpResult, list[Array]]:
        """The JVP along a direction, and the size of the rounding errors in each element of each tangent."""

        def make() -> tuple[JvpResult, list[Array]]:
            def again(leaves: Sequence[Any], step: float) -> list[Array]:
                return precision.jvp(self._vary(direction.tangents, step), leaves, self.wrt("jvp")).tangent

            found = precision.jvp(direction.tangents, among=self.wrt("jvp"))
            return found, self.noise(precision, found.tangent, again, of_rule=True)

        return self.once(("jvp", precision.double, direction.key), make)

    def vjp(self, precision: Precision, draw: int) -> tuple[VjpResult, dict[int, Array]]:
        """The VJP of a drawn cotangent, and the size of the rounding errors in each element, by operand leaf."""
        return self.once(("vjp", precision.double, draw), lambda: self.vjp_of(precision, self.cotangents(draw)))

    def vjp_of(self, precision: Precision, cotangents: Sequence[Array]) -> tuple[VjpResult, dict[int, Array]]:
        """Like `vjp`, for any cotangents: one for each differentiable result, in its shape."""
        wrt = self.wrt("vjp")

        def again(leaves: Sequence[Any], step: float) -> list[Array]:
            varied = self._vary(dict(enumerate(cotangents)), step)
            return list(precision.vjp(list(varied.values()), wrt, leaves).cotangent.values())

        found = precision.vjp(cotangents, wrt)
        errors = self.noise(precision, list(found.cotangent.values()), again, of_rule=True)
        return found, dict(zip(wrt, errors, strict=True))

    # ---------------------------------------------------------------------------------------------- rounding errors
    def noise(
        self,
        precision: Precision,
        base: list[Array],
        again: Callable[[Sequence[Any], float], list[Array]],
        *,
        of_rule: bool,
    ) -> list[Array]:
        """The rounding errors of an evaluation, measured over close operands (and tangents or cotangents).

        Args:
            precision: the precision of the evaluation.
            base: the result at the point itself.
            again: evaluates at other leaves; it also gets the step, to vary tangents or cotangents.
            of_rule: whether a rule is evaluated, and not the implementation.
        """
        if of_rule and not self.measures_noise:
            return [np.zeros(leaf.shape) for leaf in base]
        direction = {i: self.relative(i, probes.NOISE) for i in precision.point.differentiable}

        def along(step: float) -> list[Array]:
            with precision.in_effect():
                leaves = list(precision.point.leaves)
                for i, tangent in direction.items():
                    leaves[i] = probes.move(leaves[i], step * tangent)
            found = attempt(lambda: again(leaves, step))
            # A host function may refuse a point outside its domain.
            return [np.full(leaf.shape, np.nan) for leaf in base] if isinstance(found, Refusal) else found

        found = measure_noise(along, precision.eps, tolerances.RULE_SPACING if of_rule else 0.0)
        if of_rule and tolerances.is_double(precision.eps):
            most = tolerances.largest_noise_of_rule(self.working_eps(precision), example_is_coarser=precision.double)
            most = max(most, tolerances.ACCURACY * self.accuracy)
            limits = [most * (np.nan_to_num(np.abs(leaf), posinf=0.0) + peak(leaf)) for leaf in base]
            found = [np.minimum(errors, limit) for errors, limit in zip(found, limits, strict=True)]
        return found

    def _vary(self, numbers: Tangents, step: float) -> dict[int, Array]:
        """Tangents or cotangents that vary smoothly with a step, each element at its own rate."""
        rng = self.rng("varied")
        return {i: n * (1 + step * rng.uniform(0.5, 1.5, n.shape)) for i, n in numbers.items()}

    def working_eps(self, precision: Precision) -> float:
        """The eps that the implementation really works with: float32's, if it computes in float32 inside."""
        return self.once(("eps", precision.double), lambda: self._working_eps(precision))

    def _working_eps(self, precision: Precision) -> float:
        """The largest of the dtypes' eps, the median relative noise and, in the example's own dtypes, the inaccuracy."""
        found = [precision.eps]
        values, errors = self.value(precision)
        for i in precision.outputs:
            size, most = np.abs(values[i]), peak(values[i])
            if most > 0:
                found.append(float(np.median(errors[i] / np.maximum(size, tolerances.CANCELLED * most))))
        measured = max(precision.eps, min(tolerances.COARSEST, max(found)))
        return max(measured, 0.0 if precision.double else self._inaccuracy())

    def _inaccuracy(self) -> float:
        """How far the implementation is off in the example's own dtypes, by its values in double precision."""
        double = self._double[0]
        if double is None:
            return 0.0
        native, truth = self.value(self.native)[0], self.value(double)[0]
        found = [peak(native[i] - truth[i]) / (peak(truth[i]) or np.inf) for i in double.outputs]
        return max(found, default=0.0)

    # --------------------------------------------------------------------------------------------------- tolerances
    def rounding(
        self,
        precision: Precision,
        size: Array | float,
        errors: Array | float = 0.0,
        numbers: Array | float | None = None,
    ) -> Tolerance:
        """The tolerance of numbers computed from terms of this size. A declared accuracy is relative to the numbers."""
        found = tolerances.rounding(size, self.working_eps(precision), precision.tiny, errors)
        return self._declared(size if numbers is None else numbers, found)

    def _declared(self, size: Array | float, tolerance: Tolerance) -> Tolerance:
        if not self.accuracy:
            return tolerance
        return tolerance + tolerances.declared(np.asarray(size), self.accuracy)

    def roughly(self, precision: Precision, size: Array, errors: Array) -> Tolerance:
        """For two formulas that compute numbers of this size from the same inputs: the largest may have cancelled."""
        return self.rounding(precision, np.abs(size) + peak(size), errors, size)

    def closely(self, precision: Precision, size: Array, errors: Array) -> Tolerance:
        """For one formula that computes numbers of this size in another order."""
        return self.rounding(precision, size, errors)

    def strictly(self, size: Array, errors: Array) -> Tolerance:
        """Like `roughly`, with the eps of the example's dtypes: an inaccurate implementation gets no larger tolerance."""
        found = tolerances.rounding(np.abs(size) + peak(size), self.native.eps, self.native.tiny, errors)
        return self._declared(size, found)

    def grossly(self, size: Array, errors: Array, leaf: Any) -> Tolerance:
        """The tolerance that tells an inaccurate implementation from one that computes another function."""
        if not epsilon(leaf):
            return tolerances.exact(size.shape)
        return self.strictly(size, errors) + tolerances.same_function(np.abs(size) + peak(size))

    def value_scale(self, precision: Precision) -> float:
        """The largest finite number in the results. Terms that cancel inside an operation are often of this size."""
        return max(map(peak, self.value(precision)[0]), default=0.0)

    def tangent_scale(self, precision: Precision, tangents: Tangents) -> float:
        """The size of a tangent result y_dot if the operation is of degree one, y ~ x: |y_dot| = |y| |x_dot| / |x|."""
        ratios = [
            float(np.max(np.abs(t), initial=0.0)) / probes.typical(wide(self.point.leaves[i]))
            for i, t in tangents.items()
        ]
        return self.value_scale(precision) * max(ratios, default=0.0)

    @staticmethod
    def round_to(value: Array, like: Any) -> Array:
        """A value of double precision as it arrives in the dtype of ``like``: infinite beyond its range."""
        return compare.overflow(value, largest(like))

    def evidence(
        self,
        rule: str,
        against: str,
        leaf: str,
        got: Array,
        expected: Array,
        tolerance: Tolerance,
        judged: Array | None = None,
    ) -> Evidence:
        """Compare two arrays. Different shapes are bad evidence; integers and booleans must be equal."""
        if np.shape(got) != np.shape(expected):
            message = f"shape {np.shape(got)}, expected {np.shape(expected)}"
            return Evidence(rule, against, leaf, seed=self.seed, message=message, ok=False)
        if got.dtype.kind in "biu" and expected.dtype.kind in "biu":
            tolerance = tolerances.exact(got.shape)
        if self.leeway > 1.0:
            tolerance = tolerances.scaled(tolerance, self.leeway)
        found = compare.compare(got, expected, tolerance, judged)
        numbers = {name: value for name, value in vars(found).items() if name != "ratio"}
        return Evidence(rule, against + self.place, leaf, seed=self.seed, **numbers)
