"""What `fast_math` and `native` do to a library, and what they leave alone."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
from tools import cxx

from jaxprim import KernelError, kernels
from jaxprim.kernels import build
from jaxprim.kernels.toolchain import this_machine

SUM = """
#include <cmath>
void sum(const float* x, int64_t n, float* total, float* is_nan) {
  float sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += std::exp(x[i]);
  *total = sum;
  *is_nan = std::isnan(x[0]);
}
"""
# Numbers below 2^-126, or 2^-1022, are there before and after, in the thread that loads a library and in a new one.
LOAD = """
import ctypes, sys, threading
import numpy as np

found = []
def look():
    found.append((np.float32(2.0**-130) / 2 != 0, np.float64(2.0**-1040) / 2 != 0))
look()
ctypes.CDLL(sys.argv[1])
look()
thread = threading.Thread(target=look)
thread.start()
thread.join()
print(found == [(True, True)] * 3)
"""


@cxx
def test_fast_arithmetic_stays_in_the_kernel_in_every_thread(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXPRIM_CACHE", str(tmp_path))
    fast = kernels.cpp(SUM, "sum(x: f32[n]) -> (total: f32[], is_nan: f32[])", fast_math=True, native=True)
    x = np.linspace(-5, 5, 1001, dtype=np.float32)
    np.testing.assert_allclose(fast(x)[0], np.sum(np.exp(x.astype(float))), rtol=1e-5)
    assert fast(np.full(9, np.nan, np.float32))[1] == 0  # what the docs say is lost

    (library,) = tmp_path.glob("sum-*/*.so")
    done = subprocess.run([sys.executable, "-c", LOAD, str(library)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
    if this_machine().processor == "x86_64" and b"GLIBC" in library.read_bytes():
        assert re.search(rb"_ZGV[bcde]N\d+v_expf", library.read_bytes())  # the exp of libmvec, for vectors


@cxx
def test_the_options_of_speed_are_in_the_key(monkeypatch):
    make = lambda **options: build.key(build.Source("f", "", **options))
    keys = [make(), make(fast_math=True), make(processor="native"), make(processor="x86-64-v3")]
    monkeypatch.setattr(build, "_machine", lambda: ["another processor"])
    keys.append(make(processor="native"))
    assert len(set(keys)) == len(keys)
    assert make(fast_math=True) == keys[1]  # only `native` depends on the processor


@pytest.mark.parametrize("option", ["fast_math", "native"])
def test_what_is_neither_true_nor_false_is_refused(option):
    with pytest.raises(KernelError, match=rf"invalid value for `{option}`.*\n.*{option}='yes'"):
        kernels.cpp(SUM, "sum(x: f32[n]) -> (total: f32[], is_nan: f32[])", **{option: "yes"})
