"""Derivatives of C++ kernels from their source, by hand and in `jax.numpy`: ``python benchmarks/kernels/derivatives.py [iir ...]``.

Each line is a ratio of medians in this run. The value is not part of a JVP or a VJP here. At the end of each kernel come the
times to compile it and its derivatives, and what a tape adds to the memory of the process. See ../README.md.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from timing import Line, interleaved, line, show

from jaxprim import kernels

ROUNDS = 15
FORMULA = """
template <class T>
T formula(T x, T y) { return std::exp(-x * x) * std::sin(y) + std::log1p(x * x) / (1 + y * y); }
"""
FORMULA_BACK = """
#include <cmath>
void formula_back(const double* px, const double* py, const double* ct, double* bx, double* by) {
  const double x = *px, y = *py, e = std::exp(-x * x), q = 1 / (1 + y * y);
  *bx = (-2 * x * e * std::sin(y) + 2 * x / (1 + x * x) * q) * *ct;
  *by = (e * std::cos(y) - std::log1p(x * x) * 2 * y * q * q) * *ct;
}
"""
IIR = """
template <class T>
void iir(const T* x, const T* a, int64_t n, T* y) {
  T y1 = 0, y2 = 0;
  for (int64_t i = 0; i < n; ++i) {
    const T now = x[i] + a[0] * y1 + a[1] * y2;
    y2 = y1;
    y[i] = y1 = now;
  }
}
"""
IIR_BACK = """
void iir_back(const double* x, const double* a, const double* y, const double* ct, int64_t n, double* bx, double* ba) {
  double b1 = 0, b2 = 0;
  ba[0] = ba[1] = 0;
  for (int64_t i = n; i-- > 0;) {
    const double now = ct[i] + a[0] * b1 + a[1] * b2;
    b2 = b1;
    bx[i] = b1 = now;
    if (i > 0) ba[0] += now * y[i - 1];
    if (i > 1) ba[1] += now * y[i - 2];
  }
}
"""
ENERGY = """
template <class T>
void energy(const T* at, int64_t n, T* sum) {
  *sum = 0;
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < i; ++j) {
      T square = 0.01;
      for (int k = 0; k < 3; ++k) square += (at[3 * i + k] - at[3 * j + k]) * (at[3 * i + k] - at[3 * j + k]);
      *sum += 1 / std::sqrt(square);
    }
}
"""
ENERGY_BACK = """
#include <algorithm>
#include <cmath>
void energy_back(const double* at, const double* ct, int64_t n, double* bar) {
  std::fill(bar, bar + 3 * n, 0.0);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < i; ++j) {
      double d[3], square = 0.01;
      for (int k = 0; k < 3; ++k) d[k] = at[3 * i + k] - at[3 * j + k], square += d[k] * d[k];
      const double weight = -*ct / (square * std::sqrt(square));
      for (int k = 0; k < 3; ++k) bar[3 * i + k] += weight * d[k], bar[3 * j + k] -= weight * d[k];
    }
}
"""


def iir_in_jnp(x: Any, a: Any) -> Any:
    def step(carry: Any, x: Any) -> Any:
        now = x + a[0] * carry[0] + a[1] * carry[1]
        return (now, carry[0]), now

    zero = jnp.zeros((), x.dtype)
    return jax.lax.scan(step, (zero, zero), x)[1]


def energy_in_jnp(at: Any) -> Any:
    d = at[:, None] - at[None]
    inverse = (jnp.sum(d * d, -1) + 0.01) ** -0.5
    return (jnp.sum(inverse) - 10.0 * len(at)) / 2


@dataclass(frozen=True)
class Case:
    """A kernel, the same in `jax.numpy`, and its pullback by hand.

    Attributes:
        source, signature: the kernel.
        in_jnp: the same function.
        by_hand: (operands, value, cotangent) -> cotangents.
        operands: what it is called with.
    """

    source: str
    signature: str
    in_jnp: Callable[..., Any]
    by_hand: Callable[..., Any]
    operands: tuple[Any, ...]


def cases() -> dict[str, Case]:
    normal = lambda seed, *shape: jnp.asarray(np.random.default_rng(seed).standard_normal(shape))
    back = {
        "formula": "formula_back(x: f64[...], y: f64[...], ct: f64[...]) -> (bx: f64[...], by: f64[...])",
        "iir": "iir_back(x: f64[n], a: f64[2], y: f64[n], ct: f64[n]) -> (bx: f64[n], ba: f64[2])",
        "energy": "energy_back(at: f64[n, 3], ct: f64[]) -> f64[n, 3]",
    }
    formula, iir, energy = (
        kernels.cpp(source, back[name])
        for name, source in (("formula", FORMULA_BACK), ("iir", IIR_BACK), ("energy", ENERGY_BACK))
    )
    return {
        "formula": Case(
            FORMULA,
            "formula(x: f64, y: f64) -> f64",
            lambda x, y: jnp.exp(-x * x) * jnp.sin(y) + jnp.log1p(x * x) / (1 + y * y),
            lambda operands, out, ct: formula(*operands, ct),
            (normal(0, 100_000), normal(1, 100_000)),
        ),
        "iir": Case(
            IIR,
            "iir(x: f64[..., n], a: f64[2]) -> f64[..., n]",
            iir_in_jnp,
            lambda operands, out, ct: iir(*operands, out, ct),
            (normal(0, 100_000), jnp.array([1.2, -0.5])),
        ),
        "energy": Case(
            ENERGY,
            "energy(at: f64[n, 3]) -> f64[]",
            energy_in_jnp,
            lambda operands, out, ct: (energy(*operands, ct),),
            (normal(0, 300, 3),),
        ),
    }


def measure(name: str, case: Case) -> list[Line]:
    kernel = kernels.cpp(case.source, case.signature, differentiable=True)
    report_compilation(name, case, kernel)
    operands, out = case.operands, jax.jit(kernel)(*case.operands)
    fns: dict[str, Callable[..., Any]] = {"source": kernel, "jnp": case.in_jnp}
    tasks: dict[str, Callable[[], Any]] = {"value": _task(kernel, *operands)}
    for how, fn in fns.items():
        push = lambda *xs, fn=fn: jax.jvp(fn, xs, xs)[1]
        pull = lambda *xs, fn=fn: jax.vjp(fn, *xs)[1](out)
        tasks[f"JVP, {how}"], tasks[f"VJP, {how}"] = _task(push, *operands), _task(pull, *operands)
    tasks["VJP, hand"] = _task(lambda *xs: case.by_hand(xs, out, out), *operands)
    found = {what: task() for what, task in tasks.items()}
    for mode, others in (("JVP", ["jnp"]), ("VJP", ["jnp", "hand"])):
        for other in others:
            for one, two in zip(
                *map(jax.tree.leaves, (found[f"{mode}, source"], found[f"{mode}, {other}"])), strict=True
            ):
                np.testing.assert_allclose(one, two, rtol=1e-8, atol=1e-8 * float(jnp.max(jnp.abs(two))))
    times = interleaved(tasks, ROUNDS)
    few = name == "formula"
    return [
        line(f"{name}: JVP from source", times, "JVP, source", "value", 3.5),
        line(f"{name}: JVP from source", times, "JVP, source", "JVP, jnp", None),
        line(
            f"{name}: VJP from source, {'tangents' if few else 'a tape'}",
            times,
            "VJP, source",
            "value",
            4.0 if few else 50.0,
        ),
        line(f"{name}: VJP from source", times, "VJP, source", "VJP, hand", None),
        line(f"{name}: VJP from source", times, "VJP, source", "VJP, jnp", None),
    ]


def _task(fn: Callable[..., Any], *operands: Any) -> Callable[[], Any]:
    jitted = jax.jit(fn)
    return lambda: jax.block_until_ready(jitted(*operands))


def report_compilation(name: str, case: Case, kernel: Any) -> None:
    """Print the seconds to compile each instantiation into an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        before = os.environ.get("JAXPRIM_CACHE")
        os.environ["JAXPRIM_CACHE"] = folder
        seconds: list[str] = []
        for each, signature in kernel.with_orders(kernel.signature, 2):
            start = time.perf_counter()
            each.target(signature)
            seconds.append(f"{each.name} {time.perf_counter() - start:.1f} s")
        os.environ.pop("JAXPRIM_CACHE")
        if before is not None:
            os.environ["JAXPRIM_CACHE"] = before
    print(f"{name}: compiled {', '.join(seconds)}")


def report_memory() -> None:
    """Print what the tape of a long loop takes."""
    kernel = kernels.cpp(IIR, "iir(x: f64[..., n], a: f64[2]) -> f64[..., n]", differentiable=True)
    gradient = jax.jit(jax.grad(lambda x, a: jnp.sum(kernel(x, a)), (0, 1)))
    for n in (1_000_000, 4_000_000):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        jax.block_until_ready(gradient(jnp.ones(n), jnp.array([1.2, -0.5])))
        added = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        print(f"iir: the tape of {n} numbers adds {added / 2**20:.0f} MiB to the peak, {added / n:.0f} bytes a number")


def main(names: list[str]) -> int:
    jax.config.update("jax_enable_x64", True)
    print(f"jax {jax.__version__}, python {sys.version.split()[0]}, {jax.default_backend()}")
    known = cases()
    lines = [each for name in names or known for each in show(measure(name, known[name]))]
    report_memory()
    return 0 if all(each.ok for each in lines) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
