"""Faults that show only in nests are found and reduced; right operations agree with their references in nests."""

from __future__ import annotations

import ctypes
import ctypes.util
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo

import jaxprim
from jaxprim import BadCall, CheckFailed, Primitive, from_numpy, fuzzing, kernels
from jaxprim.fuzzing.layers import parse

X, A = jnp.array([0.7, 0.9]), jnp.float32(1.3)


def wave(**rules) -> Primitive:
    op = Primitive("wave")
    op.def_impl(lambda x, a: a * jnp.sin(x))
    for name, rule in rules.items():
        getattr(op, f"def_{name}")(rule(op))
    return op


def frozen_slope(op):
    """A pullback that is right, and whose own derivative is not."""
    slope = lambda x: jax.lax.stop_gradient(jnp.cos(x))
    return lambda primals: (
        op(*primals),
        lambda ct: (primals[1] * slope(primals[0]) * ct, jnp.sum(jnp.sin(primals[0]) * ct)),
    )


def first_of_the_batch(op):
    """A batching rule that uses the first element's second operand for all."""

    def rule(axis, args, dims):
        x = args[0] if dims[0] is not None else jnp.stack([args[0]] * axis.size)
        return op(jnp.moveaxis(x, dims[0] or 0, 0), args[1] if dims[1] is None else args[1][0]), 0

    return rule


def test_a_fault_is_found_and_made_small():
    found = fuzzing.report(wave(batching=first_of_the_batch), X, A, examples=30, seed=2, depth=2)
    assert not found.ok
    assert [name for name, _ in found.failure.nest] == ["vmap"]


def test_fuzz_raises_with_the_text_of_the_report():
    op = wave(vjp=frozen_slope)
    with pytest.raises(CheckFailed) as error:
        jaxprim.fuzz(op, X, A, nest="grad grad")
    assert str(error.value) == fuzzing.report(op, X, A, nest="grad grad").text()
    assert jaxprim.fuzz(op, X, A, nest="grad").ok


def test_fuzz_raises_if_nothing_was_compared():
    with pytest.raises(CheckFailed) as error:
        jaxprim.fuzz(wave(), X, A, nest="grad while_loop")
    head, reason = str(error.value).splitlines()[:2]
    assert head == "wave: 0 nests agree, 1 cannot be run (seed 0)"
    assert reason.startswith("  1 x the reference raises: Reverse-mode differentiation does not work")


def test_fuzz_takes_what_its_report_takes():
    assert inspect.signature(jaxprim.fuzz) == inspect.signature(fuzzing.report)


def test_a_failure_is_seen_again_by_its_nest():
    op = wave(vjp=frozen_slope)
    found = fuzzing.report(op, X, A, nest="grad grad")
    assert found.text() == (
        "wave: 0 nests agree, 0 cannot be run (seed 0)\n"
        "fail: wave in the nest: grad grad\n"
        "  at:        x=float32[2], a=float32[]\n"
        f"  wrong:     {found.failure.what}\n"
        '  again:     jaxprim.fuzz(wave, ..., nest="grad grad")'
    )
    assert "at result[0][0] (2 of 2 elements are off): got " in found.failure.what
    assert fuzzing.report(op, X, A, nest="grad").ok


@pytest.mark.parametrize(
    ("error", "head"),
    [(ValueError("one element only"), "ValueError: one element only"), (AssertionError(), "AssertionError")],
)
def test_an_exception_is_a_failure_that_says_where_it_was_raised(error, head):
    def raises(op):
        def rule(primals):
            if primals[0].ndim:
                raise error
            return op(*primals), lambda ct: (ct, ct)

        return rule

    found = fuzzing.report(wave(vjp=raises), X, A, nest="vjp")
    first, second = found.failure.what.splitlines()
    assert first == head
    assert second.startswith("raised at ")
    assert second.endswith(", in rule")
    assert "test_fuzz.py:" in second


def test_types_are_compared():
    op = Primitive("narrow")
    op.def_host(lambda x: np.sin(x, dtype=np.float32))
    op.def_abstract_eval(lambda x: jax.ShapeDtypeStruct(x.shape, "float32"))
    with jax.enable_x64(True):
        found = fuzzing.report(op, jnp.asarray(X, "float64"), reference=jnp.sin, nest="jit")
    assert found.failure.what == "types float32[2], expected float64[2]"


