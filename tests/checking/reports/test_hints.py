from __future__ import annotations

import math

import pytest

from jaxprim.checking.reports.hints import causes

TRUTH = (0.7, -1.3, 2.1)
COMPLEX = (0.7 + 0.2j, -1.3 + 1.1j)


def hint(wrong, truth=TRUTH, example="x=float32[7], w=float32[2,4]"):
    return list(causes([(wrong(e), e) for e in truth], example))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda e: 2 * e, "factor 2: every number is 2 times"),
        (lambda e: -0.5 * e, "factor -1/2"),
        (lambda e: -e, "the sign is wrong"),
        (lambda e: 0 * e, "all values are zero"),
        (lambda e: 7 * e, "factor 7, and x has 7 elements: a sum where"),
        (lambda e: e / 8, "factor 1/8, and w has 8 elements: a mean where"),
        (lambda e: math.pi * e, "factor pi"),
        (lambda e: -e / math.sqrt(2), "factor -1/(sqrt(2))"),
        (lambda e: 4.1965 * e, "every wrong number is 4.1965 times"),
        (lambda e: e + 0.25, "off by the same 0.25"),
        (lambda e: math.nan, "a nan"),
    ],
)
def test_a_cause_is_named(wrong, said):
    (found,) = hint(wrong)
    assert said in found


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda e: e.conjugate(), "the complex conjugate"),
        (lambda e: e.real + 0j, "the imaginary part is missing"),
        (lambda e: 1j * e.imag, "the real part is missing"),
        (lambda e: 1j * e, "factor i"),
        (lambda e: -3 * e, "factor -3"),
    ],
)
def test_a_cause_of_complex_numbers(wrong, said):
    (found,) = hint(wrong, COMPLEX)
    assert said in found


def test_one_number_shows_no_pattern_but_a_plain_one():
    assert hint(lambda e: 4.1965 * e, TRUTH[:1]) == []
    assert "factor 2" in hint(lambda e: 2 * e, TRUTH[:1])[0]


def test_no_hint_without_a_pattern():
    assert hint(lambda e: e * e) == []
    assert hint(lambda e: "float32[3]") == []
    assert list(causes([], "")) == []
