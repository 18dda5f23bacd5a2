"""Eager calls: one look-up in the steady state, bounded tables, and the same rules for primitives and kernels."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprim
from jaxprim import BadCall, Primitive, kernels
from jaxprim._eager import EagerCalls
from jaxprim._rules import rules_of

X = jnp.array([1.0, 2.0, 3.0], "float32")
LIBRARY = str(Path(jaxprim.__file__).parent)


def power_of():
    op = Primitive("power")
    op.def_impl(lambda x, y=1.0, *, n=1, m=0: x * y**n + m)
    return op


@pytest.fixture(name="kernel", scope="module")
def _kernel(kernel_cache):
    return kernels.cpp(
        "void axpb(const float* x, float a, int64_t n, float* y) { for (int64_t i = 0; i < n; ++i) y[i] = a * x[i]; }",
        "axpb(x: f32[n]; a: f32 = 2) -> f32[n]",
    )


def entered(fn):
    """The names of the library's functions that a call enters."""
    names = []

    def profile(frame, event, _):
        if event == "call" and frame.f_code.co_filename.startswith(LIBRARY):
            names.append(frame.f_code.co_name)

    sys.setprofile(profile)
    try:
        fn()
    finally:
        sys.setprofile(None)
    return names


# ------------------------------------------------------------------------------------------------------------ the path
@pytest.mark.parametrize(
    ("args", "params", "expected"),
    [((X, 2.0), {}, []), ((X, 2.0), {"n": 2}, ["_spelling", "<genexpr>", "typed", "<genexpr>"])],
    ids=["plain", "param"],
)
def test_the_steady_state_is_one_look_up(args, params, expected):
    op = power_of()
    op(*args, **params)
    assert entered(lambda: op(*args, **params)) == ["__call__", "call", *expected]


def test_a_kernel_takes_the_same_path(kernel):
    kernel(X)
    assert entered(lambda: kernel(X)) == ["__call__", "call"]


def test_spellings_of_one_call_are_compiled_once():
    traced = []
    op = Primitive("op")
    op.def_impl(lambda x, y, *, n=1, m=2: traced.append(1) or x * y * n * m)
    op(X, X)
    first = len(traced)  # JAX 0.10 traces in two contexts
    for call in (
        lambda: op(X, X, n=1),
        lambda: op(X, X, m=2, n=1),
        lambda: op(X, y=X),
        lambda: op(y=X, x=X, m=2),
        lambda: op.bind(X, X, n=1, m=2),
    ):
        for _ in range(2):
            np.testing.assert_allclose(call(), 2 * X * X)
    assert len(traced) == first
    op(X, X, n=1.0)  # another type is another param
    assert len(traced) > first


def test_inside_a_trace_it_is_staged_also_with_constants(kernel):
    op = power_of()
    for fn, name in ((lambda: op(X, 2.0), "power"), (lambda: op(X, n=2), "power"), (lambda: kernel(X), "kernel_call")):
        fn()  # an entry that is there already changes nothing
        equations = jax.make_jaxpr(lambda y, fn=fn: fn() + y)(X).eqns
        assert equations[0].primitive.name == name


def test_an_operand_by_name_that_is_traced_or_not_hashable():
    op = power_of()
    np.testing.assert_allclose(op(X, y=[2.0][0]), 2 * X)
    np.testing.assert_allclose(op(X, y=np.full(3, 2.0, "float32"), n=2), 4 * X)
    np.testing.assert_allclose(jax.jit(lambda y: op(X, y=y))(2.0), 2 * X)
    assert all(np.isscalar(part) or isinstance(part, tuple) for key in rules_of(op).compiled for part in key)


# ---------------------------------------------------------------------------------------------------- keys and their number
@pytest.mark.parametrize("value", [[1], {"a": 1}, np.ones(2)], ids=["list", "dict", "array"])
def test_params_that_are_not_hashable_are_refused(value):
    op = power_of()
    for call in (op, jax.jit(lambda x, n: op(x, n=value), static_argnames="n")):
        with pytest.raises(BadCall, match="'n' is not hashable"):
            call(X, n=value if call is op else 0)


def test_params_that_never_repeat_do_not_grow_for_ever(monkeypatch, kernel):
    monkeypatch.setattr("jaxprim._eager.MOST_COMPILED", 10)
    op = power_of()
    for n in range(30):
        np.testing.assert_allclose(op(X, n=n, m=n), X + n)
        np.testing.assert_allclose(jax.jit(lambda x, n=n: op(x, 1.0, n=n))(X), X)
        np.testing.assert_allclose(kernel(X, a=n), n * X)
        assert len(rules_of(op).compiled) <= 10
        assert len(kernel._calls._table) <= 10
    np.testing.assert_allclose(op(X, n=0, m=0), X)


