"""One example of one subject, with everything that several questions need, worked out once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxprim.checking import compare, draw, numeric, probes
from jaxprim.checking.compare import Tolerance
from jaxprim.checking.precision import Point, Precision, Pulled, Pushed, Tangents
from jaxprim.checking.reports.report import Evidence
from jaxprim.checking.setting import Answer, Direction, Note, Setting
from jaxprim.checking.subject import Subject, first_line
from jaxprim.checking.values import Array, epsilon, peak, wide

# No arithmetic is coarser than bfloat16's; what looks coarser is a function that is wild at this point.
COARSEST = 2.0**-7
# An implementation may be this inaccurate in float32 and still be the same function in float64.
GROSS = 0.01
# In double precision a rule may be 1000 times noisier than its implementation, or lose six digits by cancellation; or be
# as noisy as float32, if the example is not in double precision itself. What is noisier computes in a coarser dtype, and
# its noise is its error.
SINGLE = 2.0**-23
LOST = 2.0**-33
RULE_SPACING = 2.0**-14
# What turns an operand off the real axis.
TURN = 0.3j


class Case(Setting):
    """A setting whose evaluations are remembered, each with the size of its rounding errors."""

    # Where a case lies that is not the example itself; evidence says so.
    place = ""

    @staticmethod
    def of(subject: Subject, operands: tuple[Any, ...], params: Mapping[str, Any], seed: int, number: str = "") -> Case:
        """The case of one example; operands that are given as types are drawn."""
        operands, params = subject.split(operands, params)
        subject, operands = subject.closed(operands)
        return Case(subject, Point.of(subject, draw.drawn(operands, seed), params), seed, number)

    # ------------------------------------------------------------------------------------------------- precisions
    @cached_property
    def _double(self) -> tuple[Precision | None, str | None]:
        leaves = [self.point.leaves[i] for i in self.point.differentiable]
        if not leaves or all(epsilon(leaf) < numeric.DOUBLE for leaf in leaves):
            return None, None
        try:
            precision = Precision.in_double(self.subject, self.point)
        except Exception as error:  # noqa: BLE001 - a kernel for float32 alone may fail in any way it likes
            return None, f"the implementation does not run in float64 ({first_line(error)})"
        if not self._agree(precision):
            return None, "the implementation gives other values in float64"
        return precision, None

    def _agree(self, double: Precision) -> bool:
        """Whether the values in double precision are those of the example's own dtypes, before rounding."""
        native, noise = self.value(self.native)
        if double.names != self.native.names or [r.shape for r in double.results] != [
            r.shape for r in self.native.results
        ]:
            return False
        pairs = zip(native, double.value(), noise, self.native.results, strict=True)
        return all(
            compare.compare(got, self.fits(truth, leaf), self.grossly(got, n, leaf)).ok for got, truth, n, leaf in pairs
        )

    def grossly(self, size: Array, noise: Array, leaf: Any) -> Tolerance:
        """What tells an inaccurate implementation from one that computes something else."""
        if not epsilon(leaf):
            return compare.exact(size.shape)
        gross = GROSS * (np.abs(size) + peak(size))
        return self.strictly(size, noise) + Tolerance(gross, f"{GROSS:g} of the value")

    def precisions(self, *modes: str) -> tuple[Precision, ...]:
        """The precisions to ask rules in: that of the example, and float64 where implementation and rules run there."""
        double = self._double[0]
        if double is None or any(self._refusal_in_double(mode, double) for mode in modes):
            return (self.native,)
        return self.native, double

    def _refusal_in_double(self, mode: str, double: Precision) -> str | None:
        """Why a rule does not run in float64, which does not make it wrong in its own dtypes."""

        def make() -> str | None:
            try:
                self._differentiate(mode, self.wrt(mode), double)
            except Exception as error:  # noqa: BLE001 - a rule for float32 alone may fail in any way it likes
                return f"the {mode} rule does not run in float64 ({first_line(error)})"
            return None

        return self.once(("refusal in double", mode), make)

    @property
    def truth(self) -> Precision:
        """The most precise precision: its implementation gives the differences."""
        return self.precisions()[-1]

    def precision_note(self, mode: str) -> Answer:
        """Says so when the implementation or a rule could be asked in the example's own precision alone."""
        double, why = self._double
        if why is not None:
            yield Note(f"{why}: differences are taken in {self.native.label}, with larger steps")
        refused = None if double is None else self._refusal_in_double(mode, double)
        if refused is not None:
            yield Note(f"{refused}: it is asked in {self.native.label} alone")

    def elsewhere(self, leaves: Sequence[Any], place: str, params: Mapping[str, Any] | None = None) -> Case:
        """The case of other operands, or other static params; evidence says which."""
        params = self.point.params if params is None else params
        other = Case(self.subject, replace(self.point, leaves=tuple(leaves), params=params), self.seed, self.number)
        other.place = f", {place}"
        return other

    def places(self) -> list[Case]:
        """This case; and if it lies on the real axis of a complex operand, also one beside it, where conj(z) is not z."""
        return self.once("places", lambda: [self, *self._turned()])

    def _turned(self) -> list[Case]:
        leaves = list(self.point.leaves)
        real = [
            i
            for i in self.point.differentiable
            if np.iscomplexobj(wide(leaves[i])) and not np.any(np.imag(wide(leaves[i])))
        ]
        if not real:
            return []
        for i in real:
            leaves[i] = probes.moved(leaves[i], TURN * wide(leaves[i]))
        turned = self.elsewhere(leaves, "turned off the real axis")
        try:
            finite = all(np.all(np.isfinite(value)) for value in turned.value(turned.native)[0])
        except Exception:  # noqa: BLE001 - a host function may refuse a point beyond its domain
            return []
        return [turned] if finite else []

    # -------------------------------------------------------------------------------------------------- evaluations
    def differences(self, direction: Direction) -> list[numeric.Derivative]:
        """The derivative of each differentiable result along a direction, from the implementation alone."""
        return self.once(("differences", direction.key), lambda: self.differentiate(direction.tangents))

    def differentiate(self, tangents: Tangents) -> list[numeric.Derivative]:
        """The same along any tangents."""
        return numeric.derivative(lambda step: self.truth.value_along(tangents, step), self.truth.eps)

    def value(self, precision: Precision) -> tuple[list[Array], list[Array]]:
        """The results of the implementation, and the size of the rounding errors in each."""

        def make() -> tuple[list[Array], list[Array]]:
            found = precision.value()
            return found, self.noise(precision, found, lambda leaves, _: precision.value(leaves), of_rule=False)

        return self.once(("value", precision.double), make)

    def pushed(self, precision: Precision, direction: Direction) -> tuple[Pushed, list[Array]]:
        """The JVP along a direction, and the size of the rounding errors in each element."""

        def make() -> tuple[Pushed, list[Array]]:
            def again(leaves: Sequence[Any], step: float) -> list[Array]:
                return precision.jvp(self._varied(direction.tangents, step), leaves).tangent

            pushed = precision.jvp(direction.tangents)
            return pushed, self.noise(precision, pushed.tangent, again, of_rule=True)

        return self.once(("pushed", precision.double, direction.key), make)

    def pulled(self, precision: Precision, draw: int) -> tuple[Pulled, dict[int, Array]]:
        """The VJP along a cotangent, and the size of the rounding errors in each element."""
        return self.once(("pulled", precision.double, draw), lambda: self.pull(precision, self.cotangents(draw)))

    def pull(self, precision: Precision, cotangents: Sequence[Array]) -> tuple[Pulled, dict[int, Array]]:
        """The same along any cotangents."""
        wrt = self.wrt("vjp")

        def again(leaves: Sequence[Any], step: float) -> list[Array]:
            varied = self._varied(dict(enumerate(cotangents)), step)
            return list(precision.vjp(list(varied.values()), wrt, leaves).cotangent.values())

        pulled = precision.vjp(cotangents, wrt)
        noise = self.noise(precision, list(pulled.cotangent.values()), again, of_rule=True)
        return pulled, dict(zip(wrt, noise, strict=True))

    def noise(
        self,
        precision: Precision,
        base: list[Array],
        again: Callable[[Sequence[Any], float], list[Array]],
        *,
        of_rule: bool,
    ) -> list[Array]:
        """The rounding errors of an evaluation, measured over close operands (and tangents or cotangents)."""
        direction = {i: self.relative(i, 2) for i in precision.point.differentiable}

        def along(step: float) -> list[Array]:
            with precision.in_effect():
                leaves = [
                    probes.moved(leaf, step * direction[i]) if i in direction else leaf
                    for i, leaf in enumerate(precision.point.leaves)
                ]
            try:
                return again(leaves, step)
            except Exception:  # noqa: BLE001 - a host function may refuse a point beyond its domain
                return [np.full(leaf.shape, np.nan) for leaf in base]

        # The error of p (t - sum(p t)) at p = 1 - 1e-9 is a step that a change of t by 1e-10 does not take.
        found = numeric.noise(along, precision.eps, RULE_SPACING if of_rule else 0.0)
        if of_rule and precision.eps < numeric.DOUBLE:
            most = max(SINGLE if precision.double else LOST, 1e3 * self.working_eps(precision))
            limits = [most * (np.nan_to_num(np.abs(leaf), posinf=0.0) + peak(leaf)) for leaf in base]
            found = [np.minimum(noise, limit) for noise, limit in zip(found, limits, strict=True)]
        return found

    def _varied(self, numbers: Tangents, step: float) -> dict[int, Array]:
        """Tangents or cotangents that vary smoothly with a step, each element at its own rate."""
        rng = self.rng("varied")
        return {i: n * (1 + step * rng.uniform(0.5, 1.5, n.shape)) for i, n in numbers.items()}

    def working_eps(self, precision: Precision) -> float:
        """The rounding that the implementation really works with: float32's, if it computes in float32 inside."""
        return self.once(("eps", precision.double), lambda: self._working_eps(precision))

    def _working_eps(self, precision: Precision) -> float:
        found = [precision.eps]
        values, noise = self.value(precision)
        for i in precision.outputs:
            size, most = np.abs(values[i]), peak(values[i])
            if most > 0:
                found.append(float(np.median(noise[i] / np.maximum(size, 1e-3 * most))))
        return max(precision.eps, min(COARSEST, max(found)), 0.0 if precision.double else self._inaccuracy())

    def _inaccuracy(self) -> float:
        """How far the implementation is off in the example's own dtypes, by its values in double precision."""
        double = self._double[0]
        if double is None:
            return 0.0
        native, truth = self.value(self.native)[0], self.value(double)[0]
        found = [peak(native[i] - truth[i]) / (peak(truth[i]) or np.inf) for i in double.outputs]
        return max(found, default=0.0)

    # --------------------------------------------------------------------------------------------------- tolerances
    def roughly(self, precision: Precision, size: Array, noise: Array) -> Tolerance:
        """What numbers of this size may be off by when two formulas compute them from the same inputs."""
        return compare.rounding(np.abs(size) + peak(size), self.working_eps(precision), precision.tiny, noise)

    def strictly(self, size: Array, noise: Array) -> Tolerance:
        """The same by the example's own dtypes: what the implementation is off beyond them excuses nothing."""
        return compare.rounding(np.abs(size) + peak(size), self.native.eps, self.native.tiny, noise)

    def closely(self, precision: Precision, size: Array, noise: Array) -> Tolerance:
        """What numbers of this size may be off by when one formula computes them in another order."""
        return compare.rounding(size, self.working_eps(precision), precision.tiny, noise)

    def value_scale(self, precision: Precision) -> float:
        """The largest finite number in the results: what cancels inside an operation is often of this size."""
        return max(map(peak, self.value(precision)[0]), default=0.0)

    def tangent_scale(self, precision: Precision, tangents: Tangents) -> float:
        """The size of a tangent result if the operation is of degree one: that of the results, times |t| / |x|."""
        ratios = [
            float(np.max(np.abs(t), initial=0.0)) / probes.typical(wide(self.point.leaves[i]))
            for i, t in tangents.items()
        ]
        return self.value_scale(precision) * max(ratios, default=0.0)

    @staticmethod
    def fits(value: Array, like: Any) -> Array:
        """A value of double precision as it arrives in the dtype of ``like``: infinite beyond its range."""
        return compare.fits(value, float(jnp.finfo(jnp.result_type(like)).max) if epsilon(like) else np.inf)

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
        """Compare two arrays, as evidence. Arrays of two shapes do not agree."""
        if np.shape(got) != np.shape(expected):
            message = f"shape {np.shape(got)}, expected {np.shape(expected)}"
            return Evidence(rule, against, leaf, seed=self.seed, message=message, ok=False)
        if got.dtype.kind in "biu" and expected.dtype.kind in "biu":
            tolerance = compare.exact(got.shape)
        found = compare.compare(got, expected, tolerance, judged)
        return Evidence(
            rule=rule,
            against=against + self.place,
            leaf=leaf,
            index=found.index,
            got=found.got,
            expected=found.expected,
            error=found.error,
            tolerance=found.tolerance,
            why=found.why,
            seed=self.seed,
            judged=found.judged,
            bad=found.bad,
            ok=found.ok,
        )
