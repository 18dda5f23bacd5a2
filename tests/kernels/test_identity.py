"""A program knows a C function by a name that is the same in every process, and says its content."""

from __future__ import annotations

import ctypes
import ctypes.util
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from tools import cxx, needs

from jaxprim import kernels
from jaxprim.kernels import build
from jaxprim.kernels.identity import identity
from jaxprim.kernels.pointers import address_of

libm = ctypes.CDLL(ctypes.util.find_library("m"))
C = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)


def name(pointer) -> str:
    return identity(pointer, address_of(pointer))[0]


PRINT = """
import ctypes, ctypes.util
from jaxprim.kernels.identity import identity
from jaxprim.kernels.pointers import address_of
libm = ctypes.CDLL(ctypes.util.find_library("m"))
C = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)
for pointer in (libm.cbrt, libm.hypot, C(lambda x: x)):
    print(identity(pointer, address_of(pointer))[0])
"""


def test_a_function_of_a_library_has_one_name_in_all_processes():
    found = [
        subprocess.run([sys.executable, "-c", PRINT], capture_output=True, text=True, check=True) for _ in range(2)
    ]
    first, second = (done.stdout.split("\n")[:3] for done in found)
    assert first[:2] == second[:2] == [name(libm.cbrt), name(libm.hypot)]
    assert first[0] != first[1]
    assert first[2] != second[2]


def test_a_callback_has_a_name_of_this_process_alone():
    one, two = C(lambda x: x), C(lambda x: x)
    assert name(one) == name(one) != name(two)


@cxx
def test_two_copies_of_a_library_have_one_name_and_each_its_own_state(tmp_path):
    made, _ = build.library(
        build.Source("count", 'static double n; extern "C" double count(double x) { return n += x; }')
    )
    copy = shutil.copy(made._name, tmp_path / "copy.so")
    one, two = made.count, ctypes.CDLL(str(copy)).count
    assert name(one) == name(two)
    with jax.enable_x64(True):
        first, second = (kernels.c_function(each, "(f64) -> f64", name="count") for each in (one, two))
        assert (float(first(1.0)), float(second(10.0)), float(first(100.0))) == (1.0, 10.0, 101.0)


@needs("numba")
def test_the_code_of_a_numba_function_is_its_name():
    numba = pytest.importorskip("numba")
    make = lambda k: numba.cfunc("float64(float64)")(lambda x: k * x)
    assert name(make(2.0)) == name(make(2.0)) != name(make(3.0))


@needs("numba")
def test_the_code_of_what_a_numba_function_calls_is_in_its_name():
    numba = pytest.importorskip("numba")

    def calling(inner):
        return numba.cfunc("float64(float64)")(lambda x: inner(np.full(9, x))[0])

    for options in ({"parallel": True}, {}):
        two, three = (numba.njit(**options)(lambda x, k=k: np.sin(x) * k + np.sort(x)) for k in (2.0, 3.0))
        assert name(calling(two)) != name(calling(three))


@needs("numba")
def test_a_numba_function_that_holds_an_address_has_a_name_of_this_process_alone():
    numba = pytest.importorskip("numba")
    function = C(lambda x: 2 * x)
    at_an_address = numba.cfunc("float64(float64)")(lambda x: function(x))
    assert name(at_an_address) != name(numba.cfunc("float64(float64)")(lambda x: function(x)))


CACHED = """
import ctypes, ctypes.util, sys, jax, jax.numpy as jnp, numpy as np
for option, value in (("compilation_cache_dir", sys.argv[1]), ("persistent_cache_min_compile_time_secs", 0), ("persistent_cache_min_entry_size_bytes", -1)):
    jax.config.update("jax_" + option, value)
from jaxprim import kernels
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event) if event.endswith("cache_hits") else None)
x = jnp.arange(3.0)
made = [kernels.c_function(ctypes.CDLL(ctypes.util.find_library("m")).sinf, "(f32) -> f32")]
if len(sys.argv) > 2:
    import numba
    made += [kernels.numba(lambda x: np.sin(x)), kernels.numba(numba.njit(parallel=True)(lambda x: np.sin(x)), "(x: f32[n]) -> f32[n]")]
for kernel in made:
    program = jax.jit(lambda x: kernel(x) + 1)
    hits.clear()
    np.testing.assert_allclose(program(x), np.sin(x) + 1, rtol=1e-6)
    print(len(hits))
"""


@cxx
@pytest.mark.parametrize("more", [(), pytest.param(("numba",), marks=needs("numba"))], ids=["c_function", "numba"])
def test_programs_are_found_in_jaxs_cache_by_another_process(tmp_path, more):
    run = lambda: subprocess.run(
        [sys.executable, "-c", CACHED, str(tmp_path), *more], capture_output=True, text=True, check=True
    ).stdout.split()
    first = run()
    entries = len(list(Path(tmp_path).iterdir()))
    assert set(first) == {"0"}
    assert "0" not in run()
    assert len(list(Path(tmp_path).iterdir())) == entries
