"""Compiled implementations as JAX-traceable functions: C++, CUDA, C, Fortran, Numba."""

from __future__ import annotations

from jaxprim.kernels.from_handler import ffi
from jaxprim.kernels.from_numba import numba
from jaxprim.kernels.from_pointer import c_function
from jaxprim.kernels.from_source import cpp, cuda
from jaxprim.kernels.kernel import Kernel

__all__ = ["Kernel", "c_function", "cpp", "cuda", "ffi", "numba"]
