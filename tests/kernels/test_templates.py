"""What a compiler says of a template that has no derivative, in the words of its author's source."""

from __future__ import annotations

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax_versions import IS_OLDER_JAX
from tools import cxx

from jaxprim import KernelError, kernels
from jaxprim.kernels import templates
from jaxprim.kernels.signature import parse
from jaxprim.kernels.source import LINE

BODY = """
#include <cmath>
template <class T>
void body(const T* x, int64_t n, T* y) {
  for (int64_t i = 0; i < n; ++i) {
    const float r = std::sin(x[i]);
    y[i] = r;
  }
}
"""
CAST = """
template <class T>
T half(T x) { return static_cast<double>(x) / 2; }
template <class T>
void cast(const T* x, int64_t n, T* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = half(x[i]);
}
"""
BESSEL = """
#include <cmath>
template <class T>
void bessel(const T* x, int64_t n, T* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = std::cyl_bessel_j(0, x[i]);
}
"""
INTO = """: its derivative cannot be taken from this source: a number that carries a derivative goes into a {}.
  got:      test_templates.py:N
  expected: T or auto, as the type of whatever is computed from the operands
  why:      the derivative would end there
  defined:  test_templates.py:N
  write:    T  # or jaxprim::ad::value(x), where the derivative is meant to end"""
UNKNOWN = """: its derivative cannot be taken from this source: 'cyl_bessel_j' has no derivative that jaxprim knows.
  got:      test_templates.py:N: cyl_bessel_j(...)
  expected: a function of <cmath> but the special ones, or a template of yours
  defined:  test_templates.py:N
  write:    an overload of cyl_bessel_j that ends in jaxprim::ad::chain(value, x, slope), or a rule: @p.def_vjp"""


@cxx
@pytest.mark.skipif(IS_OLDER_JAX, reason="the compiler is the same for every JAX")
@pytest.mark.parametrize(
    ("name", "source", "line", "message"),
    [
        ("body", BODY, "const float r", INTO.format("'float'")),
        ("cast", CAST, "static_cast", INTO.format("floating-point type")),
        ("bessel", BESSEL, "cyl_bessel_j(0", UNKNOWN),
    ],
)
def test_the_authors_line(name, source, line, message, kernel_cache):
    fn = kernels.cpp(source, f"{name}(x: f32[n]) -> f32[n]", differentiable=True, flags=("-O0",))
    with pytest.raises(KernelError) as caught:
        jax.jit(jax.grad(lambda x: fn(x).sum())).lower(jnp.ones(3))
    said = str(caught.value)
    number = next(n for n, text in enumerate(Path(__file__).read_text().splitlines(), 1) if line in text)
    assert f"test_templates.py:{number}" in said
    assert re.sub(r"\S*test_templates\.py:\d+", "test_templates.py:N", said) == name + message


def test_an_undecided_type_is_refused_when_it_is_complex():
    fn = kernels.cpp("template <class T> T f(T x) { return x; }", "f(x: T) -> T", differentiable=True)
    with pytest.raises(KernelError, match="its derivative cannot be taken from this source: x has complex numbers"):
        jax.make_jaxpr(jax.grad(lambda x: fn(x).real))(np.complex64(1))


@pytest.mark.parametrize(
    ("signature", "way", "is_tape"),
    [
        ("f(x: f32) -> f32", True, False),
        ("f(x: T[4, 8], k: i32[n]) -> T", True, False),
        ("f(x: T[4, 8], y: T) -> T", True, True),  # 33 numbers
        ("f(x: T[n]) -> T", True, True),
        ("f(x: f32) -> f32", "tape", True),
        ("f(x: f32[100]) -> f32", "tangents", False),
    ],
)
def test_a_tape_for_many_numbers(signature, way, is_tape):
    assert templates.by_tape(parse(signature), way) == is_tape


@pytest.mark.parametrize(
    "source",
    [
        "template <class T, class = std::enable_if_t<std::is_same_v<T, T>>>\nstatic inline void f(const T* x, T* y) {}",
        "void f(const auto* x, auto* y) {}",
        '#include "elsewhere.h"',
        "void f(const float* x, float* y) {}\ntemplate <class T> void f(const T* x, T* y) {}",
        'template <class T> void f(const T* x, T* y) { static constexpr T two(2); static_assert(true, "T"); }',
    ],
)
def test_templates_that_are_recognized(source):
    templates.refuse_source("f", [source], "void f(const float* x, float* y)", LINE)
