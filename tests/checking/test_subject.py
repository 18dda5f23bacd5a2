from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim import BadCall, Primitive
from jaxprim.checking.subject import NoExamples, Subject, refusal

X = jnp.ones(3)


def scale(x, factor=2.0, *more):
    return x * factor


def primitive():
    made = Primitive("scale")
    made.def_impl(lambda x, factor, *, power=1: x * factor**power)
    return made


def test_a_function_is_named_and_so_are_its_operands():
    subject = Subject.of(scale)
    assert subject.name == "scale"
    assert subject.operand_names((X, 1.0, 2.0), {}) == ("x", "factor", "more[0]")
    assert Subject.of(functools.partial(scale, factor=3.0)).name == "partial"
    assert Subject.of(np.sin).operand_names((X,), {}) in (("x",), ("operand0",), ("args[0]",))


def test_a_primitive_splits_its_call():
    operands, params = Subject.of(primitive()).split((X,), {"factor": 2.0})
    assert operands == (X, 2.0)
    assert params == {"power": 1}
    with pytest.raises(BadCall):
        Subject.of(primitive()).split((X,), {})


def test_rules():
    made = primitive()
    made.def_vjp(surrogate="why")(lambda primals: (made(*primals), lambda y_bar: (y_bar, None)))
    subject = Subject.of(made)
    assert subject.gave("vjp")
    assert not subject.gave("jvp")
    assert subject.surrogate == "why"
    assert subject.departs("vjp")
    assert subject.departs("jvp")  # it is derived from the surrogate
    assert Subject.of(scale).rule("vjp") is None
    assert not Subject.of(scale).departs("vjp")


def test_a_missing_rule_says_why():
    host = Primitive("host")
    host.def_host(lambda x: x)
    assert Subject.of(host).missing("jvp").startswith("no JVP rule: ")
    assert Subject.of(primitive()).missing("jvp") is None
    assert Subject.of(scale).missing("jvp") is None


def test_without_examples_it_says_what_to_write():
    with pytest.raises(NoExamples) as error:
        Subject.of(primitive()).examples()
    assert str(error.value) == (
        "scale: no example to check it on.\n"
        "  got:      no operands, and no def_examples\n"
        "  expected: at least one example of its operands\n"
        "  write:    @scale.def_examples\n"
        "            def _():\n"
        "                return [(x, ...)]  # each entry: the operands, or Example(operands, params)"
    )
    with pytest.raises(NoExamples, match=r"jaxprim\.check\(scale, x, \.\.\.\)"):
        Subject.of(scale).examples()


def error_of(run):
    with pytest.raises(Exception) as error:
        run()
    return error.value


@jax.custom_vjp
def reverse_only(x):
    return x


reverse_only.defvjp(lambda x: (x, None), lambda _, y_bar: (y_bar,))


def callback(x):
    return jax.pure_callback(lambda x: x, jax.ShapeDtypeStruct((3,), jnp.float32), x)


A = jnp.array([[0.5, 1.0], [-2.0, 0.3]])


def loop(x):
    return jax.lax.while_loop(lambda s: s[1] < 3, lambda s: (s[0] * 2, s[1] + 1), (x, 0))[0]


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(lambda: jax.jvp(reverse_only, (X,), (X,)), id="jvp of custom_vjp"),
        pytest.param(lambda: jax.jvp(callback, (X,), (X,)), id="jvp of a callback"),
        pytest.param(lambda: jax.vjp(callback, X), id="vjp of a callback"),
        pytest.param(lambda: jax.vjp(loop, X)[1](X), id="vjp of a while loop"),
        pytest.param(lambda: jax.grad(lambda a: jax.scipy.special.betainc(a, 2.0, 0.3))(1.5), id="betainc"),
        pytest.param(lambda: jax.hessian(lambda a: jnp.linalg.eigvals(a).real.sum())(A), id="eigenvectors"),
    ],
)
def test_what_jax_cannot_differentiate_is_a_refusal(run):
    assert refusal(error_of(run)).startswith("JAX has no such rule for it: ")


def test_an_author_s_mistake_is_no_refusal():
    assert refusal(ValueError("matmul: shapes do not fit")) is None
    assert refusal(KeyError("callbacks do not support JVP")) is None
    assert refusal(RuntimeError("cannot be autodifferentiated")) is not None
