"""Guess the likely cause of wrong numbers from their pattern. Reports label it as a hint."""

from __future__ import annotations

import cmath
import math
import re
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

# Wrong numbers match a pattern to this relative accuracy, because differences have errors of their own.
CLOSE = 2e-3
# Likely wrong factors: small fractions, and common constants.
LARGEST_FRACTION = 12
# A single number is always near some fraction, so only the simplest fractions count.
LARGEST_FRACTION_OF_ONE = 4
CONSTANTS = {"pi": math.pi, "2 pi": 2 * math.pi, "sqrt(2)": math.sqrt(2), "sqrt(pi)": math.sqrt(math.pi),
             "ln 2": math.log(2)}  # fmt: skip
# Errors of an operation that stops at a tolerance: below a hundredth, and of one size up to two digits.
SMALL, ONE_SIZE = 1e-2, 100.0
_SHAPE = re.compile(r"([\w\[\]'\.]+)=\w+\[([\d,]+)\]")

# The comparison that shows it, and the cause.
OTHER_MEMORY = "a kernel's results in memory that held other numbers"
UNWRITTEN = (
    "the kernel reads a result before it has written it, or leaves out a part of it; write every number, "
    'or give the kernel aliases={"y": "x"} if the result y is to start as the operand x'
)

Number = complex | str | None
Pair = tuple[complex, complex]


def causes(pairs: Sequence[tuple[Number, Number]], example: str) -> Iterator[str]:
    """Explanations that fit all these pairs of a wrong and a right number, the most telling first.

    Args:
        pairs: got and expected, of each comparison that is off.
        example: the example in words, such as ``"x=float32[3]"``: a factor may be the size of an operand.
    """
    numbers = [(g, e) for g, e in pairs if not isinstance(g, str | None) and not isinstance(e, str | None)]
    if not numbers:
        return
    if any(cmath.isnan(g) and not cmath.isnan(e) for g, e in numbers):
        yield "a nan: 0/0, inf - inf or 0 * inf in the rule; choose a safe operand with `where` before dividing"
        return
    for cause in (_factor, _conjugate, _constant, _inaccurate):
        said = cause(numbers, example)
        if said is not None:
            yield said
            return


def _factor(pairs: Sequence[Pair], example: str) -> str | None:
    """Hint: all numbers are wrong by the same factor."""
    quotients = [g / e for g, e in pairs if e]
    if len(quotients) < len(pairs):
        return None
    first = quotients[0]
    if not all(_close(q, first) for q in quotients):
        return None
    if _close(first, 1):
        return None
    if not abs(first):
        return "all values are zero: a term is missing, or the rule returned None or a Zero where it should not"
    several = _several(pairs)
    return _named_factor(first, example, LARGEST_FRACTION if several else LARGEST_FRACTION_OF_ONE) or (
        _scalar(first) if several else None
    )


def _several(pairs: Sequence[Pair]) -> bool:
    """Whether the pairs hold different numbers. (One number may appear in two precisions and several batches.)"""
    return any(not _close(e, pairs[0][1]) for _, e in pairs)


def _scalar(factor: complex) -> str:
    """Hint: any other factor, if several numbers share it."""
    shown = factor if factor.imag else factor.real
    return f"every wrong number is {shown:.6g} times the expected one: look for a wrong scalar in the rule"


def _named_factor(factor: complex, example: str, largest: int) -> str | None:
    if _close(factor, -1):
        return "the sign is wrong: every number is minus the expected one"
    if abs(factor.imag) > CLOSE * abs(factor):
        return _turned(factor)
    real = factor.real
    for name, shape in _SHAPE.findall(example):
        size = math.prod(int(n) for n in shape.split(",") if n)
        if size > 1 and (_close(real, size) or _close(real, 1 / size)):
            if real > 1:
                return f"factor {size}, and {name} has {size} elements: a sum where a mean belongs, or a term counted once per element"
            return f"factor 1/{size}, and {name} has {size} elements: a mean where a sum belongs"
    fraction = Fraction(real).limit_denominator(largest)
    if fraction and abs(fraction.numerator) <= largest and _close(real, float(fraction)):
        return f"factor {fraction}: every number is {fraction} times the expected one"
    for name, constant in CONSTANTS.items():
        if _close(abs(real), constant) or _close(abs(real), 1 / constant):
            return f"factor {'-' * (real < 0)}{name if _close(abs(real), constant) else f'1/({name})'}"
    return None


def _turned(factor: complex) -> str | None:
    name = next((name for name, turn in (("i", 1j), ("-i", -1j)) if _close(factor, turn)), None)
    return f"factor {name}: every number is {name} times the expected one" if name is not None else None


def _conjugate(pairs: Sequence[Pair], _: str) -> str | None:
    """Hint: a common mistake in complex numbers."""
    if not any(isinstance(e, complex) and e.imag for _, e in pairs):
        return None
    patterns: dict[str, Callable[[complex], complex]] = {
        "the complex conjugate of the expected value: one conj() too many or too few (JAX's transpose does not conjugate)": (
            lambda e: e.conjugate()
        ),
        "the imaginary part is missing": lambda e: e.real,
        "the real part is missing": lambda e: 1j * e.imag,
    }
    for said, wrong in patterns.items():
        if all(_close(g, wrong(complex(e))) for g, e in pairs):
            return said
    return None


def _constant(pairs: Sequence[Pair], _: str) -> str | None:
    """Hint: all numbers are off by the same term, so the rule is affine."""
    terms = [g - e for g, e in pairs]
    if not _several(pairs) or not all(_close(t, terms[0]) for t in terms):
        return None
    return f"every number is off by the same {terms[0]:.3g}: a term is added that does not depend on the input"


def _inaccurate(pairs: Sequence[Pair], _: str) -> str | None:
    """Hint: all errors are small and of about one size, as those of an iterative solver are."""
    errors = [abs(g - e) / abs(e) for g, e in pairs if e and g != e]
    if len(errors) < len(pairs) or not _several(pairs) or max(errors) > SMALL or max(errors) > ONE_SIZE * min(errors):
        return None
    size = 10.0 ** math.ceil(math.log10(max(errors)))
    return f"every error is below {size:.0e} of the number: if the operation is only that accurate, say accuracy={size:.0e}"


def _close(one: complex, other: complex) -> bool:
    return abs(one - other) <= CLOSE * abs(other)