def test_a_kernel_s_attribute_may_be_an_array_of_one_number(kernel):
    for value in (3, 3.0, np.float32(3), np.array(3.0), jnp.float32(3)):
        np.testing.assert_allclose(kernel(X, a=value), 3 * X)
    with pytest.raises(BadCall, match="attribute 'a' has a value that does not fit"):
        kernel(X, a=np.ones(2))
    with pytest.raises(BadCall, match="attribute 'a' is a traced value"):
        jax.jit(lambda a: kernel(X, a=a))(1.0)


def test_keys_are_of_one_kind(kernel):
    op = power_of()
    op(X), op(X, 2.0), op(X, n=2), op(X, y=2.0, m=3), kernel(X, a=3.0)
    for table in (rules_of(op).compiled, kernel._calls._table):
        for count, *params in table:
            assert type(count) is int
            assert all(isinstance(name, str) for name, _ in params)


# ------------------------------------------------------------------------------------------------------------- redefinition
def test_a_rule_that_is_replaced_empties_the_table():
    op = power_of()
    op(X), op(X, n=2)
    op.def_impl(lambda x, y=1.0, *, n=1: 10 * x * n)
    assert not rules_of(op).compiled
    np.testing.assert_allclose(op(X), 10 * X)
    np.testing.assert_allclose(op(X, n=2), 20 * X)


def test_a_call_that_redefines_its_own_operation():
    op = Primitive("op")

    @op.def_impl
    def _(x):
        op.def_impl(lambda x: 3 * x)
        return 2 * x

    op(X)
    np.testing.assert_allclose(op(X), 3 * X)


# ------------------------------------------------------------------------------------------------------ settings and errors
def test_debug_nans_and_disable_jit(kernel):
    log = Primitive("log")
    log.def_impl(lambda x: jnp.log(x))
    assert np.isnan(log(-1.0))
    with jax.debug_nans(True), pytest.raises(FloatingPointError):
        log(-1.0)
    with jax.disable_jit():
        np.testing.assert_allclose(log(X), jnp.log(X))
        np.testing.assert_allclose(kernel(X), 2 * X)


def test_an_error_at_run_time_is_jax_s_own_each_time(kernel_cache):
    kernel = kernels.cpp(
        'void fails(const float* x, int64_t n, float* y) { if (x[0] > 1) throw std::runtime_error("no"); y[0] = x[0]; }',
        "fails(x: f32[n]) -> f32[n]",
    )
    op = Primitive("op")
    op.def_impl(kernel)
    for fn in (kernel, op):
        fn(X[:1])
        for _ in range(3):
            with pytest.raises(jax.errors.JaxRuntimeError, match="no"):
                jax.block_until_ready(fn(2 * X[:1]))


def test_what_is_not_an_array_is_named(kernel):
    op = power_of()
    op(X)
    with pytest.raises(BadCall, match="power: operand 'x'"):
        op("text")
    kernel(X)
    with pytest.raises(BadCall, match="axpb: operand 'x'"):
        kernel("text")


def test_an_error_that_the_call_is_not_to_blame_for_is_left_alone():
    def run(_):
        raise TypeError("mine")

    blamed = []
    calls = EagerCalls(
        {},
        bind=lambda args, kwargs: (args, dict(kwargs)),
        apply=lambda operands, params: None,
        compiled=lambda params: run,
        explain=lambda args, kwargs: blamed.append(args),
    )
    with pytest.raises(TypeError, match="mine"):
        calls.call((1,), {})
    assert blamed == [(1,)]


# ------------------------------------------------------------------------------------------------------- threads and memory
def test_a_host_function_runs_at_once_in_this_thread():
    met = []
    op = Primitive("op")
    op.def_host(lambda x, *, n=1: met.append(threading.get_ident()) or n * x)
    op.def_abstract_eval(lambda x, *, n=1: x)
    for call in (lambda: op(X), lambda: op(X, n=1), lambda: op(x=X)):
        np.testing.assert_allclose(call(), X)
    assert met == [threading.get_ident()] * 3


def test_many_threads_with_many_params(monkeypatch):
    monkeypatch.setattr("jaxprim._eager.MOST_COMPILED", 8)
    op, wrong, start = power_of(), [], threading.Barrier(4)

    def work():
        start.wait()
        try:
            for n in range(12):
                np.testing.assert_allclose(op(X, n=n, m=n), X + n)
        except BaseException as error:  # noqa: BLE001 an error in a thread must fail the test
            wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_primitive_with_entries_can_be_dropped():
    def make():
        op = power_of()
        for call in (op, lambda x: op(x, n=2), lambda x: op(x, y=2.0), jax.jit(lambda x: op(x, 2.0, n=3))):
            call(X)
        return weakref.ref(rules_of(op))

    dropped = make()
    jax.clear_caches()
    gc.collect()
    assert dropped() is None
