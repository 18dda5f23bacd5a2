"""Kernels over memory that held other numbers before."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tools import cxx

import jaxprim
from jaxprim import Primitive, kernels
from jaxprim.checking.reports import hints
from jaxprim.kernels.filled import runs

SOURCE = """
void adds(const float* x, int64_t n, float* y) { for (int64_t i = 0; i < n; ++i) y[i] += x[i]; }
void leaves_out(const float* x, int64_t n, float* y, int32_t* z) {
  for (int64_t i = 0; i < n; ++i) y[i] = x[i];
  z[0] = 3;
}
void in_place(int64_t n, float* y) { for (int64_t i = 0; i < n; ++i) y[i] *= 2; }
"""
X = jnp.arange(4, dtype=jnp.float32)
SIGNATURE = "(x: f32[..., n]) -> y: f32[..., n]"


def made(name):
    aliases = {"y": "x"} if name == "in_place" else None
    signature = "(x: f32[n]) -> (y: f32[n], z: i32[2])" if name == "leaves_out" else SIGNATURE
    return kernels.cpp(SOURCE, name + signature, aliases=aliases)


def operation(kernel):
    p = Primitive(kernel.name)
    p.def_impl(lambda x: jax.tree.map(lambda y: y + 1, kernel(x)))
    return p


def differ(fn, x=X):
    found = [[np.asarray(y) for y in each] for each in runs(jax.make_jaxpr(fn)(x), [x])]
    assert len(found) == 3
    return [not all(np.array_equal(each[i], found[0][i]) for each in found) for i in range(len(found[0]))]


@cxx
def test_what_depends_on_the_memory_differs():
    assert differ(made("adds")) == [True]
    assert differ(made("leaves_out")) == [False, True]
    assert differ(made("in_place")) == [False]


@cxx
def test_a_kernel_inside_calls_is_reached():
    wrong, right = operation(made("adds")), operation(made("in_place"))
    for through in (lambda p: p, jax.jit, lambda p: lambda x: jax.jit(p)(x) * p(x), jax.checkpoint):
        assert differ(through(wrong)) == [True]
        assert differ(through(right)) == [False]
    assert differ(jax.vmap(wrong), X[None]) == [True]


@cxx
@pytest.mark.parametrize(("name", "status"), [("adds", "fail"), ("leaves_out", "fail"), ("in_place", "pass")])
def test_check_finds_it(name, status):
    report = jaxprim.report(operation(made(name)), X, only="deterministic")
    (finding,) = report.findings
    assert finding.status == status
    if status == "fail":
        assert f"impl: {hints.OTHER_MEMORY}\n" in finding.text()
        assert finding.hints == (hints.UNWRITTEN,)
