"""Every message about kernels that a user can see, whole."""

from __future__ import annotations

import ctypes
import ctypes.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tools import cxx, needs

import jaxprim
from jaxprim import JaxprimError, Primitive, from_numpy, kernels
from jaxprim.kernels import build, build_ahead, from_handler, metadata, pointers, toolchain
from jaxprim.kernels.languages import CPP, CUDA

X, W = np.ones((4, 3), np.float32), np.ones(3, np.float32)
LOOP = "void rms_norm(const float* x, const float* w, float eps, int64_t n, int64_t d, float* out) {}"
rms_norm = kernels.cpp(LOOP, "rms_norm(x: f32[n, d], w: f32[d]; eps: f32 = 1e-6) -> f32[n, d]")
add = kernels.cpp(
    "void add(const float* x, const float* y, float* out) {}", "add(x: f32[...], y: f32[...]) -> f32[...]"
)

Case = tuple[str, Callable[[], Any], str]
CASES: list[Case] = []


def case(message: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    def keep(run: Callable[[], Any]) -> Callable[[], Any]:
        CASES.append((run.__name__, run, message))
        return run

    return keep


def said(run: Callable[[], Any]) -> str:
    """What is raised, without line numbers and folders."""
    with pytest.raises(JaxprimError) as caught:
        run()
    return re.sub(r"\S*test_kernel_messages\.py:\d+", "test_kernel_messages.py:N", str(caught.value))


# --------------------------------------------------------------------------------------------------------- operands
@case(
    """rms_norm: operand 'x' does not have the dtype of the signature.
  got:      int32[4,3]
  expected: f32[n, d]
  defined:  test_kernel_messages.py:N
  write:    x.astype('float32')  # or i32 in the signature"""
)
def another_dtype():
    rms_norm(X.astype(np.int32), W)


@case(
    """f: operand 'x' has a dtype that the type variable T does not cover.
  got:      float16[3]
  expected: another dtype: a C function gets f16 numbers as bits, in uint16_t
  defined:  test_kernel_messages.py:N
  write:    x.astype('float32')  # or f16 in the signature, if the function takes bits"""
)
def half_precision_for_a_template():
    kernels.cpp("", "f(x: T[n]) -> T[n]")(W.astype(np.float16))


@case(
    """f: operand 'x' does not have the dtype of the signature.
  got:      float32[3]
  expected: f64[n]
  why:      JAX disables 64-bit types by default
  defined:  test_kernel_messages.py:N
  write:    jax.config.update("jax_enable_x64", True)"""
)
def a_dtype_that_must_be_switched_on():
    kernels.cpp("", "f(x: f64[n]) -> f64[n]")(W)


@case(
    """rms_norm: operand 'x' has the wrong rank.
  got:      float32[1,4,3], rank 3
  expected: f32[n, d], 2 axes
  defined:  test_kernel_messages.py:N
  write:    jax.vmap(rms_norm)  # or f32[..., n, d] in the signature: batch axes before its own"""
)
def a_rank_that_is_too_high():
    rms_norm(X[None], W)


@case(
    """rms_norm: operand 'x' has the wrong rank.
  got:      float32[3], rank 1
  expected: f32[n, d], 2 axes
  defined:  test_kernel_messages.py:N"""
)
def a_rank_that_is_too_low():
    rms_norm(W, W)


@case(
    """rms_norm: operand 'w' has a size that does not fit the signature.
  got:      float32[2]
  expected: f32[d] with d = 3, as operand 'x' says
  defined:  test_kernel_messages.py:N"""
)
def a_size():
    rms_norm(X, W[:2])


@case(
    """f: operand 'x' has a size that does not fit the signature.
  got:      float32[3]
  expected: f32[4]
  defined:  test_kernel_messages.py:N"""
)
def a_size_that_is_a_number():
    kernels.cpp("", "f(x: f32[4]) -> f32[4]")(W)


@case(
    """add: the batch axes of its operands do not broadcast.
  got:      x: [4, 3], y: [2]
  expected: axes of the same size, or of size 1, counted from the last
  defined:  test_kernel_messages.py:N"""
)
def batch_axes():
    add(X, W[:2])


@case(
    """rms_norm: operand 'w' is not an array.
  got:      a str
  expected: an array or a number
  defined:  test_kernel_messages.py:N"""
)
def no_array():
    rms_norm(X, "w")


@case(
    """rms_norm: wrong number of operands.
  got:      1
  expected: 2: rms_norm(x: f32[n, d], w: f32[d]; eps: f32 = 1e-06) -> f32[n, d]
  defined:  test_kernel_messages.py:N"""
)
def too_few_operands():
    rms_norm(X)


@case(
    """f: the result 'out' would have a negative size.
  got:      f32[n - 4] = f32[-1]
  expected: sizes of 0 or more
  defined:  test_kernel_messages.py:N"""
)
def a_negative_size():
    kernels.cpp("", "f(x: f32[n]) -> f32[n - 4]")(W)


@case(
    """f: operand 'x' has a dtype that kernels do not support.
  got:      float8_e4m3fn[3]
  expected: one of f32 f64 f16 bf16 c64 c128 i8 i16 i32 i64 u8 u16 u32 u64 bool
  defined:  test_kernel_messages.py:N"""
)
def an_unknown_dtype():
    kernels.cpp("", "f(x: T[n]) -> T[n]")(W.astype(jnp.float8_e4m3fn))


# ------------------------------------------------------------------------------------------------------- work in place
def in_place(
    aliases: Any, signature: str = "f(x: f64[..., n], w: f64[n]; k: i64) -> (y: f64[..., n], z: f64[..., n + 1])"
):
    return kernels.cpp("", signature, aliases=aliases)


@case(
    """invalid value for `aliases`.
  got:      aliases='yx'
  expected: the name of an operand for that of a result
  defined:  test_kernel_messages.py:N
  write:    aliases={"y": "x"}  # the result y is in the memory of the operand x"""
)
def aliases_that_are_no_names():
    in_place("yx")


@case(
    """'x' is an operand, and 'y' is a result.
  got:      aliases={'x': 'y'}
  expected: the result first, then the operand in whose memory it is
  defined:  test_kernel_messages.py:N
  write:    aliases={"y": "x"}"""
)
def aliases_the_other_way_round():
    in_place({"x": "y"})


@case(
    """aliases= names a result 'yy'.
  got:      aliases={'yy': 'x'}
  expected: a result of f(x: f64[..., n], w: f64[n]; k: i64) -> (y: f64[..., n], z: f64[..., n + 1])
  defined:  test_kernel_messages.py:N
  write:    'y' for 'yy' in aliases="""
)
def aliases_of_an_unknown_result():
    in_place({"yy": "x"})


@case(
    """aliases= names an operand 'k'.
  got:      aliases={'y': 'k'}
  expected: an operand of f(x: f64[..., n], w: f64[n]; k: i64) -> (y: f64[..., n], z: f64[..., n + 1])
  defined:  test_kernel_messages.py:N"""
)
def aliases_of_an_attribute():
    in_place({"y": "k"})


@case(
    """the result 'z' does not fit into the memory of the operand 'x'.
  got:      z: f64[..., n + 1], and x: f64[..., n]
  expected: the same dtype, sizes and batch axes
  defined:  test_kernel_messages.py:N"""
)
def aliases_of_another_size():
    in_place({"z": "x"})


@case(
    """the result 'y' does not fit into the memory of the operand 'w'.
  got:      y: f64[..., n], and w: f64[n]
  expected: the same dtype, sizes and batch axes
  defined:  test_kernel_messages.py:N"""
)
def aliases_without_the_batch_axes():
    in_place({"y": "w"})


@case(
    """two results would be in the memory of the operand 'x'.
  got:      aliases={'y': 'x', 'z': 'x'}
  expected: another operand for each result
  defined:  test_kernel_messages.py:N"""
)
def aliases_of_one_operand_for_two_results():
    in_place({"y": "x", "z": "x"}, "f(x: f64[n]) -> (y: f64[n], z: f64[n])")


@case(
    """the operand 'x' is passed by value, so it has no memory to share.
  got:      x: f64
  expected: arrays, x: f64[...] and out: f64[...]
  defined:  test_kernel_messages.py:N"""
)
def aliases_of_a_number_by_value():
    in_place({"out": "x"}, "f(x: f64, y: f64) -> f64")


@case(
    """f: its parameters have another order than what it is given.
  got:      the parameters x, w, n
  expected: w, n, y, the order in which jaxprim passes them
  why:      arguments go by position, so each would get another's value
  defined:  test_kernel_messages.py:N
  write:    arguments="y, w, n\""""
)
def a_parameter_for_the_memory_at_the_operands_place():
    source = "void f(double* x, const double* w, int64_t n) {}"
    kernels.cpp(source, "f(x: f64[n], w: f64[n]) -> y: f64[n]", aliases={"y": "x"})


# ------------------------------------------------------------------------------------------------------- kept set-ups
def keeps(keep: Any, **options: Any):
    return kernels.cpp("", "f(a: f64[n], b: f64[..., n]; k: i64) -> y: f64[..., n]", keep=keep, **options)


@case(
    """keep= can't be read.
  got:      keep='Plan'
  expected: the name of a class, and in parentheses what it is made from
  defined:  test_kernel_messages.py:N
  write:    keep="Factors(a)"  # for a struct Factors { Factors(const double* a, int64_t n); ~Factors(); };"""
)
def keep_without_parentheses():
    keeps("Plan")


@case(
    """keep= can't be read.
  got:      keep='Plan(x)'
  expected: operands, attributes and sizes of f(a: f64[n], b: f64[..., n]; k: i64) -> y: f64[..., n]
  why:      no 'x' is known there
  defined:  test_kernel_messages.py:N"""
)
def keep_of_an_unknown_name():
    keeps("Plan(x)")


@case(
    """keep= can't be read.
  got:      keep='Plan()'
  expected: at least one operand, attribute or size of f(a: f64[n], b: f64[..., n]; k: i64) -> y: f64[..., n]
  why:      Plan is made from nothing
  defined:  test_kernel_messages.py:N"""
)
def keep_of_nothing():
    keeps("Plan()")


@case(
    """keep= can't be read.
  got:      keep=['Order(n)', 'Plan(a)']
  expected: Order as the first argument of a set-up that comes after it
  why:      nothing is made from Order
  defined:  test_kernel_messages.py:N"""
)
def keep_of_a_class_that_nothing_uses():
    keeps(["Order(n)", "Plan(a)"])


@case(
    """keep= can't be read.
  got:      keep=('Order(n)', 'Plan(a, Order)')
  expected: the set-ups first: Plan(Order, a)
  defined:  test_kernel_messages.py:N"""
)
def keep_with_the_set_up_last():
    keeps(("Order(n)", "Plan(a, Order)"))


@case(
    """invalid value for `most`.
  got:      most=-1
  expected: an integer of 0 or more: how many set-ups are kept that no call uses now
  defined:  test_kernel_messages.py:N
  write:    most=16"""
)
def keep_less_than_none():
    keeps("Plan(a)", most=-1)


@case(
    """`keep` has no meaning for a handler of your own.
  got:      handler='h', keep='Plan(a)'
  expected: handler= alone, or a plain function and keep=
  why:      XLA calls the handler directly
  defined:  test_kernel_messages.py:N"""
)
def keep_for_a_handler():
    keeps("Plan(a)", handler="h")


@case(
    """rms_norm: it keeps no set-ups.
  expected: a kernel that was made with keep=
  defined:  test_kernel_messages.py:N
  write:    kernels.cpp(source, signature, keep="Factors(a)")"""
)
def kept_by_a_kernel_without():
    rms_norm.forget()


@case(
    """f: it keeps no Order.
  expected: 'Plan'
  defined:  test_kernel_messages.py:N"""
)
def kept_of_another_class():
    keeps("Plan(a)").kept("Order")


@case(
    """`most` has no meaning without keep=.
  got:      most=3
  expected: keep=, which says what is kept
  defined:  test_kernel_messages.py:N
  write:    keep="Factors(a)"  # for a struct Factors { Factors(const double* a, int64_t n); ~Factors(); };"""
)
def most_alone():
    keeps(None, most=3)


@case(
    """a CUDA kernel keeps nothing that is made from the operand 'a'.
  got:      keep='Plan(a)'
  expected: attributes and sizes of f(a: f64[n]; k: i64) -> y: f64[n]
  why:      a is in the device's memory: to compare it, each call would copy it to the host and wait
  defined:  test_kernel_messages.py:N
  write:    x = solve(factorize(a), b)  # two kernels: the first returns its factors as arrays"""
)
def keep_of_an_operand_on_a_gpu():
    kernels.cuda("", "f(a: f64[n]; k: i64) -> y: f64[n]", keep="Plan(a)")


@case(
    """kernels.c_function has no keep=.
  got:      keep='Plan(n)'
  expected: kernels.cpp with keep=, or def_host with keep=
  why:      it knows one address, and a set-up needs a function that frees it too
  defined:  test_kernel_messages.py:N
  write:    kernels.cpp("struct Plan { void* of; Plan(int64_t n) : of(make_plan(n)) {} ~Plan() { free_plan(of); } }; ...", signature, keep="Plan(n)", libraries=["plans"])"""
)
def keep_for_an_address():
    kernels.c_function(0, "f(a: f64[n]) -> y: f64[n]", keep="Plan(n)")


@case(
    """kernels.numba has no keep=.
  got:      keep='Plan(n)'
  expected: kernels.cpp with keep=, or def_host with keep=
  why:      what a Numba function makes are arrays, and those can be results
  defined:  test_kernel_messages.py:N
  write:    x = solve(factorize(a), b)  # two operations; the rules of the second use the factors again"""
)
def keep_for_numba():
    kernels.numba(lambda a: a, "f(a: f64[n]) -> y: f64[n]", keep="Plan(n)")


@case(
    """kernels.ffi has no keep=.
  got:      keep='Plan(n)'
  expected: kernels.cpp with keep=, or def_host with keep=
  why:      XLA calls the handler directly; a handler of two stages has a state for each place in a program
  defined:  test_kernel_messages.py:N
  write:    kernels.ffi({"instantiate": make, "execute": run}, signature)"""
)
def keep_for_a_compiled_handler():
    kernels.ffi("target", "f(a: f64[n]) -> y: f64[n]", keep="Plan(n)")


# ------------------------------------------------------------------------------------------------------- attributes
@case(
    """rms_norm: the attribute 'eps' has a value that does not fit.
  got:      'small'
  expected: eps: f32 = 1e-06
  defined:  test_kernel_messages.py:N"""
)
def an_attribute_of_another_type():
    rms_norm(X, W, eps="small")


@case(
    """rms_norm: the attribute 'eps' is a traced value.
  got:      float32[] (traced)
  expected: a number that is known while tracing, for eps: f32 = 1e-06
  why:      attributes are part of the compiled program; a traced value must be an operand
  defined:  test_kernel_messages.py:N
  write:    (..., eps: f32) -> ...  # before the `;`, so that it is an operand"""
)
def a_traced_attribute():
    jax.jit(lambda eps: rms_norm(X, W, eps=eps))(1.0)


@case(
    """rms_norm: unknown attribute 'epsilon'.
  got:      epsilon=...
  expected: attributes eps: rms_norm(x: f32[n, d], w: f32[d]; eps: f32 = 1e-06) -> f32[n, d]
  defined:  test_kernel_messages.py:N"""
)
def an_unknown_attribute():
    rms_norm(X, W, epsilon=1.0)


@case(
    """f: the attribute 'eps' is missing.
  expected: eps: f32
  defined:  test_kernel_messages.py:N
  write:    eps=..."""
)
def a_missing_attribute():
    kernels.cpp("", "f(x: f32[n]; eps: f32) -> f32[n]")(W)


@case(
    """rms_norm: operand 'w' is given by keyword.
  got:      w=...
  expected: operands by position, attributes by keyword: rms_norm(x: f32[n, d], w: f32[d]; eps: f32 = 1e-06) -> f32[n, d]
  defined:  test_kernel_messages.py:N
  write:    rms_norm(x, w)"""
)
def an_operand_by_keyword():
    rms_norm(X, w=W)


@case(
    """rms_norm: operand 'x' is a PRNG key.
  got:      key<fry>[]
  expected: f32[n, d]
  defined:  test_kernel_messages.py:N
  write:    jax.random.key_data(x)  # u32[..., 2] in the signature"""
)
def a_key():
    rms_norm(jax.random.key(0), W)


# ----------------------------------------------------------------------------------------------------------- options
@case(
    """invalid value for `threads`.
  got:      threads=0
  expected: an integer of 1 or more, or None for all of XLA's threads
  defined:  test_kernel_messages.py:N
  write:    threads=None"""
)
def no_threads():
    kernels.cpp(LOOP, "rms_norm(x: f32[n]) -> f32[n]", threads=0)


@case(
    """invalid value for `flags`.
  got:      flags='-O2'
  expected: a sequence of words
  defined:  test_kernel_messages.py:N
  write:    flags=('-O2',)"""
)
def one_flag():
    kernels.cpp(LOOP, "rms_norm(x: f32[n]) -> f32[n]", flags="-O2")


@case(
    """invalid value for `order`.
  got:      order='K'
  expected: 'C' | 'F'
  defined:  test_kernel_messages.py:N
  write:    order='C'"""
)
def an_unknown_order():
    kernels.cpp(LOOP, "rms_norm(x: f32[n]) -> f32[n]", order="K")


@case(
    """f: its type variables must be given.
  got:      none
  expected: T: one of f32 f64 c64 c128 i8 i16 i32 i64 u8 u16 u32 u64 bool
  defined:  test_kernel_messages.py:N
  write:    f.build(T='f32')"""
)
def a_type_variable_that_is_not_given():
    kernels.cpp("", "f(x: T[n]) -> T[n]").build()


# ------------------------------------------------------------------------------------------- signatures and arguments
@case(
    """this signature can't be read: 'f(x: f32[n])'
  got:      f(x: f32[n])
  expected: (operands; attributes) -> results
  defined:  test_kernel_messages.py:N
  write:    "(x: f32[n, d], w: f32[d]; eps: f32) -> f32[n, d]"  # for example"""
)
def a_signature_without_an_arrow():
    kernels.cpp("", "f(x: f32[n])")


@case(
    """this signature can't be read: 'f(x: float[n]) -> float[n]'
  got:      float
  expected: one of f32 f64 f16 bf16 c64 c128 i8 i16 i32 i64 u8 u16 u32 u64 bool, or a capital letter for any of them
  defined:  test_kernel_messages.py:N
  write:    "(x: f32[n, d], w: f32[d]; eps: f32) -> f32[n, d]"  # for example"""
)
def a_signature_with_an_unknown_type():
    kernels.cpp("", "f(x: float[n]) -> float[n]")


@case(
    """this signature can't be read: 'f(x: f32[n]) -> f32[m]'
  got:      m
  expected: an integer, a size of an operand or an integer attribute, or + - * // of them; known here: n
  defined:  test_kernel_messages.py:N
  write:    "(x: f32[n, d], w: f32[d]; eps: f32) -> f32[n, d]"  # for example"""
)
def a_signature_with_an_unknown_size():
    kernels.cpp("", "f(x: f32[n]) -> f32[m]")


@case(
    """arguments='x, &m, out' can't be read.
  got:      &m
  expected: one of x, out, n; with & a pointer to a number; a constant; result=operand of the same type; &status; scratch f64[n]
  why:      the signature is f(x: f32[n]) -> f32[n]
  defined:  test_kernel_messages.py:N"""
)
def arguments_that_are_unknown():
    kernels.cpp("", "f(x: f32[n]) -> f32[n]", arguments="x, &m, out")


@case(
    """which function of the source is the kernel?
  got:      extern "C" functions a, b
  expected: its name before the signature
  defined:  test_kernel_messages.py:N
  write:    "a(x: f32[n]) -> f32[n]\""""
)
def which_function():
    kernels.cpp('extern "C" void a() {}  extern "C" void b() {}', "(x: f32[n]) -> f32[n]")


@case(
    """which function of the source is the kernel?
  got:      no extern "C" function
  expected: its name before the signature
  defined:  test_kernel_messages.py:N
  write:    "my_function(x: f32[n]) -> f32[n]\""""
)
def which_function_of_none():
    kernels.cpp("void a() {}", "(x: f32[n]) -> f32[n]")


@case(
    """a CUDA kernel cannot pass 'a' by value, because it is in the device's memory.
  got:      a: f32
  expected: a pointer, a: f32[], or an attribute, after the `;`
  defined:  test_kernel_messages.py:N"""
)
def a_number_by_value_on_a_gpu():
    kernels.cuda("", "f(x: f32[n], a: f32) -> f32[n]")


# --------------------------------------------------------------------------------------------------------- pointers
@case(
    """c_function got something that is not a C function.
  got:      a builtins.str
  expected: a ctypes function, a cffi function pointer, a scipy.LowLevelCallable, a capsule of Cython, a numba cfunc, or an address that is not 0
  defined:  test_kernel_messages.py:N"""
)
def no_c_function():
    kernels.c_function("cos", "(f64) -> f64")


@case(
    """jv: the function's arguments do not match the signature.
  got:      (double)
  expected: double (double, double, int __pyx_skip_dispatch)
  defined:  test_kernel_messages.py:N
  write:    c_function(..., arguments='x, &n, out')  # their order: see jaxprim.kernels.arguments"""
)
def another_prototype():
    pointers.check_prototype("jv", "double (double, double, int __pyx_skip_dispatch)", ["double"])


@case(
    """hypotf: the function's arguments do not match the signature.
  got:      (float)
  expected: float (float, float)
  defined:  test_kernel_messages.py:N
  write:    c_function(..., arguments='x, &n, out')  # their order: see jaxprim.kernels.arguments"""
)
def another_prototype_of_ctypes():
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    libm.hypotf.argtypes, libm.hypotf.restype = [ctypes.c_float, ctypes.c_float], ctypes.c_float
    kernels.c_function(libm.hypotf, "(f32) -> f32")


@case(
    """j0: the function's return type does not match the signature.
  got:      float
  expected: double (double, int __pyx_skip_dispatch)
  why:      results returned by value are not converted
  defined:  test_kernel_messages.py:N"""
)
def another_returned_type():
    pointers.check_returned("j0", "double (double, int __pyx_skip_dispatch)", "float")


# ---------------------------------------------------------------------------------------------------------- compiling
@case(
    """a kernel's source file can't be read.
  got:      no_such_file.cpp: No such file or directory
  expected: a file, from the working directory on where its path is relative
  write:    Path(__file__).parent / 'no_such_file.cpp'  # beside the Python file, from wherever that runs"""
)
def a_file_that_is_not_there():
    kernels.cpp(["no_such_file.cpp"], "f(x: f32[n]) -> f32[n]")


# ------------------------------------------------------------------------------------- derivatives from the source
def differentiable(source: str, signature: str, way: Any = True, **options: Any):
    return kernels.cpp(source, signature, differentiable=way, **options)


@case(
    """plain: its derivative cannot be taken from this source: the function takes no other numbers than its own.
  got:      void plain(const float* in, int64_t n, float* y)
  expected: a template of its number type, which is compiled again with numbers that carry derivatives
  defined:  test_kernel_messages.py:N
  write:    template <class T> void plain(const T* in, int64_t n, T* y)"""
)
def a_function_that_is_no_template():
    differentiable('extern "C" void plain(const float* in, int64_t n, float* y) {}', "plain(x: f32[n]) -> f32[n]")


@case(
    """f: its derivative cannot be taken from this source: x has complex numbers.
  got:      x: c64
  expected: f32, f64, integers and bool
  why:      std::complex takes no other numbers than C++'s own
  defined:  test_kernel_messages.py:N
  write:    @p.def_vjp  # for the Primitive p that the kernel implements"""
)
def a_complex_operand_of_a_template():
    differentiable("", "f(x: c64) -> c64")


@case(
    """f: its derivative cannot be taken from this source: x has half precision numbers.
  got:      x: bf16[n]
  expected: f32, f64, integers and bool
  why:      a C++ function gets bf16 numbers as bits
  defined:  test_kernel_messages.py:N
  write:    @p.def_vjp  # for the Primitive p that the kernel implements"""
)
def half_precision_of_a_template():
    differentiable("", "f(x: bf16[n]) -> bf16[n]")


@case(
    """f: its derivative cannot be taken from this source: f32 and f64 numbers move together.
  got:      f(x: f32[n], y: f64[n]) -> f64[n]
  expected: one type for all real operands and results
  defined:  test_kernel_messages.py:N
  write:    "f(x: f64[n], y: f64[n]) -> f64[n]\""""
)
def two_types_of_real_numbers():
    differentiable("", "f(x: f32[n], y: f64[n]) -> f64[n]")


@case(
    """f: its derivative cannot be taken from this source: a variable keeps numbers between calls.
  got:      static std::vector<T> last, at test_kernel_messages.py:N
  expected: numbers that live as long as a call
  why:      the next call would go on with the derivatives of this one
  defined:  test_kernel_messages.py:N
  write:    std::vector<T> last  # without static; or static constexpr for a constant"""
)
def numbers_that_are_kept():
    source = """template <class T>
    static T twice(T x) { static const double two = 2; return two * x; }  // static T none;
    template <class T> void f(const T* x, int64_t n, T* y) {
      static std::vector<T> last(n);
    }"""
    differentiable(source, "f(x: f32[n]) -> f32[n]")


@case(
    """invalid value for `differentiable`.
  got:      differentiable='reverse'
  expected: True, or how a VJP is computed: 'tangents' or 'tape'
  defined:  test_kernel_messages.py:N
  write:    differentiable=True"""
)
def an_unknown_way_to_differentiate():
    differentiable("", "f(x: f32[n]) -> f32[n]", "reverse")


@case(
    """invalid value for `differentiable`.
  got:      differentiable='tangents' for f(x: f32[n]) -> f32[n]
  expected: integers as the sizes of all real operands, as there is a tangent for each number
  defined:  test_kernel_messages.py:N
  write:    differentiable='tape'"""
)
def tangents_for_nobody_knows_how_many_numbers():
    differentiable("", "f(x: f32[n]) -> f32[n]", "tangents")


@case(
    """a kernel with keep= is not differentiable from its source.
  got:      differentiable=True, keep='F(x)'
  expected: keep= alone, and rules of a Primitive
  why:      what is kept between calls would keep derivatives too
  defined:  test_kernel_messages.py:N
  write:    @p.def_vjp  # for the Primitive p that the kernel implements"""
)
def a_set_up_of_a_template():
    differentiable("", "f(x: f32[n]) -> f32[n]", keep="F(x)")


@case(
    """rms_norm: it has no derivatives to build.
  got:      orders=1
  expected: a differentiable kernel
  defined:  test_kernel_messages.py:N
  write:    kernels.cpp(source, signature, differentiable=True)"""
)
def orders_of_a_kernel_without_derivatives():
    rms_norm.build(orders=1)


# -------------------------------------------------------------------------------------------------- use of the kernel
@case(
    """rms_norm: a kernel has no derivative of its own.
  got:      a kernel under differentiation
  expected: kernels.cpp(..., differentiable=True), or a Primitive with a rule, implemented by the kernel
  defined:  test_kernel_messages.py:N
  write:    p = Primitive('rms_norm'); p.def_impl(rms_norm); @p.def_vjp"""
)
def a_derivative():
    jax.grad(lambda x: rms_norm(x, W).sum())(X)


@case(
    """f: a kernel has no transpose of its own.
  got:      a kernel under transposition
  expected: a Primitive with a transpose rule or a VJP rule, implemented by the kernel
  defined:  test_kernel_messages.py:N
  write:    @p.def_transpose  # or @p.def_vjp, for the Primitive p that the kernel 'f' implements"""
)
def a_transpose():
    one = kernels.cpp("void f(const float* x, float* y) { *y = *x; }", "f(x: f32[]) -> f32[]")
    jax.linear_transpose(one, np.float32(1))(np.float32(1))


@case(
    """rms_norm: not registered for cuda; registered: cpu.
  got:      a program for cuda
  expected: a program for cpu, the platform of this kernel
  defined:  test_kernel_messages.py:N
  write:    p.def_kernel(rms_norm, platform='cpu')  # beside an impl for other platforms"""
)
def another_platform():
    jax.jit(rms_norm).trace(X, W).lower(lowering_platforms=("cuda",))


@case(
    """p: it has no host to use.
  got:      use('host')
  expected: one of impl, kernel
  write:    @p.def_host"""
)
def an_implementation_that_is_not_there():
    p = Primitive("p")
    p.def_impl(lambda x: x)
    p.use("host")


@case(
    """use got an unknown implementation.
  got:      'numpy'
  expected: 'impl' | 'host' | 'kernel'
  write:    with jaxprim.use('impl'):"""
)
def an_implementation_that_is_unknown():
    with jaxprim.use("numpy"):
        pass


# ----------------------------------------------------------------------------------------------------------- from_numpy
@case(
    """stairs: its finite differences are not accurate here.
  got:      an error of about 2.1e-03, for a derivative of about 2.0e+00
  expected: an error of at most 1.2e-05
  why:      the function is not smooth nearby, or its values are noisy
  rule:     test_kernel_messages.py:N
  write:    @stairs.def_jvp  # or def_vjp: the derivative itself"""
)
def finite_differences_of_a_step():
    with jax.enable_x64(True):
        jax.grad(from_numpy(lambda x: np.floor(x * 1e6) / 1e6, derivative="finite differences", name="stairs"))(1.3)


@case(
    """hypot: like='x' is not an operand.
  got:      x
  expected: one of x1, x2; a signature such as '(f64[n]) -> f64[n]'; or a jax.ShapeDtypeStruct"""
)
def like_what():
    from_numpy(np.hypot, like="x")


@case(
    """sinc: from_numpy got an unknown derivative.
  got:      derivative='exact'
  expected: derivative='finite differences', or none
  write:    @sinc.def_vjp  # for a rule of your own"""
)
def another_derivative():
    from_numpy(np.sinc, derivative="exact")


@pytest.mark.parametrize(("run", "message"), [row[1:] for row in CASES], ids=[row[0] for row in CASES])
def test_message(run, message):
    assert said(run) == message


# ------------------------------------------------------------------------------------------- what the machine must give
@pytest.fixture
def compiler(monkeypatch, tmp_path):
    """A compiler that always says the same."""
    script = tmp_path / "c++"
    script.write_text('#!/bin/sh\n[ "$1" = --version ] && echo 1.0 && exit\necho "$MESSAGE" >&2\nexit 1\n')
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    monkeypatch.setenv("JAXPRIM_CACHE", str(tmp_path / "cache"))
    return lambda message: monkeypatch.setenv("MESSAGE", message)


def test_a_compile_error(compiler):
    compiler("kernel.py:3:7: error: expected ';'\n    3 |   x y\n      |     ^")
    assert (
        said(lambda: rms_norm.build())
        == """rms_norm: it does not compile.
  got:      c++ says:
    kernel.py:3:7: error: expected ';'
        3 |   x y
          |     ^"""
    )


def test_another_declaration(compiler):
    compiler("jaxprim's handler:9:5: error: cannot convert 'const float*' to 'double*'")
    assert (
        said(lambda: rms_norm.build())
        == """rms_norm: it does not compile.
  got:      c++ says:
    jaxprim's handler:9:5: error: cannot convert 'const float*' to 'double*'
  expected: a function declared as void rms_norm(const float* x, const float* w, float eps, int64_t n, int64_t d, float* out)"""
    )


def test_no_cxx_compiler(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(build.platform, "system", lambda: "Linux")
    assert (
        said(lambda: build.compiler(CPP))
        == """no C++ compiler was found.
  got:      none of g++, clang++ on the PATH
  expected: g++ or clang++, or its path in CXX
  write:    apt install g++, dnf install gcc-c++, or conda install -c conda-forge cxx-compiler"""
    )


def test_no_cuda_compiler(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("NVCC", raising=False)
    assert (
        said(lambda: build.compiler(CUDA))
        == """no CUDA compiler was found.
  got:      none of nvcc on the PATH
  expected: nvcc, or its path in NVCC
  write:    install the CUDA toolkit: conda install -c nvidia cuda-nvcc, or developer.nvidia.com/cuda-downloads"""
    )


def test_numba_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    assert (
        said(lambda: kernels.numba(lambda x: x))
        == """kernels.numba needs Numba, which is not installed.
  why:      Numba is an extra of jaxprim
  write:    pip install 'jaxprim[numba]'"""
    )


@cxx
def test_a_handler_that_is_not_in_the_source():
    assert (
        said(lambda: kernels.cpp("", "f(x: f32[n]) -> f32[n]", handler="F").build())
        == """the library has no symbol 'F'.
  expected: a handler: XLA_FFI_DEFINE_HANDLER_SYMBOL(F, ...)"""
    )


@cxx
def test_a_symbol_that_is_nowhere():
    source = 'extern "C" float nowhere(float);\nvoid f(const float* x, float* out) { *out = nowhere(*x); }'
    assert (
        said(lambda: kernels.cpp(source, "f(f32[]) -> f32[]").build())
        == """f: its library can't be loaded.
  got:      undefined symbol: nowhere
  expected: a library whose symbols are all defined, by its sources or by the libraries it links with
  why:      a function is declared, but no source defines it and its library is not listed
  write:    libraries=['m']  # the library's name, as after -l, or its path"""
    )


def test_a_cache_that_cannot_be_written(compiler, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXPRIM_CACHE", str(tmp_path / "file" / "cache"))
    assert (
        said(lambda: rms_norm.build())
        == f"""compiled kernels can't be stored.
  got:      {Path("file/cache")}: Not a directory
  expected: a folder with space left, in which this user may write files and lock them
  write:    JAXPRIM_CACHE=/path/to/a/folder  # in the environment"""
    )


# -------------------------------------------------------------------------------------------------------------- numba
@needs("numba")
@cxx
def test_numba_writes_its_input():
    def spoil(x, out):
        x[0] = 0
        out[0] = x[0]

    assert (
        said(lambda: kernels.numba(spoil, "(x: T[n]) -> T[n]")(W))
        == """spoil: the Numba function writes its input.
  got:      a write at test_kernel_messages.py:N
  expected: inputs that are only read (JAX may share their memory)
  write:    x = x.copy()  # before writing to it"""
    )


@needs("numba")
@cxx
def test_numba_cannot_compile():
    def unknown(x, out):
        out[0] = no_such_name(x)  # noqa: F821

    assert (
        said(lambda: kernels.numba(unknown, "(x: T[n]) -> T[n]")(W))
        == """unknown: Numba can't compile it.
  got:      Numba says:
    NameError: name 'no_such_name' is not defined
  expected: a function that Numba compiles for (x: f32[n]) -> f32[n]"""
    )


@needs("numba")
def test_a_numba_function_in_place_gets_the_operand_itself():
    def adds(x, w):
        x += w

    assert (
        said(lambda: kernels.numba(adds, "(x: T[n], w: T[n]) -> y: T[n]", aliases={"y": "x"}))
        == """adds: a function that works in place gets 'x' as 'y'.
  got:      the parameters x, w
  expected: w, y
  why:      y holds the values of x when the function starts, and the result when it ends
  defined:  test_kernel_messages.py:N
  write:    def adds(w, y):"""
    )


@needs("numba")
def test_numba_gets_no_function():
    assert (
        said(lambda: kernels.numba(np.sin))
        == """kernels.numba got something that is not a Python function.
  got:      a numpy.ufunc
  expected: a Python function, or one that numba.njit compiled
  why:      ufuncs of NumPy and numba.vectorize take arrays as Python objects; kernels.numba itself applies a function of numbers to each element
  defined:  test_kernel_messages.py:N
  write:    kernels.numba(lambda x: np.sin(x))"""
    )


@needs("numba")
def test_numba_takes_another_number_of_arguments():
    assert (
        said(lambda: kernels.numba(lambda x, y, z, t: x, "(x: T[n]) -> T[n]", name="four"))
        == """four: the function's arguments do not fit the signature.
  got:      4 arguments
  expected: 1, if it returns its results, or 2, if it writes them: (x: T[n]) -> T[n]
  defined:  test_kernel_messages.py:N"""
    )


@needs("numba")
@cxx
def test_numba_has_no_half_precision():
    half = jnp.ones(2, jnp.bfloat16)
    assert (
        said(lambda: kernels.numba(lambda x: x, "(x: bf16[n]) -> bf16[n]", name="same")(half))
        == """Numba has no bf16 on CPUs.
  got:      x: bf16[n]
  expected: f32, f64, c64, c128, an integer or bool
  write:    x.astype('float32')"""
    )


# ------------------------------------------------------------------------------------- errors of a kernel that is running
def raised(run: Callable[[], Any]) -> str:
    messages = set()
    for call in (run, run, jax.jit(run)):
        with pytest.raises(jax.errors.JaxRuntimeError) as caught:
            jax.block_until_ready(call())
        assert type(caught.value) is jax.errors.JaxRuntimeError
        messages.add(str(caught.value).splitlines()[0])
    (message,) = messages
    return message


@cxx
def test_a_kernel_that_throws_or_returns_a_status():
    source = '#include <stdexcept>\nint f(int64_t k, double* out) { if (k == 9) throw std::domain_error("k is 9"); return k; }'
    with jax.enable_x64(True):
        f = kernels.cpp(source, "f(; k: i64) -> f64[]", status={1: "k is 1"})
        assert raised(lambda: f(k=9)) == "UNKNOWN: f: k is 9"
        assert raised(lambda: f(k=1)) == "UNKNOWN: f: k is 1"
        assert raised(lambda: f(k=2)) == "UNKNOWN: f: the kernel returned status 2"


@cxx
@pytest.mark.parametrize("runs_well_first", [False, True])
def test_the_type_of_the_exception(runs_well_first):
    source = (
        '#include <stdexcept>\nvoid f(const float* x, float* out) { if (*x < 0) throw std::domain_error("x < 0"); }'
    )
    kernel = kernels.cpp(source, "f(x: f32[]) -> f32[]")
    p = Primitive("p")
    p.def_impl(kernel)
    for call in (kernel, p):
        if runs_well_first:
            jax.block_until_ready(call(1.0))
        with pytest.raises(jax.errors.JaxRuntimeError) as caught:
            jax.block_until_ready(call(-1.0))
        assert str(caught.value).splitlines()[0] == "UNKNOWN: f: x < 0"


@cxx
def test_a_size_that_the_function_cannot_take():
    with jax.enable_x64(True):
        f = kernels.cpp("void f(const double* x, int8_t n, double* out) {}", "f(x: f64[n]) -> f64[]")
        expected = "INVALID_ARGUMENT: f: a size of 300 does not fit the integer type of the kernel's argument"
        assert raised(lambda: f(np.ones(300))) == expected


@needs("numba")
@cxx
def test_a_numba_function_that_raises_or_returns_another_shape():
    def checked(x):
        if x.sum() < 0:
            raise ValueError("negative")
        return x[1:]

    f = kernels.numba(checked, "(x: T[n]) -> T[n]")
    raises = "UNKNOWN: checked: the Numba function raised an exception; checked.py_func(...) shows which"
    shape = "UNKNOWN: checked: the Numba function returned an array whose shape does not match its signature: (x: T[n]) -> T[n]"
    assert raised(lambda: f(-W)) == raises
    assert raised(lambda: f(W)) == shape


# ------------------------------------------------------------------------------------- parameters, pointers, compilers
def test_parameters_in_another_order():
    source = "void f(const float* x, int64_t d, int64_t n, float* out) {}"
    assert (
        said(lambda: kernels.cpp(source, "f(x: f32[n, d]) -> f32[n, d]"))
        == """f: its parameters have another order than what it is given.
  got:      the parameters x, d, n, out
  expected: x, n, d, out, the order in which jaxprim passes them
  why:      arguments go by position, so each would get another's value
  defined:  test_kernel_messages.py:N
  write:    arguments="x, d, n, out\""""
    )


def test_an_integer_parameter_for_a_real_number():
    source = "void f(const float* x, int64_t k, int64_t n, float* out) {}"
    assert (
        said(lambda: kernels.cpp(source, "f(x: f32[n]; k: f64) -> f32[n]"))
        == """f: the parameter for 'k' is an integer, and what it is given is real.
  got:      int64_t k
  expected: double k
  why:      the compiler would cut off the fraction
  defined:  test_kernel_messages.py:N
  write:    double k in f, or an integer type in the signature"""
    )


def test_a_capsule_without_a_prototype():
    capsule = jax.ffi.pycapsule(ctypes.CDLL(ctypes.util.find_library("m")).cos)
    assert (
        said(lambda: kernels.c_function(capsule, "(f64) -> f64"))
        == """c_function got a capsule that does not hold a C function's prototype.
  got:      a capsule without a name
  expected: one of Cython's, module.__pyx_capi__['name'], or the function's address
  why:      a handler for XLA's FFI is in such a capsule too, and is called in another way
  defined:  test_kernel_messages.py:N
  write:    kernels.ffi(capsule, ...)  # if it is such a handler"""
    )


def test_a_handler_that_is_none():
    assert (
        said(lambda: kernels.ffi(3.0, "(x: f64[n]) -> f64[n]"))
        == """kernels.ffi got something that is no handler.
  got:      a builtins.float
  expected: a capsule, a ctypes function, an address, the name of a registered target, or a dict of such by stage
  defined:  test_kernel_messages.py:N"""
    )


def test_handlers_of_unknown_stages():
    assert (
        said(lambda: kernels.ffi({"run": 1}, "(x: f64[n]) -> f64[n]"))
        == """kernels.ffi got handlers of other stages.
  got:      'run'
  expected: 'execute', and maybe 'instantiate', 'prepare', 'initialize'
  defined:  test_kernel_messages.py:N"""
    )


def test_a_target_that_is_not_registered():
    assert (
        said(lambda: kernels.ffi("lapack_spotrf", "chol(x: f32[n]) -> f32[n]").build())
        == """chol: no handler is registered under its name.
  got:      'lapack_spotrf' for cpu
  expected: a name such as 'lapack_spotrf_ffi', 'lapack_zpotrf_ffi', 'lapack_dpotrf_ffi'
  why:      the package that has the handler may register it when it is imported
  write:    jax.ffi.register_ffi_target('lapack_spotrf', capsule, platform='cpu')"""
    )


def test_an_attribute_that_is_given_twice():
    assert (
        said(lambda: kernels.ffi("lapack_spotrf_ffi", "f(x: f32[n]; eps: f32) -> f32[n]", attributes={"eps": 1}))
        == """the attribute 'eps' is given twice.
  got:      attributes={'eps': ...}, and f(x: f32[n]; eps: f32) -> f32[n]
  expected: in the signature what differs from call to call, and in attributes= the rest
  defined:  test_kernel_messages.py:N"""
    )


def test_a_handler_of_a_later_xla(monkeypatch):
    monkeypatch.setattr(metadata, "api_of", lambda _: (0, 99))
    monkeypatch.setattr(from_handler, "api_of_headers", lambda: (0, 5))
    assert (
        said(lambda: kernels.ffi(ctypes.CDLL(ctypes.util.find_library("m")).cos, "(x: f64[n]) -> f64[n]"))
        == """the handler was compiled with a later version of XLA's API than this JAX has.
  got:      0.99
  expected: at most 0.5
  why:      XLA would refuse it, and JAX would then have no device at all
  defined:  test_kernel_messages.py:N
  write:    pip install --upgrade jax  # or compile the handler with the headers of this JAX"""
    )


def test_the_wrong_compiler_for_a_platform(monkeypatch):
    monkeypatch.setenv("CXX", "true")
    assert (
        said(lambda: build_ahead.build([rms_norm], Path("nowhere"), machine=toolchain.Machine("linux", "riscv64")))
        == f"""the compiler does not build for linux-riscv64.
  got:      true, which builds for {toolchain.this_machine()}
  expected: a compiler for linux-riscv64, in CXX
  write:    CXX=riscv64-linux-gnu-g++"""
    )


def test_types_that_cannot_be_built():
    made = kernels.cpp("", "f(x: T[n], y: U[n]) -> T[n]")
    build_all = lambda **types: build_ahead.build([made], Path("nowhere"), types=types)
    assert (
        said(lambda: build_all(T=["f16"]))
        == """f: its type variable T can't be f16.
  got:      T=f16
  expected: some of f32 f64 c64 c128 i8 i16 i32 i64 u8 u16 u32 u64 bool
  defined:  test_kernel_messages.py:N"""
    )
    assert (
        said(build_all)
        == """f: its signature allows 169 sets of dtypes.
  got:      f(x: T[n], y: U[n]) -> T[n]
  expected: at most 64
  defined:  test_kernel_messages.py:N
  write:    --type T=f32,f64"""
    )


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="NOT TESTED: this system does not say where code is")
def test_an_address_of_data():
    assert (
        said(lambda: kernels.c_function(8, "(f64) -> f64"))
        == """c_function got an address at which there is no code.
  got:      0x8, from a builtins.int
  expected: the address of a function
  defined:  test_kernel_messages.py:N"""
    )


def test_a_status_that_is_no_mapping():
    assert (
        said(lambda: kernels.cpp(LOOP, str(rms_norm.signature), status=[1]))
        == """invalid value for `status`.
  got:      status=[1]
  expected: what each integer means, or True if the function returns an integer that is 0 on success
  defined:  test_kernel_messages.py:N
  write:    status={1: 'the matrix is singular'}"""
    )


def test_a_compiler_without_an_option(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "false")
    monkeypatch.setenv("JAXPRIM_CACHE", str(tmp_path))
    monkeypatch.setattr(toolchain, "this_machine", lambda: toolchain.Machine("linux", "x86_64"))
    toolchain.target.cache_clear()
    assert (
        said(lambda: kernels.cpp(LOOP, str(rms_norm.signature), fast_math=True, native=True).build())
        == """rms_norm: this compiler has no option for fast_math=True and native=True.
  got:      false, which does not take -ffast-math -march=native
  expected: g++ or clang++, of 2021 or later
  write:    fast_math=False, native=False"""
    )
    toolchain.target.cache_clear()


def test_a_switch_that_is_neither_true_nor_false():
    assert (
        said(lambda: kernels.cpp(LOOP, str(rms_norm.signature), fast_math=1))
        == """invalid value for `fast_math`.
  got:      fast_math=1
  expected: True or False
  defined:  test_kernel_messages.py:N
  write:    fast_math=True"""
    )


def test_a_compiler_that_writes_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "true")
    monkeypatch.setenv("JAXPRIM_CACHE", str(tmp_path))
    assert (
        said(lambda: kernels.cpp(LOOP, str(rms_norm.signature)).build())
        == """rms_norm: the compiler wrote no library.
  got:      true reported success
  expected: one that takes the options of g++, and no option in flags= that stops it early"""
    )
