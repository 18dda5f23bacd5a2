"""All tolerances of the checker, with their reasons.

eps is the spacing of numbers near 1 in a dtype: 2^-52 for float64, 2^-23 for float32, 2^-10 for float16, 2^-7 for
bfloat16. A tolerance has one number per element, so it does not depend on the size of the array.

There are two kinds. `rounding` is for two ways to compute one number from the same inputs: they differ by roundings.
`differences` is for a derivative against differences of the implementation, whose error is estimated, not known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxprim.checking.values import Array

# ------------------------------------------------------------------------------------------------------------ roundings
# A correct rule may be off by this many roundings of its dtype, plus the effect of rounded inputs (the noise).
# A formula of n operations is off by up to n eps / 2, and by about sqrt(n) eps / 2 if its roundings are independent. So
# 32 eps allow 64 operations that all round in one direction, or 4096 independent ones. In float32 that is 4e-6 of the
# value: a wrong factor or sign is larger by many powers of ten.
ROUNDINGS = 32.0
# Numbers below the smallest normal one, which XLA flushes to zero, that a formula may lose in an intermediate step.
FLUSHED = 8.0
# An operation in half precision is compared with itself in float64 more strictly: 32 roundings of bfloat16 would be a
# quarter of the value. 8 allow 16 operations in one direction, or 256 independent ones.
HALF_PRECISION_ROUNDINGS = 8.0
# Two terms of a tangent may cancel. Each has been rounded by itself: two roundings of their size.
CANCELLING_TERMS = 2.0

# ------------------------------------------------------------------------------------------------------ declared accuracy
# An operation that is accurate to a, relative to its largest element, is compared with another number that is as
# inaccurate: together 2 a. A factor 2 is left for a rule that uses the operation twice. A rule that is wrong by 10 a fails.
ACCURACY = 4.0

# ----------------------------------------------------------------------------------------------------------- precisions
# An eps below this is double precision: between float64's 2.2e-16 and float32's 1.2e-7.
DOUBLE = 1e-12
FLOAT32_EPS = 2.0**-23
# Arithmetic is never coarser than bfloat16's. What looks coarser is a function that is wild at this point, and must not
# excuse a wrong rule.
COARSEST = 2.0**-7

# ------------------------------------------------------------------------------------------------ the same function?
# An implementation may be off by 1 % in float32 and still be the same function in float64: it has then lost five of its
# seven digits (1.2e-7 x 1e5) by cancellation, as (1 - cos x) / x^2 does near 0. A different function is off by more somewhere.
SAME_FUNCTION = 0.01
# Elements that have cancelled below a thousandth of the largest say nothing about the dtype that an implementation
# computes in: their relative noise is large in any dtype.
CANCELLED = 1e-3

# ------------------------------------------------------------------------------------------------------- noise of a rule
# In double precision a rule may be 1000 times as noisy as its implementation (three digits), or lose six digits by
# cancellation (2^-52 x 2^19, which is 5e5). If the example is not in double precision, it may be as noisy as
# float32, which its users get anyway. More noise than any of these means a coarser dtype inside, which is an error.
NOISIER_THAN_IMPLEMENTATION = 1e3
SIX_DIGITS_LOST = 2.0**-33
# The points at which the noise of a rule is measured are at least this far apart, relative to the operands. Closer ones
# all have the same error where a rule cancels: p (t - sum(p t)) at p = 1 - 1e-9 is off by a step function of t, whose
# steps are wider than eps^(2/3) = 4e-11, the spacing for an implementation.
RULE_SPACING = 2.0**-14

# ---------------------------------------------------------------------------------------------------------- differences
# How much worse than its estimate a difference may be. The estimate is the larger of an entry's distances to the two
# that it was made of. For independent errors of deviation s, one such distance is N(0, 2 s^2), and below s / 8 in 7 % of
# elements; both are in about 0.5 %. So an estimate is rarely too small by more than 8.
SAFETY = 8.0
# The relative error below which differences in double precision are not trusted, whatever their error estimate: an
# iterative solver is accurate to its own tolerance, so a rule for the exact solution differs from differences by that.
SOLVERS = 1e-6
# A central difference over h is off by h^2 |f'''| / 6 + eps |f| / h. The best h is about eps^(1/3), where both are about
# eps^(2/3). 4 times that leaves room for f''' and for operands and results of other sizes than 1.
BEST_DIFFERENCE = 4.0
# A second derivative that is less than a thousandth of its usual size (see `second_order._Rules.scale`) is what is left
# when rounded numbers cancel, as 1 - tanh(20)^2 is: the floor of differences is then taken of that thousandth.
SHARE_OF_SCALE = 1e-3
# Two derivatives along t and i t that differ from a factor i by more than this mean that the function is not
# holomorphic: 1000 times the floor of differences in double precision, so that noise is not mistaken for this.
HOLOMORPHIC = 1e-3

# -------------------------------------------------------------------------------------------------- range of a dtype
# Beyond this part of the largest number, a rule may overflow although its result does not: it multiplies several factors,
# and the first product may be larger than the last. So may one with a partial derivative near the end of the range, as that
# of 1/x at 1e-25 is in float32, even if its product with the tangent is not.
IN_RANGE = 2.0**-4

# ------------------------------------------------------------------------------------------------------ drawn points
# At a point that the author did not choose, a right operation may be badly conditioned, and the estimates of its errors may
# be too small. A rule that is only right near the example is off by far more than 32 tolerances.
LEEWAY_ELSEWHERE = 32.0

# The reason of a tolerance of zero.
EXACT = "exact"


@dataclass(frozen=True)
class Tolerance:
    """The allowed error of each element, and the reason as a report shows it."""

    size: Array
    why: str

    def __add__(self, other: Tolerance) -> Tolerance:
        return Tolerance(self.size + other.size, f"{self.why}, and {other.why}")


def scaled(tolerance: Tolerance, factor: float) -> Tolerance:
    """A number of times the tolerance; nothing changes where no error is allowed."""
    if tolerance.why == EXACT:
        return tolerance
    return Tolerance(factor * tolerance.size, f"{factor:g} x ({tolerance.why})")


def is_double(eps: float) -> bool:
    """Whether this is the eps of double precision, or 0."""
    return eps < DOUBLE


def declared(size: Array, accuracy: float) -> Tolerance:
    """The tolerance for numbers of an operation with a declared accuracy, relative to the largest."""
    largest = np.max(np.abs(size[np.isfinite(size)]), initial=0.0)
    why = f"{ACCURACY:g} x the declared accuracy of {accuracy:.1e}"
    return Tolerance(np.full(np.shape(size), ACCURACY * accuracy * largest), why)


def exact(shape: tuple[int, ...]) -> Tolerance:
    """No error is allowed: integers, booleans, keys."""
    return Tolerance(np.zeros(shape), EXACT)


def rounding(size: Array | float, eps: float, tiny: float, noise: Array | float = 0.0) -> Tolerance:
    """The tolerance for arithmetic in a dtype with numbers of this size: 32 (eps |size| + noise) + 8 tiny.

    Args:
        size: the size of each number, or of the terms in its sum.
        eps: the eps of the dtype.
        tiny: the smallest normal number of the dtype.
        noise: the known uncertainty of each number.
    """
    allowed = ROUNDINGS * (eps * np.abs(size) + noise) + FLUSHED * tiny
    return Tolerance(np.asarray(allowed), f"{ROUNDINGS:g} roundings of {eps:.1e}")


def same_function(size: Array) -> Tolerance:
    """The tolerance between two dtypes of one function: a fraction of each number and of the largest."""
    return Tolerance(SAME_FUNCTION * size, f"{SAME_FUNCTION:g} of the value")


def in_half_precision(size: Array, largest: float, noise: Array, eps: float, tiny: float) -> Tolerance:
    """The tolerance of numbers in a small dtype against float64; a formula may be inaccurate there."""
    # A quarter of the largest: where a result is a sum of a few numbers of that size, they cancel.
    relative = SAME_FUNCTION + HALF_PRECISION_ROUNDINGS * eps
    allowed = relative * (np.abs(size) + largest / 4) + HALF_PRECISION_ROUNDINGS * (noise + tiny)
    return Tolerance(
        allowed, f"{SAME_FUNCTION:g} of the value, and {HALF_PRECISION_ROUNDINGS:g} roundings of {eps:.1e}"
    )


def conditioned(change: Array, largest: float) -> Tolerance:
    """The tolerance for numbers that a rounding of the operands changes by this much; infinite where no digit is left."""
    size = HALF_PRECISION_ROUNDINGS * np.nan_to_num(change, nan=np.inf, posinf=np.inf)
    size = np.full(size.shape, np.inf) if np.max(size, initial=0.0) > largest else size
    return Tolerance(size, f"{HALF_PRECISION_ROUNDINGS:g} x what a rounding of the operands changes")


def largest_noise_of_rule(working_eps: float, *, example_is_coarser: bool) -> float:
    """The largest accepted noise of a rule in double precision, relative to each number and to the largest."""
    floor = FLOAT32_EPS if example_is_coarser else SIX_DIGITS_LOST
    return max(floor, NOISIER_THAN_IMPLEMENTATION * working_eps)


def floor_of_differences(eps: float) -> float:
    """The relative error below which differences are not trusted: max(1e-6, 4 eps^(2/3)); 1e-4 in float32."""
    return max(SOLVERS, BEST_DIFFERENCE * eps ** (2 / 3))


def differences(size: Array, error: Array, eps: float) -> Tolerance:
    """The tolerance between a derivative of this size and differences with this error estimate."""
    floor = floor_of_differences(eps)
    why = f"{SAFETY:g} x the error estimate of the differences and {floor:.0e} of the value"
    return Tolerance(SAFETY * error + floor * np.abs(size), why)


def relative(size: Array, eps: float) -> Tolerance:
    """The tolerance between two correct implementations: an iterative one does not reach the last digits."""
    floor = floor_of_differences(eps)
    return Tolerance(np.asarray(floor * np.abs(size)), f"{floor:.0e} of the value")