def test_what_jax_refuses_of_the_reference_is_no_failure():
    found = fuzzing.report(wave(), X, A, nest="grad while_loop")
    assert (found.ok, found.failure, found.compared) == (False, None, 0)
    (reason,) = found.refused
    assert reason.startswith("the reference raises: Reverse-mode differentiation does not work for lax.while_loop")


def test_a_rule_that_is_missing_is_no_failure():
    op = Primitive("opaque")
    op.def_host(np.sin)
    op.def_abstract_eval(lambda x: x)
    found = fuzzing.report(op, X, reference=jnp.sin, nest="grad")
    assert found.failure is None
    assert "opaque: reverse-mode differentiation (vjp, grad) needs a rule that is missing" in str(found.refused)


def test_the_same_seed_draws_the_same_nests():
    one, same, other = (fuzzing.report(wave(), X, A, examples=4, depth=1, seed=seed) for seed in (3, 3, 4))
    assert one.layers == same.layers
    assert one.layers != other.layers


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: jaxprim.fuzz(jnp.sin, X), "there is nothing to compare it with"),
        (lambda: jaxprim.fuzz(wave(), X, A, nest="gard"), "'gard' is not a layer"),
        (lambda: jaxprim.fuzz(jnp.abs, jnp.arange(3), reference=jnp.abs), "no nest can be built around it"),
        (lambda: jaxprim.fuzz(wave()), "no example to check it on"),
        (lambda: jaxprim.fuzz(surrogate(), X), "no reference has the same derivative"),
        (lambda: jaxprim.fuzz(around(a_callback), X), r"an impl that is no JAX \(pure_callback\)"),
        (
            lambda: jaxprim.fuzz(around(kernels.c_function(SIN, "sinf(x: f32) -> f32")), X[0]),
            r"\(kernel_call\)",
        ),
        (lambda: jaxprim.fuzz(around(from_numpy(np.sin, name="sin")), X), r"\(host_call\)"),
    ],
)
def test_what_cannot_be_fuzzed(call, message):
    with pytest.raises(BadCall, match=message):
        call()


SIN = ctypes.CDLL(ctypes.util.find_library("m")).sinf


def around(implementation) -> Primitive:
    op = Primitive("op")
    op.def_impl(lambda x: 2.0 * implementation(x))
    return op


def a_callback(x):
    return jax.pure_callback(lambda x: x, x, x)


def surrogate() -> Primitive:
    op = Primitive("rounded")
    op.def_impl(jnp.round)
    op.def_vjp(lambda primals: (op(*primals), lambda ct: ct), surrogate="straight-through")
    return op


# Nests that once took thought; a random run is `python benchmarks/fuzz_zoo.py`.
NESTS = (
    "grad:1 scan:1 vmap:2",
    "checkpoint:1 grad vmap:3 jit",
    "jacobian:1 cond vjp:1",
    "custom_vjp grad chain",
    "linear_transpose lax_map jvp:1",
)


@pytest.mark.parametrize("nest", NESTS)
@pytest.mark.parametrize("entry", [e for e in zoo.ZOO if e.name in ("wave_both", "layer")], ids=repr)
def test_the_zoo_survives(entry, nest):
    found = fuzzing.report(entry.f, *entry.args(), reference=entry.reference, nest=nest)
    assert found.failure is None, found.text()
    assert found.ok or "complex" in str(found.refused), found.refused
    assert parse(nest)


def test_an_operation_with_a_float32_constant_is_compared_in_float32():
    shift = np.float32(np.pi / 2)
    assert fuzzing.report(lambda x: jnp.cos(x - shift), X, reference=jnp.sin, nest="grad vmap").ok
    assert not fuzzing.report(lambda x: 1.0001 * jnp.cos(x - shift), X, reference=jnp.sin, nest="jit").ok


def test_a_reference_with_other_results_differs():
    found = fuzzing.report(lambda x: (x, x), X, reference=lambda x: x, nest="jit")
    assert found.failure.what == "types float32[2], float32[2], expected float32[2]"
