"""The instantiations of a C++ template that compute its derivatives, as signatures.

`F(m)` is the author's function y = f(x) over numbers of order m, and `P(m)` its pullback f'(x)^T y_bar over them. A number
of order m is a polynomial in m letters whose squares are 0. Its 2^m components are numbered by bit masks, and stand in
arrays of their own:

    x0 + x1 a            the value x0 and a tangent x1                      order 1
    x0 + x1 a + x2 b + x3 a b                                               order 2

Both families are closed. The derivative of either along x_dot is the same family with one letter more, since
f(x + x_dot b) = f(x) + f'(x) x_dot b. `derivatives` has the transposes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from jaxprim.kernels.signature import Array, Attribute, KernelSignature

# Attributes of a derived call. Bit k of the first says that the k-th array is not read: all its numbers are 0. Bit k of the
# second says that the k-th operand that moves is constant, so that its cotangent is not wanted.
ZEROS, STILL = "jaxprim_zeros", "jaxprim_still"
BITS = 63
FEW = 32  # numbers in all operands of an element, up to which a pullback takes that many tangents at once
REALS = ("f32", "f64")
NOT_REAL = {"c64": "complex", "c128": "complex", "f16": "half precision", "bf16": "half precision"}


@dataclass(frozen=True)
class Part:
    """One array of a derived call.

    Attributes:
        is_cotangent: whether it belongs to the cotangent of a result, or else to an operand.
        index: the place of that result or operand in the author's signature.
        component: which component of its numbers it has.
    """

    is_cotangent: bool
    index: int
    component: int


@dataclass(frozen=True)
class Instantiation:
    """One member of the families.

    Attributes:
        signature: the author's, without type variables.
        is_pullback: whether it is P, or else F.
        order: the order m of its numbers.
        wanted: the components that it gives of each result (F), or of each operand's cotangent (P).
        by_tape: whether a pullback records a tape, or else takes all tangents at once.
        lanes: how many elements run at once that differ in the components with the highest bit alone.
    """

    signature: KernelSignature
    is_pullback: bool
    order: int
    wanted: tuple[int, ...]
    by_tape: bool
    lanes: int = 1

    @property
    def full(self) -> int:
        """The component with all letters."""
        return 2**self.order - 1

    @cached_property
    def moving(self) -> tuple[int, ...]:
        """The operands that have tangents."""
        return _reals(self.signature.operands)

    @cached_property
    def results(self) -> tuple[int, ...]:
        """The results that have tangents."""
        return _reals(self.signature.results)

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The operands of the derived call."""
        moving = set(self.moving)
        operands = [
            Part(False, index, component)
            for index in range(len(self.signature.operands))
            for component in range(2**self.order if index in moving else 1)
        ]
        cotangents = [
            Part(True, index, component)
            for index in self.results * self.is_pullback
            for component in range(2**self.order)
        ]
        return (*operands, *cotangents)

    @property
    def outputs(self) -> tuple[Part, ...]:
        """The results of the derived call."""
        of = self.moving if self.is_pullback else self.results
        return tuple(Part(not self.is_pullback, index, component) for index in of for component in self.wanted)

    def array(self, part: Part) -> Array:
        """The author's array that a part belongs to."""
        return (self.signature.results if part.is_cotangent else self.signature.operands)[part.index]

    @cached_property
    def derived(self) -> KernelSignature:
        """The signature of the derived call."""
        rows = [self.array(part) for part in (*self.parts, *self.outputs)]
        named = [
            replace(row, name=f"{row.name}_{place}", batched=True, by_value=False) for place, row in enumerate(rows)
        ]
        count = len(self.parts)
        masks = [Attribute(ZEROS, "i64"), *[Attribute(STILL, "i64")] * self.is_pullback]
        return KernelSignature(
            self.signature.function,
            tuple(named[:count]),
            (*self.signature.attributes, *masks),
            tuple(named[count:]),
            several=True,
        )

    @property
    def name(self) -> str:
        """What it is called in programs: ``f_jvp``, ``f_vjp``, ``f_vjp_jvp``."""
        return "_".join([self.signature.function or "kernel", *["vjp"] * self.is_pullback, *["jvp"] * self.order])

    @property
    def degree(self) -> int:
        """Which derivative it is: the first, the second."""
        return self.order + self.is_pullback


def _reals(rows: Sequence[Array]) -> tuple[int, ...]:
    return tuple(index for index, row in enumerate(rows) if row.dtype in REALS)


def has_derivatives(signature: KernelSignature) -> bool:
    """Whether a signature without type variables has real numbers of one type, and none that no template takes."""
    operands, results = ({row.dtype for row in rows} for rows in (signature.operands, signature.results))
    kinds = (operands | results) & set(REALS)
    return len(kinds) == 1 and kinds <= operands & results and not (operands | results) & set(NOT_REAL)


def count_of(signature: KernelSignature) -> int | None:
    """How many real numbers the operands of an element have; None if the signature does not say."""
    rows = [row for row in signature.operands if row.dtype in REALS or row.dtype in signature.variables]
    if not all(dim.isdigit() for row in rows for dim in row.dims):
        return None
    return sum(map(size_of, rows))


def size_of(array: Array) -> int:
    """How many numbers an array has, of a signature that says it."""
    return math.prod(map(int, array.dims))


def canonical(wanted: Sequence[int], order: int) -> tuple[int, ...]:
    """The components of an instantiation that has the wanted ones: few sets of them, so that few libraries are compiled."""
    full = 2**order - 1
    top = 2**order // 2
    if set(wanted) == {full}:
        return (full,)
    return tuple(range(top if all(component >= top for component in wanted) else 0, 2**order))


def up_to(signature: KernelSignature, by_tape: bool, degree: int) -> list[Instantiation]:
    """What derivatives up to a degree need, in every mix of forward and reverse mode."""
    forward = [(False, order, (2**order - 1,)) for order in range(1, degree + 1)]
    reverse = [(True, order, (2**order - 1,)) for order in range(degree)]
    both = [(way, order, tuple(range(2**order // 2, 2**order))) for order in range(2, degree) for way in (False, True)]
    whole = [(True, order, tuple(range(2**order))) for order in range(1, degree - 1)]
    rows = dict.fromkeys([*forward, *reverse, *both, *whole])
    return [Instantiation(signature, way, order, wanted, by_tape) for way, order, wanted in rows]
