"""The numbers of `jaxprim_ad.h`: every function of <cmath> against differences, in dual numbers, on a tape, and nested."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from jax_versions import IS_OLDER_JAX
from tools import cxx

from jaxprim.kernels.compilers import compiler
from jaxprim.kernels.languages import CPP
from jaxprim.kernels.source import NATIVE

UNARY = {
    **dict.fromkeys(["sqrt", "cbrt", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh"], 0.3),
    **dict.fromkeys(["asinh", "atanh", "erf", "erfc", "abs", "floor", "ceil", "trunc", "round", "rint", "nearbyint", "logb"], 0.3),
    "acosh": 1.7, "lgamma": -2.3, "tgamma": 2.6, "fabs": -0.3,
}  # fmt: skip
BINARY = {
    "atan2": (0.3, -0.7), "hypot": (0.3, 0.7), "pow": (0.7, 1.3), "fmod": (5.3, 1.7), "remainder": (5.3, 1.7),
    "fmax": (0.3, 0.7), "fmin": (0.3, 0.7), "copysign": (0.3, -0.7), "fdim": (0.9, 0.7),
}  # fmt: skip
PROGRAM = r"""
#include "jaxprim_ad.h"
#include <cstdio>
using namespace jaxprim::ad;
using D = Dual<double>;
using DD = Dual<D>;

// The derivative of a function of one number, by differences of 4th order.
template <class F>
double slope(F f, double x) {
  const double h = 1e-4;
  return (8 * (f(x + h) - f(x - h)) - (f(x + 2 * h) - f(x - 2 * h))) / 12 / h;
}
template <class T, class F>
T on_tape(F f, T x) {
  auto& tape = Tape<T>::take();
  const auto mark = tape.begin();
  const Rev<T> in(x, tape.push(T(0), 0, T(0), 0), mark);
  const Rev<T> out = f(in);
  tape.ready();
  if (out.place != 0) tape.bar(out.place) = T(1);
  tape.sweep();
  const T bar = tape.bar(in.place);
  tape.give();
  return bar;
}
void compare(const char* name, double found, double wanted) {
  if (!(std::abs(found - wanted) < 1e-9 * (1 + std::abs(wanted)))) std::printf("%s: %.15g, not %.15g\n", name, found, wanted);
}
template <class F>
void check(const char* name, F f, double x) {
  auto first = [&](double z) { return f(D(z, 1)).d; };
  compare(name, first(x), slope(f, x));
  compare(name, on_tape(f, x), slope(f, x));
  const D bar = on_tape(f, D(x, 1));
  compare(name, bar.v, slope(f, x));
  compare(name, bar.d, slope(first, x));
  compare(name, f(DD(D(x, 1), D(1, 0))).d.d, slope(first, x));
}
int main() {
UNARY
BINARY
  // What no difference can tell.
  compare("sqrt at 0, of a constant", std::sqrt(D(0, 0)).d, 0);
  if (!std::isinf(std::sqrt(D(0, 1)).d)) std::puts("sqrt at 0");
  compare("abs at 0", std::abs(D(0, 1)).d, 0);
  compare("hypot at 0", std::hypot(D(0, 1), D(0, 1)).d, 0);
  compare("0^2", std::pow(D(0, 1), 2).d, 0);
  compare("0^1", std::pow(D(0, 1), 1).d, 1);
  compare("0^0", std::pow(D(0, 1), 0).d, 0);
  compare("0^2, of a number", std::pow(D(0, 1), D(2)).d, 0);
  compare("(-2)^3", std::pow(D(-2, 1), 3).d, 12);
  compare("(-2)^3, of a number", std::pow(D(-2, 1), D(3)).d, 12);
  if (!std::isnan(std::pow(D(-2, 1), D(3, 1)).d)) std::puts("a negative number to a power that moves");
  compare("max, a tie", std::max(D(1, 5), D(1, 7)).d, 5);
  compare("min, a tie", std::min(D(1, 5), D(1, 7)).d, 5);
  compare("max with a plain number", std::max(D(1, 5), 2.0).d, 0);
  compare("clamp", std::clamp(D(1, 5), 0.0, 2.0).d, 5);
  compare("fma", std::fma(D(2, 1), 3.0, D(1, 1)).d, 4);
  compare("hypot of three", std::hypot(D(2, 1), 3.0, 6.0).d, 2.0 / 7);
  compare("ldexp", std::ldexp(D(2, 1), 3).d, 8);
  D whole;
  compare("modf", std::modf(D(2.5, 1), &whole).d, 1);
  compare("the whole part", whole.v, 2);
  compare("a choice", (D(1, 5) > 0.5 ? D(1, 5) : 0.0).d, 5);
  compare("a cast to an integer", int(D(2.7, 1)), 2);
  compare("value", value(DD(D(3, 1), D(1, 0))), 3);
  compare("float", std::exp(Dual<float>(0.5f, 1)).d, std::exp(0.5f));
  static_assert(std::is_trivially_copyable_v<Rev<DD>> && std::is_trivially_default_constructible_v<Rev<DD>>);
  static_assert(!std::is_convertible_v<D, double> && std::is_convertible_v<double, D>);
  std::puts("done");
}
"""


@cxx
@pytest.mark.skipif(IS_OLDER_JAX, reason="no JAX is used")
def test_every_function_and_its_corners(tmp_path: Path):
    unary = [f'check("{name}", [](auto z) {{ return std::{name}(z); }}, {x});' for name, x in UNARY.items()]
    binary = [
        f'check("{name} {side}", [](auto z) {{ return std::{name}({args}); }}, {at});'
        for name, (x, y) in BINARY.items()
        for side, args, at in (
            ("left", f"z, {y}", x),
            ("right", f"{x}, z", y),
            ("both", f"z, z * {y / x}", x),
        )
    ]
    source, program = tmp_path / "numbers.cpp", tmp_path / "numbers"
    source.write_text(PROGRAM.replace("UNARY", "\n".join(unary)).replace("BINARY", "\n".join(binary)))
    subprocess.run([*compiler(CPP), "-std=c++17", "-Wall", "-Werror", f"-I{NATIVE}", source, "-o", program], check=True)
    assert subprocess.run([program], capture_output=True, text=True, check=True).stdout == "done\n"
