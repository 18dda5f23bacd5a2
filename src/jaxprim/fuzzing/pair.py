"""An operation and its reference. Wrapped in the same layers, they must give the same result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim import _jax
from jaxprim._errors import BadCall, message
from jaxprim.checking.answers import Refusal, attempt, attempt_rule
from jaxprim.checking.case import Case
from jaxprim.checking.precision import Precision
from jaxprim.checking.reports.findings import number
from jaxprim.checking.run import describe_exception
from jaxprim.checking.subject import Subject
from jaxprim.checking.values import Array, peak, wide
from jaxprim.fuzzing.layers import Function, Nest, nest_around

# Derivatives of derivatives amplify roundings. Numbers may differ by eps^0.6 in units of the largest: by 4e-10 in float64
# and 7e-5 in float32, which leaves six digits to amplification in the one and three in the other.
POWER = 0.6
# They may also differ by 50 times the effect of changing all operands by 4 eps, that is, of 200 roundings of each operand.
NOISE = 50.0
# The calls of code that JAX cannot look into: those of JAX itself, and that of a kernel of `jaxprim.kernels`.
_FOREIGN = _jax.words.OPAQUE | {"kernel_call"}


class Refused(Exception):
    """A nest that cannot be run: JAX refuses it for any function, or a rule is missing. The text is the reason."""


@dataclass(frozen=True)
class Failure:
    """A failing nest.

    Attributes:
        nest: the layers, the outermost first.
        example: the operands, such as ``"x=float32[3]"``.
        number: the number of the example, from 1.
        what: an exception, or the numbers that differ.
    """

    nest: Nest
    example: str
    number: int
    what: str


class Pair:
    """An operation and a reference as functions of the same arrays, in double precision where both run there."""

    def __init__(self, case: Case, number: int) -> None:
        self.label, self.number = case.label, number
        self.op, self.reference = _precisions(case)
        point = self.op.point
        self.wrt = point.differentiable
        if not self.wrt or not self.op.outputs:
            raise BadCall(
                message(
                    f"{case.subject.name}: no nest can be built around it.",
                    got=f"operands {case.label}",
                    expected="real or complex numbers as an operand, and as a result",
                )
            )

    def ask(self, nest: Nest) -> Failure | None:
        """Compare the two in a nest. Raises Refused if that is not possible."""
        with self.op.in_effect():
            xs = [jnp.asarray(self.op.point.leaves[i]) for i in self.wrt]
            expected = self._expected(nest, xs)
            try:
                got = attempt_rule(lambda: self._run(self.op, nest, xs))
            except Exception as error:  # noqa: BLE001 - any exception of the operation in a nest is a failure
                return self._failure(nest, describe_exception(error))
            if isinstance(got, Refusal):
                raise Refused(got.why) from got.error
            what = self._difference(nest, xs, got, expected)
        return None if what is None else self._failure(nest, what)

    def _failure(self, nest: Nest, what: str) -> Failure:
        return Failure(nest, self.label, self.number, what)

    def _expected(self, nest: Nest, xs: Sequence[Any]) -> list[Any]:
        found = attempt(lambda: self._run(self.reference, nest, xs))
        if isinstance(found, Refusal):
            raise Refused(f"the reference raises: {found.why}") from found.error
        return found

    def _run(self, precision: Precision, nest: Nest, xs: Sequence[Any]) -> list[Any]:
        found = nest_around(nest, self._function(precision))(*xs)
        return jax.block_until_ready(jax.tree_util.tree_leaves(found))

    def _function(self, precision: Precision) -> Function:
        of_some = precision.of(precision.point.leaves, self.wrt)

        def function(*xs: Any) -> list[Any]:
            results = of_some(*xs)
            return [results[i] for i in precision.outputs]

        return function

    def _difference(self, nest: Nest, xs: Sequence[Any], got: list[Any], expected: list[Any]) -> str | None:
        """The difference in words, or None."""
        types = [[(str(leaf.dtype), leaf.shape) for leaf in leaves] for leaves in (got, expected)]
        if types[0] != types[1]:
            return f"types {_types(got)}, expected {_types(expected)}"
        wrong = self._off(got, expected, [np.zeros(leaf.shape) for leaf in expected])
        return wrong and self._off(got, expected, self._noise(nest, xs, got, expected))

    def _off(self, got: list[Any], expected: list[Any], noise: list[Array]) -> str | None:
        for position, (g, e, n) in enumerate(zip(map(wide, got), map(wide, expected), noise, strict=True)):
            with np.errstate(all="ignore"):
                off = ~(np.abs(g - e) <= self.op.eps**POWER * peak(e) + NOISE * n) & np.isfinite(e)
            if np.any(off):
                index = tuple(int(i) for i in np.argwhere(off)[0])
                where = f"result[{position}]" + (f"[{','.join(map(str, index))}]" if index else "")
                count = f"{np.count_nonzero(off)} of {off.size} elements are off"
                return f"at {where} ({count}): got {number(g[index].item())}, expected {number(e[index].item())}"
        return None

    def _noise(self, nest: Nest, xs: Sequence[Any], got: list[Any], expected: list[Any]) -> list[Array]:
        """The effect of a few roundings of the operands on the results of both."""
        found = [np.zeros(leaf.shape) for leaf in expected]
        for sign in (1, -1):
            moved = [(x * (1 + sign * 4 * self.op.eps)).astype(x.dtype) for x in xs]
            for precision, base in ((self.op, got), (self.reference, expected)):
                other = self._run(precision, nest, moved)
                found = [np.maximum(f, np.abs(wide(o) - wide(b))) for f, o, b in zip(found, other, base, strict=True)]
        return [np.nan_to_num(f, posinf=0.0) for f in found]


def _types(leaves: Sequence[Any]) -> str:
    return ", ".join(f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]" for leaf in leaves)


def _precisions(case: Case) -> tuple[Precision, Precision]:
    """The operation and the reference at the case's operands, in double precision if they agree there.

    An operation that computes in float32 inside, or that has a float32 constant, is compared in its own dtypes.
    """
    reference = Subject(f"reference of {case.subject.name}", reference_of(case.subject))
    native = Precision.native(reference, case.point)
    if case.subject.reference is None and (code := _foreign_code(native)) is not None:
        raise _no_reference(case.subject, f"an impl that is no JAX ({code}): it would be compared with itself")
    if case.truth.double:
        exact = attempt(lambda: Precision.in_double(reference, case.point))
        if not isinstance(exact, Refusal) and _agree(case.truth, exact):
            return case.truth, exact
    return case.native, native


def _foreign_code(impl: Precision) -> str | None:
    """The call of a kernel or a host function in an implementation, for which JAX has no rules of its own."""
    program = jax.make_jaxpr(impl.flat)(*impl.point.leaves)
    return next((name for name in sorted(_FOREIGN) if _jax.uses(program, name)), None)


def _agree(op: Precision, other: Precision) -> bool:
    pairs = list(zip(map(wide, op.results), map(wide, other.results), strict=False))
    close = op.eps**POWER
    return len(op.results) == len(other.results) and all(
        g.shape == e.shape and np.allclose(g, e, rtol=close, atol=close * peak(e), equal_nan=True) for g, e in pairs
    )


def reference_of(subject: Subject) -> Callable[..., Any]:
    """The reference of an operation: the given one, or the traceable implementation of a primitive."""
    if subject.surrogate is not None:
        raise BadCall(
            message(
                f"{subject.name}: no reference has the same derivative.",
                got=f"a VJP rule that departs from the derivative: {subject.surrogate}",
                expected="an operation whose rules are its derivatives",
            )
        )
    if subject.reference is not None:
        return subject.reference
    if subject.impl is None:
        raise _no_reference(subject, "no traceable impl, and no reference")
    return subject.impl


def _no_reference(subject: Subject, got: str) -> BadCall:
    return BadCall(
        message(
            f"{subject.name}: there is nothing to compare it with.",
            got=got,
            expected="the same function in JAX, which JAX differentiates by itself",
            write=f"jaxprim.fuzz({subject.name}, ..., reference=function)  # or: jaxprim fuzz FILE:{subject.name} --reference FUNCTION",
        )
    )
